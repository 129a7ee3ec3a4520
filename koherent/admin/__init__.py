"""The trail in Django's admin: ``KoherentAdmin`` for your models, and a page for each assignation.

Django's autodiscovery imports this module, which gives the default site its pages of assignations. A site of your own
gets them with ``site.register(Assignation, AssignationAdmin)``.
"""

from django.contrib import admin

from koherent.admin.assignations import AssignationAdmin
from koherent.admin.objects import KoherentAdmin
from koherent.models import Assignation

__all__ = ["AssignationAdmin", "KoherentAdmin"]

admin.site.register(Assignation, AssignationAdmin)
