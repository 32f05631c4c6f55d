"""Whole training runs, as a user starts them, one after the other in turn: RTRL, TBPTT and another commit.

    launch.py bench runs [--preset PRESET] [--against FOLDER] [--pairs N] [--seconds S] [--json FILE]

A run is `launch.py train PRESET --time-limit-s S` in processes of its own. Its rate is that between its first
row that is SETTLE_S after the first one and its last: the actors start before, and the first rows are of a
queue that was full. The arms of a round run one after the other, forward and then backward, and the ratios
are those within rounds. PRESET has {} where the gradient stands. FOLDER is a checkout of another commit,
whose `launch.py` runs PRESET by RTRL as the arm `before`: what has changed since, on one machine.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import pairs
from benchmarks.verb import asked, parser, save, with_pairs
from configs.error import ConfigError, require
from configs.paths import path_argument
from learner.records.metrics_file import read_rows
from training.signals import unwind_on_stop

HERE = Path(__file__).parents[2]
PRESET = "atari_breakout_{}_bench"
SECONDS = 30.0
SETTLE_S = 4.0


class Arm(NamedTuple):
    name: str
    folder: Path
    """A checkout."""
    preset: str


def rate(arm: Arm, seconds: float) -> float:
    """Agent steps a second of one run. Raises ConfigError where it failed, or told too little."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        command = [sys.executable, "launch.py", "train", arm.preset, "--run-dir", str(run)]
        command += ["--time-limit-s", f"{seconds:g}", "--total-steps", str(10**9), "--wandb.mode", "disabled"]
        command += ["--log-interval-s", "0.5"]
        done = subprocess.run(command, cwd=arm.folder, capture_output=True, text=True)
        if done.returncode:
            raise ConfigError(f"{' '.join(command)} in {arm.folder} failed:\n{done.stdout}{done.stderr}")
        seen = [(row["wall_time"], row["global_step"]) for row in read_rows(run / "metrics.jsonl")]
    settled = [point for point in seen if point[0] - seen[0][0] >= SETTLE_S]
    if len(settled) < 2:
        raise ConfigError(f"{arm.preset} told nothing to measure in {seconds:g} s: more --seconds")
    (began, first), (ended, last) = settled[0], settled[-1]
    return (last - first) / (ended - began)


def _measure(arms: list[Arm], rounds: int, seconds: float) -> dict[str, list[float]]:
    series: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for turn, order in enumerate(pairs.in_turns(arms, rounds)):
        for arm in order:
            series[arm.name].append(rate(arm, seconds))
        told = ", ".join(f"{name} {rates[-1]:,.0f}" for name, rates in series.items())
        print(f"round {turn + 1} of {rounds}: {told} agent steps/s", flush=True)
    return series


def main(arguments: list[str]) -> int:
    options = with_pairs(parser("runs", __doc__), SECONDS)
    options.add_argument("--preset", default=PRESET, help=f"with {{}} for rtrl and tbptt ({PRESET})")
    options.add_argument("--against", type=path_argument, help="a checkout of another commit")
    options = asked(options, arguments)
    require("{}" in options.preset, "--preset", options.preset, "needs {} where rtrl and tbptt stand")
    arms = [Arm(name, HERE, options.preset.replace("{}", name)) for name in ("rtrl", "tbptt")]
    if options.against is not None:
        here = (options.against / "launch.py").is_file()
        require(here, "--against", str(options.against), "is no checkout: it has no launch.py")
        arms.append(Arm("before", options.against, options.preset.replace("{}", "rtrl")))
    with ExitStack() as stack:
        unwind_on_stop(stack)
        series = _measure(arms, options.pairs, options.seconds)
    ratios = {
        f"rtrl / {name}": [ours / other for ours, other in zip(series["rtrl"], rates, strict=True)]
        for name, rates in series.items()
        if name != "rtrl"
    }
    for name, rates in series.items():
        print(f"{name:16}{pairs.told(rates):>24} agent steps/s")
    for name, values in ratios.items():
        print(f"{name:16}{pairs.told(values, 3):>24}")
    result: dict[str, Any] = {name: pairs.summary(values) for name, values in (series | ratios).items()}
    save(options.json, result | {"series": series, "preset": options.preset, "seconds": options.seconds})
    return 0
