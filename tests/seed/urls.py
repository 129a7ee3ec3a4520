"""Both of strawberry-django's views, on the snippet's schema."""

from app.schema import schema
from django.urls import path
from strawberry.django.views import AsyncGraphQLView, GraphQLView

urlpatterns = [
    path("graphql/sync", GraphQLView.as_view(schema=schema)),
    path("graphql/async", AsyncGraphQLView.as_view(schema=schema)),
]
