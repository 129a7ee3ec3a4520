"""The ASGI application: GraphQL over HTTP and WebSocket at ``/graphql``, everything else is Django's."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_schema.settings")
django_application = get_asgi_application()

# What follows needs Django's apps, which the call above has loaded.
from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402

from example_schema.schema import schema  # noqa: E402
from koherent.graphql import GraphQLProtocolTypeRouter  # noqa: E402

router = GraphQLProtocolTypeRouter(schema, django_application=django_application, url_pattern="^graphql/?$")
# A browser sends the session's cookie with a socket that any page opens: only our own pages may.
router.application_mapping["websocket"] = AllowedHostsOriginValidator(router.application_mapping["websocket"])
# The session's user reaches GraphQL on both transports; Django's own views have their middleware.
application = AuthMiddlewareStack(router)
