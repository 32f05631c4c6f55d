"""Where metrics go: a JSONL file always, Weights & Biases beside it. Nothing else writes metrics.

A sink that cannot write for the moment (a full disk, a network that is down) must not end a run of
days: it says so once, counts the failure in `errors`, and goes on. One that cannot be opened is a
SinkError at the start, while somebody is looking.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from configs.schema import ConfigError, WandbConfig, WandbMode
from learner.records import checkpoint
from learner.records.metrics_file import JsonlSink, SinkError, read_rows
from learner.records.wandb_variables import folder, named
from learner.records.wandb_variables import mode as wandb_mode

_log = logging.getLogger(__name__)

WANDB_INIT_TIMEOUT_S = 90.0
WANDB_FINISH_TIMEOUT_S = 60.0
"""How long the end of a run waits for uploads; what is left then stays on disk for `wandb sync`."""


VIDEO = "video/policy"
"""Name of a video (`launch.py enjoy --wandb`) in W&B."""


class Sink(Protocol):
    @property
    def errors(self) -> int:
        """Writes that failed since the sink was opened."""
        ...

    def write(self, global_step: int, metrics: Mapping[str, float]) -> None:
        """One row of finite numbers: `Metrics.reduce` gives no others."""
        ...

    def close(self, exit_code: int = 0) -> None:
        """Ends the sink; `exit_code` other than 0 marks a run that failed."""
        ...


class Record(Sink, Protocol):
    """A sink that the rows of an abandoned course can be taken back from."""

    def roll_back(self, global_step: int) -> None:
        """The run goes on from a checkpoint of this step: later rows are dropped, and come again."""
        ...


class WandbSink:
    """One W&B run, found again by the id kept in `RUN_DIR/wandb_run_id`. W&B's files are in `RUN_DIR/wandb`,
    or where WANDB_DIR says.
    A run of a sweep takes the id that the sweep's agent gave it.

    Online, a resumed run goes on where the server's history ends. Offline, W&B begins a new file, and
    syncing that overwrites what an older file of the same run brought; so the file of a resumed run
    begins with the rows of `history`, and the newest file is the whole run.
    """

    def __init__(
        self, config: WandbConfig, run_dir: Path, run_config: dict[str, Any], history: Path | None = None
    ) -> None:
        """`run_config`: the whole config as plain JSON. `history`: a metrics file cut to the resumed step.

        Raises SinkError if wandb is missing, there is no API key, or the server is not reached.
        """
        config, mode = named(config, os.environ), wandb_mode(config, os.environ)
        assert mode != "disabled"
        self._folder = folder(run_dir, os.environ)
        self._config, self._run_config = config, run_config
        self._mode: WandbMode = mode
        self.errors, self._run_dir = 0, run_dir
        self._begin(history)

    def _begin(self, history: Path | None) -> None:
        config, mode, run_dir = self._config, self._mode, self._run_dir
        try:
            import wandb
        except ImportError as error:
            raise SinkError(
                f"wandb.mode = {mode!r} needs the wandb package, which is not installed: "
                "`pip install wandb`, or run with `--wandb.mode disabled`"
            ) from error
        settings = wandb.Settings(
            console="off",
            silent=True,
            save_code=False,
            init_timeout=WANDB_INIT_TIMEOUT_S,
            finish_timeout=WANDB_FINISH_TIMEOUT_S,
            finish_timeout_raises=True,
        )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"WANDB_DIR = {str(self._folder)!r} cannot be made: {error}") from error
        try:
            self._run = wandb.init(
                mode=mode,
                project=config.project,
                entity=config.entity,
                group=config.group,
                name=config.name or run_dir.name,
                dir=str(self._folder),
                id=_wandb_run_id(run_dir),
                resume="allow",
                config=self._run_config,
                force=True,  # no key: an error now, not a question or a quiet switch to offline
                settings=settings,
            )
        except wandb.Error as error:
            wandb.teardown()
            raise SinkError(
                f"W&B could not start: {error}\nLog in with `wandb login` (or set WANDB_API_KEY) and check "
                "the network; or run with `--wandb.mode offline` and upload later with `wandb sync`"
            ) from error
        self._run.define_metric("*", step_metric="global_step")
        self._teardown = wandb.teardown
        if mode == "offline" and history is not None:
            for row in read_rows(history):
                self._run.log({"_timestamp": row.pop("wall_time"), **row})

    def write(self, global_step: int, metrics: Mapping[str, float]) -> None:
        row = {"global_step": global_step, **metrics}
        try:
            self._run.log(row)
        except Exception as error:  # whatever W&B raises: its helper process may die in many ways
            if self.errors == 0:
                _log.warning("W&B takes no more metrics (%r): metrics.jsonl goes on", error)
            self.errors += 1

    def roll_back(self, global_step: int) -> None:
        """Offline as a resumed run, in a new file. Online the server keeps what it has, and the rows of these
        steps come again after it, as after a resume."""
        if self._mode != "offline":
            return
        try:
            self._run.finish(exit_code=1)
            self._begin(self._run_dir / "metrics.jsonl")
        except Exception as error:  # as above
            self.errors += 1
            _log.warning("W&B did not go back to step %d (%r): metrics.jsonl did", global_step, error)

    def write_video(self, global_step: int, path: Path) -> None:
        """A file of a format that browsers play (mp4, gif), as VIDEO. Raises SinkError if W&B refuses it."""
        import wandb

        try:
            self._run.log({"global_step": global_step, VIDEO: wandb.Video(str(path))})
        except Exception as error:  # as above, but here somebody asked for this very row
            raise SinkError(f"W&B did not take the video {path}: {error!r}") from error

    def close(self, exit_code: int = 0) -> None:
        if self._config.log_checkpoint:
            try:
                self._write_checkpoint()
            except Exception as error:  # as above; the checkpoint is on disk, and the run must still be ended
                self.errors += 1
                _log.warning("W&B did not take the last checkpoint (%r)", error)
        try:
            self._run.finish(exit_code=exit_code)
            self._teardown()  # waits for the helper process: only then are all rows in the file
        except Exception as error:  # as above; the run itself is over and whole on disk
            self.errors += 1
            _log.warning(
                "W&B did not end cleanly (%r): upload what is missing with `wandb sync` from %s",
                error,
                self._folder / "wandb",
            )

    def _write_checkpoint(self) -> None:
        """The newest checkpoint as an artifact. Its files are uploaded from where they are."""
        import wandb

        path = checkpoint.newest(self._run_dir / "checkpoints")
        if path is None:
            return  # the run failed before its first save, and says so itself
        artifact = wandb.Artifact(f"checkpoint-{self._run.id}", "model", metadata={"checkpoint": path.name})
        artifact.add_dir(str(path), policy="immutable")
        self._run.log_artifact(artifact)


class MultiSink:
    """Writes to all of its sinks, in order."""

    def __init__(self, sinks: Sequence[Record]) -> None:
        self._sinks = sinks

    @property
    def errors(self) -> int:
        return sum(sink.errors for sink in self._sinks)

    def write(self, global_step: int, metrics: Mapping[str, float]) -> None:
        for sink in self._sinks:
            sink.write(global_step, metrics)

    def roll_back(self, global_step: int) -> None:
        for sink in self._sinks:
            sink.roll_back(global_step)

    def close(self, exit_code: int = 0) -> None:
        """Closes every sink, also if one of them fails; then raises the first failure."""
        failures: list[SinkError] = []
        for sink in self._sinks:
            try:
                sink.close(exit_code)
            except SinkError as error:
                failures.append(error)
        if failures:
            raise failures[0]


def open_sinks(
    wandb: WandbConfig,
    run_dir: Path,
    run_config: dict[str, Any],
    resume_step: int | None = None,
) -> MultiSink:
    """The sinks of a run: `RUN_DIR/metrics.jsonl`, and W&B unless it is disabled. Raises SinkError."""
    jsonl = JsonlSink(run_dir / "metrics.jsonl", resume_step)
    sinks: list[Record] = [jsonl]
    if wandb_mode(wandb, os.environ) != "disabled":
        try:
            sinks.append(WandbSink(wandb, run_dir, run_config, None if resume_step is None else jsonl.path))
        except BaseException:
            jsonl.close()
            raise
    return MultiSink(sinks)


def reopen_wandb(wandb: WandbConfig, run_dir: Path) -> WandbSink:
    """The W&B run of one that is over, to add to it; whoever asks holds the run directory's lock.

    Raises ConfigError if the run has none, SinkError as `WandbSink`.
    """
    if wandb_mode(wandb, os.environ) == "disabled":
        raise ConfigError(f"{run_dir} has no W&B run: wandb.mode = 'disabled' when it was trained")
    history = run_dir / "metrics.jsonl"
    JsonlSink(history, resume_step=sys.maxsize).close()  # cuts off a last row that a kill left half-written
    wandb = dataclasses.replace(wandb, log_checkpoint=False)  # it was, at the run's end
    return WandbSink(wandb, run_dir, json.loads((run_dir / "config.json").read_text()), history)


def _wandb_run_id(run_dir: Path) -> str:
    path = run_dir / "wandb_run_id"
    if not path.exists():
        run_id = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(8)
        path.write_text(run_id + "\n", encoding="ascii")
    return path.read_text(encoding="ascii").strip()
