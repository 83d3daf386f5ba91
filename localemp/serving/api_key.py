"""The keys of a server of `localemp serve`, in the environment, for the server and its clients."""

import os

KEY_VARIABLE = "LOCALEMP_API_KEY"
"""The variable: a server's keys, separated by commas. A client sends the first."""


def keys_here() -> list[str]:
    """Return all keys in the environment."""
    return [key.strip() for key in os.environ.get(KEY_VARIABLE, "").split(",") if key.strip()]


def key_to_send() -> str:
    """Return the key that a client sends; empty if there is none."""
    return next(iter(keys_here()), "")
