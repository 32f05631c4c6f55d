"""What a sweep tells as it goes on: a line on whatever happens to a trial, and one on all now and then."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from ray import tune

from sweeps.lives import note, out_of
from sweeps.space import Space

EVERY_S = 10.0


class Progress(tune.Callback):
    """Tune keeps it with its state, and takes it up again where OUT may have been moved to."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._told = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if time.monotonic() - self._told < EVERY_S:
            return
        self._told = time.monotonic()
        states = Counter(one.status.lower() for one in trials)
        metric = self._space.metric
        values = [one.last_result[metric] for one in trials if metric in (one.last_result or {})]
        best = f"{(max if self._space.mode == 'max' else min)(values):.4g}" if values else "none yet"
        counts = ", ".join(f"{count} {name}" for name, count in sorted(states.items()))
        print(f"{counts} of {self._space.trials}; newest values of {metric}: best {best}", flush=True)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        values = ", ".join(f"{name} = {value!r}" for name, value in trial.config.items())
        print(f"{trial.trial_id} starts: {values}", flush=True)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        note(out_of(trial), trial.trial_id, "finished")
        result = trial.last_result or {}
        value = result.get(self._space.metric)
        print(
            f"{trial.trial_id} ends at step {result.get('global_step', 0):,}: {self._space.metric} = {value}",
            flush=True,
        )

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        print(f"{trial.trial_id} goes on from its checkpoint: {_cause(_error(trial))}", flush=True)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        note(out_of(trial), trial.trial_id, "failed")
        print(f"{trial.trial_id} FAILED:\n{_error(trial)}", flush=True)


def _error(trial: Any) -> str:
    """The last one of a trial, as Tune has just written it down."""
    file = Path(trial.error_file or "")
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    return text.rpartition("Failure # ")[2].strip() or "no error was told"


def _cause(error: str) -> str:
    """In one line. An error begins with its number; of ours what counts follows its name."""
    ours = [line.partition("TrialError: ")[2] for line in error.splitlines() if "TrialError: " in line]
    return (ours or error.splitlines()[1:] or [error])[0]
