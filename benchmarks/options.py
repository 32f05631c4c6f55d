"""What each setting of `compute.*` is worth on this machine: a learner step under it, over one by default.

    launch.py bench options            T = 50, B = 32, N = 512, IMPALA's deep encoder; on a CPU T = 20, B = 4
    launch.py bench options --quick    a small one, to see that it runs

On a machine that has no more than torch, triton and numpy: `python -m benchmarks.options`, the same.

A step is `Learner.update` by exact RTRL, on one batch that lies on the device. All ways have the same weights
at the start, and take turns; a round's ratio is to its step by default. Times are CUDA events on a GPU, on a
CPU the CPU time of the process. "off" is how far the first gradient of the encoder is from that by default,
in norm. "contiguous" is no setting: the encoder's weights, channels_last by default, laid the other way.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from actors.policy.precision import check_bfloat16, set_tf32
from benchmarks import pairs, verb
from benchmarks.learner_step import timed
from benchmarks.learner_step_case import Rollouts, Size, make_learner
from benchmarks.machine import header
from configs.schema import ComputeConfig, ConfigError
from learner.batcher import Batch

ON_GPU, ON_CPU = Size(50, 32, 512, "deep"), Size(20, 4, 256, "deep")
QUICK = Size(4, 2, 16, "shallow")
DEFAULT = "default"


class Way:
    """One way to compute a step."""

    def __init__(
        self, size: Size, device: torch.device, compute: ComputeConfig, contiguous: bool = False
    ) -> None:
        check_bfloat16("encoder_dtype", compute, device)
        self._compute, self._device = compute, device
        self.learner = make_learner(size, "rtrl", device, compute=compute)
        if contiguous:
            self.learner.policy.encoder.to(memory_format=torch.contiguous_format)  # pyright: ignore

    def step(self, batch: Batch) -> float:
        """ms"""
        set_tf32(self._compute, self._device)
        return timed(self.learner, batch)["ms" if self._device.type == "cuda" else "cpu_ms"]

    def gradient(self) -> Tensor:
        """Of the encoder, by the last step."""
        found = [
            weight.grad.flatten()
            for weight in self.learner.policy.encoder.parameters()
            if weight.grad is not None
        ]
        return torch.cat(found)


def settings(device: torch.device) -> dict[str, dict[str, Any]]:
    """Arguments of `Way` by name, the default first."""
    found: dict[str, dict[str, Any]] = {DEFAULT: {"compute": ComputeConfig()}}
    found["encoder_dtype bfloat16"] = {"compute": ComputeConfig(encoder_dtype="bfloat16")}
    if device.type == "cuda":
        found["tf32 off"] = {"compute": ComputeConfig(tf32="off")}
        found["tf32 all"] = {"compute": ComputeConfig(tf32="all")}
    return found | {"contiguous": {"compute": ComputeConfig(), "contiguous": True}}


def compiled() -> dict[str, dict[str, Any]]:
    """Those that take a minute to begin with."""
    return {
        DEFAULT: {"compute": ComputeConfig()},
        "compile_encoder": {"compute": ComputeConfig(compile_encoder=True)},
        "bfloat16, compiled": {"compute": ComputeConfig(encoder_dtype="bfloat16", compile_encoder=True)},
    }


def measure(
    size: Size, device: torch.device, rounds: int, ways: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """A row for each way; one that does not run here says why."""
    rollouts = Rollouts(size, device)
    batch = rollouts.next_batch()
    made: dict[str, Way] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name, arguments in ways.items():
        rows[name] = {"way": name}
        try:
            made[name] = Way(size, device, **arguments)
            made[name].step(batch)
        except (RuntimeError, ConfigError) as error:  # no compiler, no bfloat16: a result too
            rows[name]["error"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            made.pop(name, None)
            continue
        truth = made[DEFAULT].gradient()
        rows[name]["off"] = ((made[name].gradient() - truth).norm() / truth.norm()).item()
    times: dict[str, list[float]] = {name: [] for name in made}
    batches = [rollouts.next_batch() for _ in range(rounds)]
    for way in made.values():  # convolutions are chosen, allocations kept
        way.step(batch)
    for batch, order in zip(batches, pairs.in_turns(list(made), rounds), strict=True):
        for name in order:
            times[name].append(made[name].step(batch))
    for name, mine in times.items():
        ratios = [ms / base for ms, base in zip(mine, times[DEFAULT], strict=True)]
        rows[name] |= {"ms": pairs.summary(mine), "ratio": pairs.summary(ratios), "ratios": ratios}
    return list(rows.values())


def line(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"| {row['way']} | {row['error']} | | |"
    ms, ratio = row["ms"]["median"], row["ratio"]
    return (
        f"| {row['way']} | {ms:.1f} | {ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}] "
        f"| {row['off']:.0e} |"
    )


def main(arguments: list[str]) -> int:
    parser = verb.parser("options", __doc__)
    parser.add_argument("--quick", action="store_true", help="a small size, three rounds, nothing compiled")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out: a minute a way")
    parser.add_argument("--rounds", type=int, default=pairs.PAIRS)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--out", type=Path, help="a folder for options-DEVICE.json and .md")
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(options.threads)
    size = QUICK if options.quick else ON_GPU if device.type == "cuda" else ON_CPU
    rounds = 3 if options.quick else options.rounds
    groups = [settings(device)] + ([] if options.quick or options.no_compile else [compiled()])
    rows: list[dict[str, Any]] = []
    for ways in groups:
        rows += measure(size, device, rounds, ways)
        save(options, size, rounds, rows, device)
    return 0


def save(
    options: argparse.Namespace, size: Size, rounds: int, rows: list[dict[str, Any]], device: torch.device
) -> None:
    head = "| way | ms a step | over the default [95 %] | gradient off |\n|---|---|---|---|"
    title = f"T = {size.T}, B = {size.B}, N = {size.N}, encoder {size.encoder}; {rounds} rounds"
    table = "\n".join([title, "", head, *map(line, rows)])
    print(table, flush=True)
    result: dict[str, Any] = {"size": size._asdict(), "rounds": rounds, "options": rows}
    verb.save(options.json, result)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        name, machine = f"options-{device.type}", header() | {"torch_threads": options.threads}
        (options.out / f"{name}.json").write_text(json.dumps({"machine": machine} | result, indent=1) + "\n")
        block = f"```json\n{json.dumps(machine, indent=2)}\n```"
        text = f"# A learner step under each setting of `compute`\n\n{table}\n\n{block}\n"
        (options.out / f"{name}.md").write_text(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
