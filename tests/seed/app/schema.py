import strawberry
import strawberry_django
from app import models

from koherent.strawberry.extension import KoherentExtension


@strawberry_django.type(models.MyModel)
class MyModel:
    id: strawberry.ID
    your_field: str


@strawberry.type
class Query:
    @strawberry_django.field
    def create_model(self, info: strawberry.Info, your_field: str) -> MyModel:
        model = models.MyModel.objects.create(your_field=your_field)
        # This will create a new history entry (by sending a signal)
        # bound to the current user and the assignation id

        return model

    @strawberry_django.field
    def update_model(self, info: strawberry.Info, id: strawberry.ID, your_field: str) -> MyModel:
        model = models.MyModel.objects.get(id=id)
        model.your_field = your_field
        model.save()
        # This will create a new history entry (by sending a signal)
        # bound to the current user and the assignation id

        return model


schema = strawberry.Schema(query=Query, extensions=[KoherentExtension])
