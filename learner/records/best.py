"""The best weights of a run by its evaluations, kept beside its last checkpoints, in `checkpoints/best`.

It holds `policy` and `counters` alone: to evaluate, to film, or to start a new run from, and not to resume.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from learner.records import checkpoint
from learner.records.checkpoint import CheckpointError
from learner.records.choose import BEST
from learner.records.state import split_state


class BestCheckpoint:
    """Keeps the weights whose evaluation returned most; of two equals the later ones."""

    def __init__(self, checkpoints: Path, preset: str) -> None:
        """Goes on from the best one that is there, as after a resume.

        Raises CheckpointError if it cannot be read.
        """
        self._folder, self._preset = checkpoints / BEST, preset
        self._score = -float("inf")
        self.errors = 0
        """Writes that failed: training goes on."""
        if checkpoint.newest(self._folder) is not None:
            best = checkpoint.load_latest(self._folder)
            score = best.meta.get("score")
            if not isinstance(score, float):
                raise CheckpointError(f"{best.path} holds no score: move it out of its folder")
            self._score = score

    def offer(
        self, global_step: int, score: float, weights: Mapping[str, NDArray[Any]], about: dict[str, Any]
    ) -> bool:
        """Writes `weights`, of agent step `global_step`, if `score` is the best so far; whether it is.

        `about`: of the evaluation, plain JSON, for whoever reads the checkpoint.
        """
        if not score >= self._score:
            return False
        policy = {name: torch.tensor(array) for name, array in weights.items()}
        tensors, state = split_state({"policy": policy, "counters": {"global_step": global_step}})
        meta = {"state": state, "preset": self._preset, "score": float(score), "evaluation": about}
        try:
            checkpoint.save(self._folder, global_step, tensors, json.loads(json.dumps(meta)), keep_last=1)
        except CheckpointError as error:
            self.errors += 1
            print(f"the best weights so far, of step {global_step:,}, were not kept: {error}", flush=True)
            return False
        self._score = score
        return True
