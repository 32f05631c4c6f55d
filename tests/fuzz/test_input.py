"""Any rollout, and any command line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from actors.rollout import Rollout
from command_line import asked_to_train
from configs.schema import ConfigError
from learner.batcher import Batcher
from learner.records.checkpoint import CheckpointError
from learner.records.run_dir import RunDirError
from tests.fuzz.fuzz import FUZZ
from tests.learner.loop_runs import Run, tiny

ARRAYS = st.builds(
    lambda shape, dtype, fill: np.full(shape, fill, dtype),
    st.lists(st.sampled_from([0, 1, 2, 4, 7, 8]), max_size=4).map(tuple),
    st.sampled_from(["float32", "float64", "int64", "bool", "uint8"]),
    st.sampled_from([0, 1, 255]),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Rollout]:
    run = Run(config := tiny(), tmp_path_factory.mktemp("run"))
    rollout = run.fleet.next_rollout(1.0)
    assert rollout is not None
    return config, rollout


@FUZZ
@given(data=st.data())
def test_a_rollout_of_other_arrays_is_refused_before_it_waits(
    made: tuple[Any, Rollout], data: st.DataObject
) -> None:
    config, rollout = made
    names = [f.name for f in dataclasses.fields(rollout) if isinstance(getattr(rollout, f.name), np.ndarray)]
    name = data.draw(st.sampled_from([*names, "initial_state"]))
    array = data.draw(ARRAYS)
    wrong = dataclasses.replace(rollout, **{name: (array,) if name == "initial_state" else array})
    batcher = Batcher(config, torch.device("cpu"))
    try:
        wrong.validate()
        batcher.add(wrong, 0)
    except ValueError as error:
        assert len(batcher) == 0 and "rollout" in str(error)


WORDS = st.sampled_from(
    [
        *(
            "memory_rtrl",
            "cartpole_rtrl",
            "--resume",
            "--auto-resume",
            "--run-dir",
            "--seed",
            "--total-steps",
        ),
        *(
            "--env.id",
            "--policy.core",
            "--policy.hidden-size",
            "--ray.address",
            "--batch-size",
            "--help",
            "-h",
        ),
        *("--objective", "ppo", "rtu", "0", "-1", "1e9", "nan", "none", "None", "True", "", "/", ".", "--"),
    ]
)


@FUZZ
@given(words=st.lists(WORDS | st.text(max_size=6), max_size=6))
def test_any_command_line_is_a_run_or_a_clear_refusal(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    here = tmp_path_factory.mktemp("here")
    said = io.StringIO()
    with contextlib.chdir(here), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            asked_to_train(words)
        except (ConfigError, RunDirError, CheckpointError) as error:
            assert str(error)
        except SystemExit as end:
            assert end.code in (0, 2) and said.getvalue()
    assert list(Path(here).iterdir()) == [], "nothing is written where a command line is only read"
