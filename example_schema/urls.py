"""What Django itself serves; ``/graphql`` belongs to the ASGI application, see ``asgi.py``."""

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import URLPattern, URLResolver, path

urlpatterns: list[URLPattern | URLResolver] = [path("admin/", admin.site.urls), *staticfiles_urlpatterns()]
