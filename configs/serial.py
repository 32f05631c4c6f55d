"""Dataclasses from plain JSON data, checked field by field."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from configs.error import ConfigError


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every setting of a config or of a branch of one."""
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{name}.")
        else:
            yield name, value


def words_of(settings: Mapping[str, Any]) -> list[str]:
    """The words of a command line that sets these fields, by dotted name."""
    words: list[str] = []
    for name, value in settings.items():
        branch, dot, last = name.rpartition(".")
        branch, last = branch.replace("_", "-"), last.strip("_").replace("_", "-") + "_" * last.endswith("_")
        if isinstance(value, bool):
            words.append(f"--{branch}{dot}{'' if value else 'no-'}{last}")
        else:
            words += [f"--{branch}{dot}{last}", str(value)]
    return words


def build(cls: type[Any], data: object, path: str) -> Any:
    """Builds the dataclass `cls` from plain JSON data, checking each field's name and type."""
    if not isinstance(data, dict):
        raise ConfigError(f"{path} = {data!r}: expected an object with the fields of {cls.__name__}")
    hints = get_type_hints(cls)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise ConfigError(
            f"{path}: unknown field {unknown[0]!r}; {cls.__name__} has {', '.join(sorted(hints))}"
        )
    values = {name: _coerce(hints[name], value, f"{path}.{name}") for name, value in data.items()}
    missing = [
        f.name
        for f in dataclasses.fields(cls)
        if f.name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{path}: field {missing[0]!r} is missing")
    return cls(**values)


def _coerce(hint: Any, value: object, path: str) -> object:
    if dataclasses.is_dataclass(hint):
        return build(typing.cast("type[Any]", hint), value, path)
    options = (hint,) if get_origin(hint) is Literal else get_args(hint) or (hint,)
    words = [word for option in options if get_origin(option) is Literal for word in get_args(option)]
    allowed = tuple(option for option in options if get_origin(option) is not Literal)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if int not in allowed else value
    if words and type(value) not in allowed:
        if value not in words:
            choices = [*map(repr, words), *(a.__name__ for a in allowed if a is float)]
            raise ConfigError(f"{path} = {value!r}: choose one of {', '.join(choices)}")
        return value
    if not any(type(value) is option for option in allowed):
        names = " or ".join(getattr(o, "__name__", str(o)) for o in allowed)
        raise ConfigError(f"{path} = {value!r}: expected {names}")
    return value
