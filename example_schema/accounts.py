"""The example's accounts. Their passwords are good for a laptop, and for nothing else."""

# Name -> the actions on the notebook's models that the account may take. All of them may read the trail.
ACCOUNTS: dict[str, tuple[str, ...]] = {
    "curator": ("view", "add", "change", "delete"),
    "importer": ("view", "add", "change"),
    "viewer": ("view",),
}
SUPERUSER = "admin"


def password_of(username: str) -> str:
    """The password of an example account."""
    return f"{username}-password"
