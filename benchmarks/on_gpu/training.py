"""The learner on synthetic rollouts: frames a second, RTRL over TBPTT, GPU busy.

    python -m benchmarks.on_gpu.training --out DIR

Steps of both credits take turns; the ratio is of paired steps. Times are CUDA events around `Learner.update`,
with batches that lie on the device. Busy shares come from a profile: of such steps, of steps whose batches
are assembled and copied in between, and of steps whose batches a thread makes ahead (`prefetch`), as training
through Ray does it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from pathlib import Path
from typing import Any

import torch

from actors.policy.precision import set_tf32
from benchmarks.learner_step import timed
from benchmarks.learner_step_case import Rollouts, Size, make_learner
from benchmarks.machine import header
from benchmarks.on_gpu.busy import busy_share
from configs.schema import ComputeConfig
from envs.spec import EnvSpec
from learner.batcher import Batch
from learner.learner import Learner
from learner.prefetch import Prefetcher


class Frames(Size):
    """Observations of another shape than a stack of square frames."""

    shape: tuple[int, int, int] = (4, 84, 84)

    def spec(self) -> EnvSpec:
        return EnvSpec(id="synthetic", observation_shape=self.shape, observation_dtype="uint8", num_actions=4)


class Lab(Frames):
    shape = (3, 72, 96)


def host_waits(learner: Learner, batch: Batch) -> int:
    """How often launching an update waits for the GPU, by torch's own count."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            learner.launch(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    learner.read()
    return sum("synchronizing" in str(warning.message) for warning in caught)


def taken(feed: Prefetcher) -> Batch:
    while (batch := feed.take()) is None:
        feed.wait()
    return batch


def launch_ahead(learner: Learner, batch: Batch) -> None:
    """As the loop does: an update is read once the next one was launched."""
    learner.launch(batch)
    if learner.unread > 1:
        learner.read()


def measure(size: Frames, device: torch.device, rounds: int, out: Path) -> dict[str, Any]:
    rollouts = Rollouts(size, device)
    learners = {credit: make_learner(size, credit, device) for credit in ("tbptt", "rtrl")}
    for _ in range(2):  # compiles, chooses convolutions
        batch = rollouts.next_batch()
        for learner in learners.values():
            learner.update(batch)
    rows = []
    for i in range(rounds):
        batch = rollouts.next_batch()
        order = list(learners.items())[:: -1 if i % 2 else 1]
        rows.append({credit: timed(learner, batch)["ms"] for credit, learner in order})
    medians = {credit: statistics.median(row[credit] for row in rows) for credit in learners}
    ratios = sorted(row["rtrl"] / row["tbptt"] for row in rows)
    row: dict[str, Any] = {"T": size.T, "B": size.B, "frame": size.shape, "ms": medians}
    row["frames_per_s"] = {credit: 1e3 * size.T * size.B / ms for credit, ms in medians.items()}
    row["rtrl_over_tbptt"] = {"median": statistics.median(ratios), "min": ratios[0], "max": ratios[-1]}
    if device.type == "cuda":
        learner = learners["rtrl"]
        row["host_waits"] = host_waits(learner, rollouts.next_batch())
        name = "x".join(map(str, size.shape))
        batch = rollouts.next_batch()
        again = iter([batch] + [rollouts.next_batch() for _ in range(4)])
        row["step"] = busy_share(
            lambda: launch_ahead(learner, next(again)), 5, out / f"step-{name}-{size.B}.json"
        )
        row["step_and_batch"] = busy_share(lambda: launch_ahead(learner, rollouts.next_batch()), 5)
        feed = Prefetcher(learner.config, Rollouts(size, device), device, lambda: 0)
        try:
            row["step_prefetched"] = busy_share(lambda: launch_ahead(learner, taken(feed)), 5)
        finally:
            feed.close()
        row["peak_MiB"] = torch.cuda.max_memory_allocated() / 2**20
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(set_tf32(ComputeConfig(), device), flush=True)
    if device.type == "cpu":
        print("host waits and busy shares: skipped, no GPU here", flush=True)
    T, N, rounds = (4, 16, 2) if options.quick else (50, 512, 10)
    results: list[dict[str, Any]] = []
    for B in (2,) if options.quick else (32, 128):
        for kind in (Frames, Lab):
            try:
                row = measure(kind(T, B, N, "deep"), device, rounds, options.out)
            except torch.OutOfMemoryError as error:  # a result too; the next size is smaller or not alike
                row = {"B": B, "frame": kind.shape, "error": str(error).splitlines()[0]}
            print(json.dumps(row), flush=True)
            results.append(row)
            data = {"machine": header(), "training": results}
            (options.out / "training.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
