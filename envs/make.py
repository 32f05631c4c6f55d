"""The one door to every environment.

A suite is found by the prefix of the env id (envs/registry.py) and imported when it is asked for. Its module
offers

    known_ids(config) -> Collection[str]        the ids it can make, for checks and suggestions
    make(config, first_stream) -> VecEnv        all slots of one actor
    levels_of(env_id) -> Sequence[str]          optional: the levels that a set of them stands for
    held_out(config) -> EnvConfig | None        optional: the levels that training must not see
    make_drawn(config) -> VecEnv | None         optional: one slot that is `Drawable`, where it can be
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util
from collections.abc import Collection, Iterator
from typing import Any, Protocol, cast

from configs.schema import EnvConfig
from envs.guard import close_env, makes_env
from envs.registry import SUITES, Suite, suite_of
from envs.spec import EnvError, EnvSpec, VecEnv


class _SuiteModule(Protocol):
    def known_ids(self, config: EnvConfig) -> Collection[str]: ...

    def make(self, config: EnvConfig, first_stream: int) -> VecEnv: ...


@makes_env
def make_vec(config: EnvConfig, *, first_stream: int = 0) -> VecEnv:
    """All `config.num_envs` slots of one actor; one slot where that is 0.

    They are the streams from `first_stream` on: it tells suites of several levels which of them each plays.
    Raises EnvError for an unknown id, a missing package, a setting without effect, or spaces that a policy
    cannot use.
    """
    config = dataclasses.replace(config, num_envs=config.num_envs or 1)
    check_env(config)
    return _load(suite_of(config.id), config.id).make(config, first_stream)


@makes_env
def make_drawn(config: EnvConfig) -> VecEnv:
    """One slot, which draws itself (`Drawable`) where the suite can make such a one. Raises as `make_vec`."""
    config = dataclasses.replace(config, num_envs=1)
    check_env(config)
    module = _load(suite_of(config.id), config.id)
    drawn: VecEnv | None = getattr(module, "make_drawn", lambda _: None)(config)
    return drawn if drawn is not None else module.make(config, 0)


@makes_env
def check_env(config: EnvConfig) -> None:
    """Raises EnvError if `config` names an unknown env or sets what cannot take effect; builds nothing."""
    suite = suite_of(config.id)
    for name, value, default in _settings(config):
        idle = name == "num_threads" and value == 1  # what holds without it, and configs of before say it
        if value != default and not idle and name not in suite.fields:
            raise EnvError(
                f"env.{name} = {value!r} cannot take effect: {config.id} belongs to the suite "
                f"{suite.name!r}, which has no such setting; leave it at {default!r}"
            )
    known = _load(suite, config.id).known_ids(config)
    if config.id not in known:
        near = _near_ids(config)
        raise EnvError(
            f"env.id = {config.id!r}: the suite {suite.name!r} has no such environment; "
            + (f"did you mean {' or '.join(near)}?" if near else f"it has, for example, {next(iter(known))}")
        )


def held_out(config: EnvConfig) -> EnvConfig:
    """What tells how well training on `config` generalises: the suite's levels that are kept from training,
    where it has some (its module then offers `held_out`); else `config` itself."""
    module = _load(suite_of(config.id), config.id)
    other: EnvConfig | None = getattr(module, "held_out", lambda _: None)(config)
    return other or config


def num_levels(config: EnvConfig) -> int:
    """How many levels `config.id` stands for; they are spread over slots and actors."""
    module = _load(suite_of(config.id), config.id)
    return len(getattr(module, "levels_of", lambda env_id: (env_id,))(config.id))


def protocol(config: EnvConfig) -> dict[str, object]:
    """What a score of `config`'s env depends on: the suite, and the settings that take effect in it."""
    suite = suite_of(config.id)
    effective = suite.fields - {"num_threads"}
    settings = {name: value for name, value, _ in _settings(config) if name in effective and value != ""}
    return {"suite": suite.name} | settings


def _settings(config: object, path: str = "") -> Iterator[tuple[str, object, object]]:
    """(dotted name, value, default) of every field that has a default, nested ones each by itself."""
    for field in dataclasses.fields(cast(Any, config)):
        value, name = getattr(config, field.name), path + field.name
        if dataclasses.is_dataclass(value):
            yield from _settings(value, f"{name}.")
        elif field.default is not dataclasses.MISSING and name != "num_envs":
            yield name, value, field.default


def _near_ids(config: EnvConfig) -> list[str]:
    """The most similar ids of all suites that are installed here."""
    known: dict[str, str] = {}
    for suite in SUITES:
        try:
            module = _load(suite, config.id)
        except EnvError:
            continue  # only a suggestion is at stake: what is not installed is not suggested
        ids = getattr(module, "suggestions", module.known_ids)(config)
        known |= {env_id.lower(): env_id for env_id in ids}
    return [known[name] for name in difflib.get_close_matches(config.id.lower(), known, n=3)]


def env_spec(config: EnvConfig) -> EnvSpec:
    """Shapes of `config`'s env, read off one slot that is closed again."""
    env = make_vec(dataclasses.replace(config, num_envs=1))
    close_env(env.spec.id, env)
    return env.spec


def _load(suite: Suite, env_id: str) -> _SuiteModule:
    try:
        for package in suite.packages:
            if importlib.util.find_spec(package) is None:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return cast(_SuiteModule, importlib.import_module(suite.module))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in suite.packages:
            raise
        raise EnvError(
            f"env.id = {env_id!r} needs the package {error.name!r}, which is not installed: {suite.install}"
        ) from error
