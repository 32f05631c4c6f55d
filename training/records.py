"""What a run leaves and shows: its directory, metrics.jsonl, W&B, the panel, status.json.

All of it is held by the process of launch.py, whatever becomes of a learner that Ray runs. Where that goes
on from a checkpoint, the metrics go back to it too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from configs.schema import Config
from learner.records.progress import ProgressView
from learner.records.run_dir import RunDir, code_version
from learner.records.sinks import MultiSink, open_sinks
from training.status import Status


class Records:
    """A sink (learner/records/sinks.py). Nothing is on disk before `begin`."""

    def __init__(
        self,
        config: Config,
        layout: str,
        run_dir: RunDir | None,
        runs: Path,
        seconds_left: Callable[[], float | None],
    ) -> None:
        """`config`: as it was asked for; `layout`: of its actors, in words. `run_dir`: of a run that goes on,
        which is released at the end; None where one begins, by default below `runs`."""
        self._config, self._layout, self._runs = config, layout, runs
        self._seconds_left, self._resumed = seconds_left, run_dir is not None
        self.run_dir = run_dir
        self._sink: MultiSink | None = None
        self._progress: ProgressView | None = None
        self.status: Status | None = None
        self.restarts = 0
        """Of a learner that Ray runs."""
        self._ended = False

    @property
    def errors(self) -> int:
        return 0 if self._sink is None else self._sink.errors

    def begin(self, global_step: int) -> Path:
        """A learner stands at this step, good to train: the run directory. What an earlier learner of this
        process recorded after that step is taken back.

        Raises RunDirError and SinkError as `RunDir.create` and `open_sinks`.
        """
        if self.run_dir is None:
            self.run_dir = RunDir.create(
                self._config.run_dir, self._config.preset, self._config.seed, self._runs
            )
        version, path = code_version(), self.run_dir.path
        if self._sink is None:
            config = dataclasses.replace(self._config, run_dir=str(path))
            about = json.loads(config.to_json()) | {"code_version": version, "layout": self._layout}
            sinks = open_sinks(config.wandb, path, about, global_step if self._resumed else None)
            total = config.total_steps
            self._progress = ProgressView(total, path, config.preset, self._seconds_left)
            self._sink = MultiSink([sinks, self._progress])
            self.run_dir.save_config(config.to_json())
            self.status = Status(path, total)
            self.status.set(global_step=global_step)
        else:
            self.roll_back(global_step)
        self.run_dir.record_start(version, global_step, self._layout)
        return path

    def roll_back(self, global_step: int) -> None:
        if self._sink is not None:
            self._sink.roll_back(global_step)

    def write(self, global_step: int, metrics: Mapping[str, float]) -> None:
        assert self._sink is not None and self.status is not None, "begin() comes first"
        if "faults/sink_errors" in metrics:  # of the sinks here, which a rank elsewhere does not know
            known = {"faults/sink_errors": self.errors, "faults/learner_restarts": self.restarts}
            metrics = {**metrics, **known}
        self._sink.write(global_step, metrics)
        new: dict[str, Any] = {"global_step": global_step, "steps_per_s": metrics.get("charts/SPS")}
        if self.status.state in ("starting", "restarting"):
            new |= {"state": "training", "why": None}
        self.status.set(**new)

    def end_well(self) -> None:
        """The run has done what it was to do. What is printed now comes below the panel's last state."""
        self._ended = True
        if self._progress is not None:
            self._progress.close()

    def close(self, exit_code: int = 1) -> None:
        """`exit_code`: of a run that has not ended well."""
        code = 0 if self._ended else exit_code
        try:
            if self._sink is not None:
                self._sink.close(code)
        finally:
            if self.status is not None:
                self.status.set(state="failed" if code else "done")
            if self.run_dir is not None:
                if not self._resumed:
                    self.run_dir.withdraw()
                self.run_dir.release()
