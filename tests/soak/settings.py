"""The example's settings for a soak: three hundred streams of four accounts are no mistake here."""

from example_schema.settings import *  # noqa: F403

KOHERENT = {"SUBSCRIPTION_LIMIT": 10_000}
