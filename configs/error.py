"""How a bad config value is refused."""

from __future__ import annotations


class ConfigError(ValueError):
    """A config value that cannot be used. The message names the field, the value and the remedy."""


def require(condition: bool, name: str, value: object, remedy: str) -> None:
    if not condition:
        raise ConfigError(f"{name} = {value!r}: {remedy}")
