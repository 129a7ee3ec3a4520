"""No views: the tests of this project write and read through Django."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
