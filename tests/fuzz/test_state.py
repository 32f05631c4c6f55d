"""A checkpoint whose files are whole, and whose state is not what a run of this version writes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from configs.schema import Config, ConfigError
from learner.records import checkpoint
from learner.records.checkpoint import CheckpointError
from learner.records.run_dir import RunDir
from learner.records.state import split_state, taking_up
from tests.fuzz.fuzz import FUZZ
from tests.learner.loop_runs import Run, tiny

OTHER = st.sampled_from(
    [None, -1, 3, 0.5, "x", [], {}, (), torch.ones(()), torch.zeros(2, 3), torch.tensor(False)]
)
SETTINGS: dict[str, dict[str, Any]] = {
    "rtrl": {},
    "ppo": {"objective": "ppo", "normalise_rewards": True},
    "kept": {"publish_interval": 3},
}


def places(state: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    if isinstance(state, dict):
        for name in state:
            yield from places(state[name], (*at, name))
    elif isinstance(state, list | tuple):
        for index in range(len(state)):
            yield from places(state[index], (*at, index))


def changed(state: Any, at: tuple[Any, ...], value: Any, *, drop: bool) -> Any:
    """A copy of `state` with another value at that place, or without it."""
    first, rest = at[0], at[1:]
    parts = dict(state) if isinstance(state, dict) else dict(enumerate(state))
    if rest:
        parts[first] = changed(parts[first], rest, value, drop=drop)
    elif drop:
        del parts[first]
    else:
        parts[first] = value
    return parts if isinstance(state, dict) else type(state)(parts.values())


class Saved:
    """A short run, and what its newest checkpoint holds. No dataclass: Hypothesis would print all of it."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder, self.config = folder, config
        self.state = RunDir.open(folder, exclusive=False).load_state()


@pytest.fixture(scope="module", params=sorted(SETTINGS))
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    changes = SETTINGS[request.param]
    folder = tmp_path_factory.mktemp("run")
    config = tiny(**changes)
    Run(config, folder / "checkpoints").run(until=2)
    (folder / "config.json").write_text(config.to_json())
    return Saved(folder, config)


@FUZZ
@given(share=st.floats(0, 1, exclude_max=True), value=OTHER, drop=st.booleans())
def test_a_state_that_is_wrong_at_one_place_is_refused_or_gone_on_with(
    saved: Saved,
    tmp_path_factory: pytest.TempPathFactory,
    share: float,
    value: Any,
    drop: bool,
) -> None:
    config, state = saved.config, saved.state
    everywhere = list(places(state))
    wrong = changed(state, everywhere[int(share * len(everywhere))], value, drop=drop)
    folder = tmp_path_factory.mktemp("forged")
    tensors, rest = split_state(wrong)
    checkpoint.save(folder / "checkpoints", 7, tensors, {"state": rest}, keep_last=1)
    (folder / "config.json").write_text(config.to_json())
    try:
        with taking_up(folder):
            RunDir.open(folder, exclusive=False).load_state()
            resumed = Run(config, folder / "checkpoints", resume=True)
        resumed.run(until=resumed.learner.updates + 2)
    except (CheckpointError, ConfigError):
        return


def test_the_message_names_what_is_missing(saved: Saved) -> None:
    wrong = copy.copy(saved.state)
    del wrong["optimizer"]
    with (
        pytest.raises(CheckpointError, match=r"'optimizer'.*the version that wrote it"),
        taking_up(saved.folder),
    ):
        learner = Run(saved.config, saved.folder / "checkpoints").learner
        learner.load_state_dict(wrong)
