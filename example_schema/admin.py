"""The notebook in Django's admin: what is changed there is audited too, shown and undone."""

from django.contrib import admin

from example_schema.models import Dataset, Image, Project, Tag
from koherent.admin import KoherentAdmin

admin.site.site_header = "Laboratory notebook"


@admin.register(Project, Tag)
class NamedAdmin(KoherentAdmin):
    list_display = ("name",)
    search_fields = ("name",)


@admin.register(Dataset)
class DatasetAdmin(KoherentAdmin):
    list_display = ("title", "project", "status", "updated_at")
    list_filter = ("status", "project")
    search_fields = ("title",)


@admin.register(Image)
class ImageAdmin(KoherentAdmin):
    list_display = ("name", "dataset", "width", "height")
    list_select_related = ("dataset",)
    search_fields = ("name",)
