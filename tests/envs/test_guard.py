"""An environment's own code changes nothing of the process around it, and its errors carry its name."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.schema import EnvConfig
from envs import guard
from envs.guard import env_code
from envs.make import env_spec, make_vec
from envs.spec import EnvError, EnvFaultError
from tests.rude_env import RUDE_VARIABLE, spoil

RUDE = EnvConfig(id="tests.rude_env:Rude-v0", num_envs=2)


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What environments have set is remembered for as long as the process lives."""
    monkeypatch.setattr(guard, "_theirs", {})


def _state() -> tuple[Any, ...]:
    return (
        *(os.getcwd(), sys.stdout, sys.stderr, np.geterr()),
        *(torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()),
        torch.empty(0).device,
        *(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)),
    )


def test_what_an_environment_sets_holds_while_its_code_runs_and_no_longer(tmp_path: Path) -> None:
    before = _state()
    with env_code("rude", "making it"):
        spoil(str(tmp_path))
        spoiled = _state()
    assert _state() == before
    assert not any(theirs == ours for theirs, ours in zip(spoiled, before, strict=True))
    for often in (True, False):
        with env_code("rude", "step()", often=often):
            assert _state()[:8] == spoiled[:8], "but for signals it finds the process as it left it"
        assert _state() == before
    with env_code("rude", "step()", often=True):
        torch.set_default_dtype(before[4])
    with env_code("rude", "step()"):
        assert torch.get_default_dtype() == before[4], "what it has put back stays so"


def test_a_folder_that_has_gone_with_its_environment_is_forgotten(tmp_path: Path) -> None:
    before = os.getcwd()
    with env_code("rude", "making it"), tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
    with env_code("rude", "step()"):
        assert os.getcwd() == before
    assert os.getcwd() == before


def test_a_step_that_raises_leaves_no_trace_either(tmp_path: Path) -> None:
    before = _state()
    with pytest.raises(EnvFaultError), env_code("rude", "step()"), env_code("rude", "inner"):
        spoil(str(tmp_path))
        raise RuntimeError("broken")
    assert _state() == before


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), ValueError("broken")])
def test_whatever_is_raised_becomes_a_failure_that_names_the_env_and_shows_where(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rude_function() -> None:
        raise error

    previous = signal.signal(signal.SIGINT, lambda *_: None)  # as in a run, where Ctrl-C raises nothing
    try:
        with pytest.raises(EnvFaultError) as caught, env_code("rude/1", "step()"):
            rude_function()
    finally:
        signal.signal(signal.SIGINT, previous)
    text = str(caught.value)
    assert text.startswith(f"rude/1: step() raised {error!r}") and "in rude_function" in text


def test_what_is_meant_for_the_process_goes_through() -> None:
    with pytest.raises(KeyboardInterrupt), env_code("rude", "step()"):
        signal.raise_signal(signal.SIGINT)
    told = SystemExit(1)
    told.ray_terminate_msg = "The process receives a SIGTERM."  # type: ignore[attr-defined]
    with pytest.raises(SystemExit), env_code("rude", "step()"):
        raise told
    with pytest.raises(EnvError, match=r"^say this$"), env_code("rude", "step()"):
        raise EnvError("say this")


def test_an_environment_that_leaves_while_it_is_made_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUDE_VARIABLE, "exit-make")
    with pytest.raises(EnvError, match=r"tests.rude_env:Rude-v0: making it raised SystemExit\(0\)"):
        env_spec(RUDE)


def test_a_module_that_leaves_while_it_is_imported_is_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaving_module.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EnvError, match=r"leaving_module:X-v0: .*SystemExit"):
        make_vec(EnvConfig(id="leaving_module:X-v0"))


def test_an_error_of_closing_is_reported_and_decides_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(RUDE_VARIABLE, "close")
    with caplog.at_level(logging.WARNING):
        assert env_spec(RUDE).num_actions == 2
    assert "tests.rude_env:Rude-v0: close() raised" in caplog.text
    assert "it does not want to be closed" in caplog.text
