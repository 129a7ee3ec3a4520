"""One model for each group of arguments that ``HistoryField`` takes over from django-simple-history."""

import contextvars
from typing import Any

import django
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models
from simple_history.manager import HistoricalQuerySet, HistoryManager

from koherent.fields import HistoryField
from koherent.models import HistoryEntryModel

tenant = contextvars.ContextVar("tenant", default="nobody's")


def current_tenant() -> str:
    """A callable default, as teams use to fill columns of their own."""
    return tenant.get()


class Named(models.Model):
    """Names of all kinds, fields of its own for key and reason, and a way back from the object to its entries."""

    name = models.CharField(max_length=100, db_index=True)
    history = HistoryField(
        verbose_name="trail of names",
        verbose_name_plural="trails of names",
        table_name="trail_of_names",
        custom_model_name=lambda name: f"{name}Trail",
        user_related_name="named_entries",
        related_name="entries",
        no_db_index="name",
        history_id_field=models.AutoField(),
        history_change_reason_field=models.CharField(max_length=200, null=True),
        label="name",
    )

    def __str__(self) -> str:
        return self.name


class TenantBase(HistoryEntryModel):
    """A base with columns of the team's own, filled by their defaults."""

    tenant = models.CharField(max_length=50, default=current_tenant)
    checked = models.BooleanField(default=False)
    remark = models.TextField(null=True)

    class Meta:
        abstract = True


class TenantLinkBase(models.Model):
    """The same for the rows of many-to-many links."""

    tenant = models.CharField(max_length=50, default=current_tenant)

    class Meta:
        abstract = True


class TrailQuerySet(HistoricalQuerySet):  # type: ignore[misc]  # django-simple-history ships no types
    """A historical queryset with a method of its own."""

    def deletions(self) -> Any:
        """The entries of deletions."""
        return self.filter(history_type="-")


class TrailManager(HistoryManager):  # type: ignore[misc]
    """A history manager with a method of its own."""

    def by_app(self, app: str) -> Any:
        """The entries that one app caused."""
        return self.filter(app=app)


class Based(models.Model):
    """Bases, manager and queryset of its own for entries and links; its many-to-many is named by a text."""

    name = models.CharField(max_length=100)
    units = models.ManyToManyField("wide.Unit", blank=True)
    untracked = models.ManyToManyField("wide.Unit", related_name="+", blank=True)
    history = HistoryField(
        bases=(TenantBase,),
        m2m_fields=["units"],
        m2m_bases=(TenantLinkBase,),
        history_manager=TrailManager,
        historical_queryset=TrailQuerySet,
        label="name",
    )

    def __str__(self) -> str:
        return self.name


class Operator(AbstractBaseUser):
    """Another model of accounts than the project's."""

    name = models.CharField(max_length=50, unique=True)
    objects = BaseUserManager["Operator"]()
    USERNAME_FIELD = "name"


def operator_on_duty(instance: Any = None, request: Any = None, **_: Any) -> Operator | None:
    """Who acted, when nobody is named: the operator on duty."""
    return Operator.objects.filter(name="on duty").first()


class Operated(models.Model):
    """Entries refer to another model of accounts, and a function of the team's own finds the account."""

    name = models.CharField(max_length=100)
    history = HistoryField(user_model=Operator, get_user=operator_on_duty, label="name")

    def __str__(self) -> str:
        return self.name


def _operator_of(entry: Any) -> Operator | None:
    return Operator.objects.filter(pk=entry.history_user_id).first()


def _set_operator(entry: Any, user: Any) -> None:
    entry.history_user_id = None if user is None else user.pk


class Numbered(models.Model):
    """The account as a plain number."""

    name = models.CharField(max_length=100)
    history = HistoryField(
        history_user_id_field=models.BigIntegerField(null=True),
        history_user_getter=_operator_of,
        history_user_setter=_set_operator,
        label="name",
    )

    def __str__(self) -> str:
        return self.name


class Hosted(models.Model):
    """Its history belongs to another app."""

    name = models.CharField(max_length=100)
    history = HistoryField(app="auth", user_db_constraint=True, label="name")

    def __str__(self) -> str:
        return self.name


class RemarkedKey(models.OneToOneField):  # type: ignore[type-arg]
    """A one-to-one field with an argument that no foreign key knows."""

    def __init__(self, *args: Any, remark: str = "", **kwargs: Any) -> None:
        self.remark = remark
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        """With that argument."""
        name, path, args, kwargs = super().deconstruct()
        return name, path, args, {**kwargs, "remark": self.remark}


class Remarked(models.Model):
    """A field whose copy in the history must do without one of its arguments."""

    named = RemarkedKey(Named, on_delete=models.CASCADE, remark="the only one")
    history = HistoryField(excluded_field_kwargs={"named": {"remark"}})

    def __str__(self) -> str:
        return f"about {self.named}"


class Plan(models.Model):
    """The field is inherited by children, of which the proxy shares the row."""

    name = models.CharField(max_length=100)
    history = HistoryField(inherit=True, label="name")

    def __str__(self) -> str:
        return self.name


class PlanView(Plan):
    """A proxy: no history of its own, whatever ``inherit`` says."""

    class Meta:
        proxy = True


class BigPlan(Plan):
    """A multi-table child with an inherited field: a table, and a history, of its own."""

    size = models.IntegerField(default=0)


class AbstractLinked(models.Model):
    """Each child says for itself which many-to-many fields are tracked."""

    name = models.CharField(max_length=100)
    history = HistoryField(inherit=True, m2m_fields_model_field_name="tracked_links", label="name")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name


class Linked(AbstractLinked):
    """One that tracks one."""

    units = models.ManyToManyField("wide.Unit", related_name="+", blank=True)
    tracked_links = (units,)


class Roaming(models.Model):
    """Has a table in both databases; each row's history is where the row is."""

    name = models.CharField(max_length=100)
    history = HistoryField(use_base_model_db=True, label="name")

    def __str__(self) -> str:
        return self.name


class Bare(models.Model):
    """A many-to-many through a model that is named before it exists, without its app."""

    name = models.CharField(max_length=100)
    units = models.ManyToManyField("wide.Unit", through="BareLink", related_name="+", blank=True)
    history = HistoryField(m2m_fields=[units], label="name")

    def __str__(self) -> str:
        return self.name


class BareLink(models.Model):
    """The rows of that many-to-many."""

    bare = models.ForeignKey(Bare, on_delete=models.CASCADE)
    unit = models.ForeignKey("wide.Unit", on_delete=models.CASCADE)
    note = models.CharField(max_length=20, default="")

    def __str__(self) -> str:
        return self.note


class Kept(models.Model):
    """A save that changes nothing leaves an entry all the same."""

    name = models.CharField(max_length=100)
    history = HistoryField(record_unchanged=True, label="name")

    def __str__(self) -> str:
        return self.name


if django.VERSION >= (6, 1):

    class DatabaseCascade(models.Model):
        """Deleted by the database itself, where Django has no hook: the verifier stands in."""

        unit = models.ForeignKey("wide.Unit", on_delete=models.DB_CASCADE, related_name="+")
        history = HistoryField()

        def __str__(self) -> str:
            return f"of {self.unit}"

    class DatabaseSetNull(models.Model):
        """Changed by the database itself."""

        unit = models.ForeignKey("wide.Unit", on_delete=models.DB_SET_NULL, null=True, related_name="+")
        history = HistoryField()

        def __str__(self) -> str:
            return f"of {self.unit}"
