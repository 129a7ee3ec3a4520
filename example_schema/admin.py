"""The notebook in Django's admin: what is changed there is audited too."""

from django.contrib import admin
from simple_history.admin import SimpleHistoryAdmin

from example_schema.models import Dataset, Image, Project, Tag

admin.site.site_header = "Laboratory notebook"


@admin.register(Project, Tag)
class NamedAdmin(SimpleHistoryAdmin):
    list_display = ("name",)
    search_fields = ("name",)


@admin.register(Dataset)
class DatasetAdmin(SimpleHistoryAdmin):
    list_display = ("title", "project", "status", "updated_at")
    list_filter = ("status", "project")
    search_fields = ("title",)


@admin.register(Image)
class ImageAdmin(SimpleHistoryAdmin):
    list_display = ("name", "dataset", "width", "height")
    list_select_related = ("dataset",)
    search_fields = ("name",)
