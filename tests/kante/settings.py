"""The example's models in a project of Kante and authentikate: its accounts, its signed tokens, its provenance."""

from joserfc.jwk import OKPKey

from example_schema import settings as example
from example_schema.settings import *  # noqa: F403

ISSUER, TASKS, SERVICE = "https://lok.example", "https://rekuest.example", "example"
#: The keys that the issuers of accounts and of tasks sign with.
ACCOUNT_KEY = OKPKey.generate_key("Ed25519", parameters={"kid": "accounts"})
TASK_KEY = OKPKey.generate_key("Ed25519", parameters={"kid": "tasks"})


def _published(key: OKPKey) -> dict[str, object]:
    return {"keys": [key.as_dict(private=False)]}


INSTALLED_APPS = [*example.INSTALLED_APPS, "kante", "authentikate"]
# The notebook's models belong to no organization, which Kante wants to be told.
KANTE_REFERENCE_QUERYSET = "tests.kante.schema.for_everybody"
# Where Kante puts its routes.
MY_SCRIPT_NAME = ""
AUTH_USER_MODEL = "authentikate.User"
AUTHENTIKATE = {
    "ISSUERS": [{"kind": "jwks_dict", "iss": ISSUER, "jwks": _published(ACCOUNT_KEY)}],
    "AUDIENCE": SERVICE,
    "PROVENANCE": {
        "ISSUERS": [{"kind": "jwks_dict", "iss": TASKS, "jwks": _published(TASK_KEY)}],
        "AUDIENCE": SERVICE,
    },
}
KOHERENT = {"TRACK": {"root_task": "tests.kante.trackers.root_task"}}
