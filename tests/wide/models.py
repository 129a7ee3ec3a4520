"""Models of every kind that recording and reverting must handle; each says what it is here for."""

import uuid
from typing import Any, ClassVar

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db import connection, models
from django.db.models.functions import Lower
from simple_history.models import HistoricalRecords

from koherent.fields import GenericRelation, HistoryField


class Reagent(models.Model):
    """A UUID key with a default, so that ``_state.adding`` and the key say different things."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100)
    amount = models.IntegerField(default=0)
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


class Unit(models.Model):
    """A natural text key: an object is known by the code that a person typed."""

    code = models.CharField(primary_key=True, max_length=20)
    name = models.CharField(max_length=100)
    amount = models.IntegerField(default=0)
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


class Instrument(models.Model):
    """An integer key and a field of every type; a tracked many-to-many to a model with another kind of key."""

    class State(models.TextChoices):
        READY = "ready", "Ready"
        BROKEN = "broken", "Broken"

    code = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=100)
    amount = models.IntegerField(default=0)
    price = models.DecimalField(max_digits=12, decimal_places=4, null=True, blank=True)
    options = models.JSONField(default=dict, blank=True)
    warranty = models.DurationField(null=True, blank=True)
    bought_on = models.DateField(null=True, blank=True)
    serviced_at = models.DateTimeField(null=True, blank=True)
    manual = models.FileField(upload_to="manuals", null=True, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.READY)
    active = models.BooleanField(default=True)
    weight = models.FloatField(null=True, blank=True)
    pulses = models.BigIntegerField(default=2**53 + 1)
    firmware = models.BinaryField(default=b"\x00\xff")
    address = models.GenericIPAddressField(null=True, blank=True)
    checksum = models.CharField(max_length=40, default="", editable=False)
    cache = models.TextField(default="", blank=True)
    access_code = models.CharField(max_length=20, default="", blank=True)
    made_at = models.DateTimeField(auto_now_add=True)
    moved_at = models.DateTimeField(auto_now=True)
    reagents = models.ManyToManyField(Reagent, related_name="instruments", blank=True)
    comments = GenericRelation("wide.Comment", object_id_field="object_key")
    history = HistoryField(
        label="name", m2m_fields=[reagents], excluded_fields=["cache"], redacted_fields=("access_code",)
    )

    def __str__(self) -> str:
        return self.name


class Calibration(models.Model):
    """A foreign key as primary key."""

    instrument = models.OneToOneField(Instrument, on_delete=models.CASCADE, primary_key=True)
    name = models.CharField(max_length=100, default="")
    amount = models.IntegerField(default=0)
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


class Folder(models.Model):
    """A tree: a foreign key to itself, deleted from the top."""

    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True, blank=True, related_name="children")
    name = models.CharField(max_length=100)
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


def stand_in() -> str:
    """Whom ``Dependent.calling`` refers to once its target is gone."""
    return "stand-in"


class Dependent(models.Model):
    """One foreign key for each rule of ``on_delete``, named after its rule."""

    name = models.CharField(max_length=100)
    cascading = models.ForeignKey(Unit, on_delete=models.CASCADE, null=True, blank=True, related_name="cascaded")
    nulled = models.ForeignKey(Unit, on_delete=models.SET_NULL, null=True, blank=True, related_name="nulls")
    defaulting = models.ForeignKey(
        Unit, on_delete=models.SET_DEFAULT, default=None, null=True, blank=True, related_name="defaults"
    )
    falling_back = models.ForeignKey(
        Unit, on_delete=models.SET_DEFAULT, default="default", null=True, blank=True, related_name="fallbacks"
    )
    calling = models.ForeignKey(Unit, on_delete=models.SET(stand_in), null=True, blank=True, related_name="calls")
    protecting = models.ForeignKey(Unit, on_delete=models.PROTECT, null=True, blank=True, related_name="protected")
    restricting = models.ForeignKey(Unit, on_delete=models.RESTRICT, null=True, blank=True, related_name="restricted")
    dangling = models.ForeignKey(
        Unit, on_delete=models.DO_NOTHING, db_constraint=False, null=True, blank=True, related_name="dangled"
    )
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


class Team(models.Model):
    """The other side of a many-to-many through a model of its own."""

    name = models.CharField(max_length=100)
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A through model: ``role`` has to be given, ``since`` has a default. It is not tracked itself."""

    person = models.ForeignKey("Person", on_delete=models.CASCADE)
    team = models.ForeignKey(Team, on_delete=models.CASCADE)
    role = models.CharField(max_length=20)
    since = models.IntegerField(default=2026)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["person", "team"], name="one_membership_each")]

    def __str__(self) -> str:
        return f"{self.person} in {self.team}"


class Person(models.Model):
    """Many-to-many to itself, symmetrical and not, and through a model with fields of its own."""

    name = models.CharField(max_length=100)
    friends = models.ManyToManyField("self", blank=True)
    teachers = models.ManyToManyField("self", symmetrical=False, related_name="pupils", blank=True)
    teams = models.ManyToManyField(Team, through=Membership, related_name="people", blank=True)
    history = HistoryField(label="name", m2m_fields=[friends, teachers, teams])

    def __str__(self) -> str:
        return self.name


class Comment(models.Model):
    """The child of a generic relation; any model can be commented on."""

    content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE)
    object_key = models.CharField(max_length=40)
    target = GenericForeignKey("content_type", "object_key")
    text = models.CharField(max_length=100)
    history = HistoryField(label="text")

    def __str__(self) -> str:
        return self.text


class ArticleQuerySet(models.QuerySet[Any]):
    """A queryset with a method of its own that writes."""

    def publish(self) -> int:
        """Publish all of them."""
        return self.update(public=True)


class PublishedManager(models.Manager["Article"]):
    """Sees only what is public."""

    def get_queryset(self) -> models.QuerySet["Article"]:
        """The public ones."""
        return super().get_queryset().filter(public=True)

    def announce(self, name: str) -> "Article":
        """Make one that is public from the start."""
        return self.create(name=name, public=True)


class Article(models.Model):
    """Managers and a queryset of its own; the first manager is not the one that sees everything."""

    name = models.CharField(max_length=100)
    public = models.BooleanField(default=False)
    published = PublishedManager()
    objects: ClassVar[models.Manager[Any]] = ArticleQuerySet.as_manager()
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


class Headline(Article):
    """A proxy of a tracked model, with a manager that the model does not have."""

    lines = models.Manager["Headline"]()

    class Meta:
        proxy = True


class NoticeManager(models.Manager[Any]):
    """A manager that concrete models inherit from an abstract one."""

    def post(self, name: str) -> Any:
        """Make one."""
        return self.create(name=name)


class AbstractNotice(models.Model):
    """An abstract model brings the field and the manager: each concrete child has a history of its own."""

    name = models.CharField(max_length=100)
    notices = NoticeManager()
    history = HistoryField(label="name", inherit=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name


class Notice(AbstractNotice):
    """Inherits all of it."""


class Alarm(AbstractNotice):
    """Inherits all of it, too, and adds a field."""

    level = models.IntegerField(default=0)


class Vehicle(models.Model):
    """The parent table of a multi-table child."""

    name = models.CharField(max_length=100)
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


class Truck(Vehicle):
    """A multi-table child that is tracked itself; its history has the parent's columns, too."""

    load = models.IntegerField(default=0)
    history = HistoryField(label="name")


class Elsewhere(models.Model):
    """Lives, with its history, on the database ``other``, where the accounts are not."""

    name = models.CharField(max_length=100)
    amount = models.IntegerField(default=0)
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


class Sticker(models.Model):
    """Not tracked, and refers to a tracked model: it goes along in a cascade without a word."""

    instrument = models.ForeignKey(Instrument, on_delete=models.CASCADE)
    text = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.text


class Slip(models.Model):
    """Not tracked, and refers to a tracked model: it lets go when the object goes, without a word."""

    unit = models.ForeignKey(Unit, on_delete=models.SET_NULL, null=True, blank=True)
    text = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.text


class Neighbour(models.Model):
    """A plain django-simple-history model, with a tracked many-to-many: none of koherent's business."""

    name = models.CharField(max_length=100)
    units = models.ManyToManyField(Unit, blank=True)
    history = HistoricalRecords(m2m_fields=[units])

    def __str__(self) -> str:
        return self.name


class Chicken(models.Model):
    """Half of a cycle: neither can be deleted, nor brought back, without a look at the other."""

    name = models.CharField(max_length=100)
    egg = models.ForeignKey("Egg", on_delete=models.SET_NULL, null=True, blank=True, related_name="hens")
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


class Egg(models.Model):
    """The other half of the cycle."""

    name = models.CharField(max_length=100)
    chicken = models.ForeignKey(Chicken, on_delete=models.CASCADE, null=True, blank=True, related_name="eggs")
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


class Book(models.Model):
    """The owner of an order."""

    name = models.CharField(max_length=100)
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


class Chapter(models.Model):
    """Django keeps its place among its siblings in a column of its own."""

    book = models.ForeignKey(Book, on_delete=models.CASCADE)
    name = models.CharField(max_length=100)
    history = HistoryField(label="name")

    class Meta:
        order_with_respect_to = "book"

    def __str__(self) -> str:
        return self.name


class Locker(models.Model):
    """Everything that a database or a model can demand of values."""

    number = models.PositiveSmallIntegerField(unique=True)
    hall = models.CharField(max_length=1)
    place = models.IntegerField(validators=[MaxValueValidator(999, "Halls have %(limit_value)s places.")])
    label = models.CharField(max_length=50, default="", blank=True)
    badge = models.CharField(max_length=10, default="", blank=True)
    active = models.BooleanField(default=True)
    owner = models.OneToOneField(Person, on_delete=models.SET_NULL, null=True, blank=True)
    beside = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True)
    history = HistoryField(label="label")

    class Meta:
        unique_together = (("hall", "place"),)
        constraints = [
            models.CheckConstraint(condition=models.Q(place__gt=0), name="places_count_from_one"),
            models.UniqueConstraint(Lower("label"), condition=~models.Q(label=""), name="one_label_in_any_case"),
            models.UniqueConstraint(fields=["badge"], condition=models.Q(active=True), name="one_active_badge"),
        ]

    def __str__(self) -> str:
        return self.label

    def clean(self) -> None:
        """A locker beside another one is in the same hall."""
        if self.beside is not None and self.beside.hall != self.hall:
            raise ValidationError({"beside": "Beside a locker of another hall."})

    def save(self, *args: Any, **kwargs: Any) -> None:
        """A ``save()`` with a mind of its own, which nothing but a plain save may call."""
        self.label = self.label.strip()
        super().save(*args, **kwargs)


class Mark(models.Model):
    """What boxes are marked with."""

    name = models.CharField(max_length=20, unique=True)
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


class Shelf(models.Model):
    """A UUID key, a unique name and a reference to itself."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=20, unique=True)
    above = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True)
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


class Box(models.Model):
    """A required and a nullable reference to a shelf, a unique number, and marks."""

    code = models.IntegerField(unique=True)
    shelf = models.ForeignKey(Shelf, on_delete=models.CASCADE, related_name="boxes")
    spare = models.ForeignKey(Shelf, on_delete=models.SET_NULL, null=True, blank=True, related_name="spares")
    marks = models.ManyToManyField(Mark, blank=True)
    history = HistoryField(label="code", m2m_fields=[marks])

    def __str__(self) -> str:
        return f"{self.code}"


class Alias(models.Model):
    """A collation for which two spellings are one text, as a database may have them."""

    name = models.CharField(
        max_length=100,
        db_collation="NOCASE" if connection.vendor == "sqlite" else "caseless",
    )
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


# Django finds the models of an app in its ``models`` module.
from tests.wide.option_models import *  # noqa: E402, F403
