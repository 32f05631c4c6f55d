"""Where the cue is lost: how well it can be read from encoder and core, while they learn.

    python -m experiments.encoder_probe --out experiments/results/encoder_probe

Arms of `encoder_recipe` are trained in this process on the T-maze. From time to time the policy sees 1,024
games that begin at their cue:

    contrast   of the encoder's features at the cue: how far those of the two cues are apart, over their
               norm's mean
    readable   share of right answers of a linear map from c of the core at the junction, 21 steps later, to
               the cue, fitted by least squares to half of the games and tested on the other half; 0.5 guesses
    share      of the variance of c at the junction that the cue makes; the rest is the corridor's noise

`readable` says whether the cue is there at all, `share` how plainly.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from actors.policy import Policy
from benchmarks.machine import header
from configs.paths import path_argument, write_whole
from configs.schema import Config
from envs.make import make_vec
from envs.suites.memory.tmaze import TMaze
from experiments.catalogue.encoder_recipe import EXPERIMENT
from experiments.staleness.run import Run

GAMES = 1024
ARMS = ("rtrl_no_encoder", "rtrl_bypass", "rtrl_frozen", "rtrl")
"""Of `encoder_recipe`."""
READ = ("contrast", "readable", "share")


def readable(x: Tensor, cue: Tensor) -> float:
    """Share of right answers on the second half of the rows of x [M, F], by ridge regression on the first."""
    x = x.double()
    x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)
    x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    target, half = 2.0 * cue.double() - 1.0, len(x) // 2
    gram = x[:half].T @ x[:half] + torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(gram, x[:half].T @ target[:half])
    return float(((x[half:] @ weights > 0) == (target[half:] > 0)).double().mean())


def contrast(x: Tensor, cue: Tensor) -> float:
    """|mean of the one cue - mean of the other| / mean norm, of x [M, F]."""
    one, other = x[cue == 0].mean(0), x[cue == 1].mean(0)
    return float((one - other).norm() / x.norm(dim=1).mean())


def share(x: Tensor, cue: Tensor) -> float:
    """Variance of the two cues' means over all variance, both summed over the numbers of x [M, F]."""
    one, other, p = x[cue == 0].mean(0), x[cue == 1].mean(0), float((cue == 1).double().mean())
    return float(p * (1 - p) * (one - other).square().sum() / x.var(0, unbiased=False).sum())


@torch.no_grad()
def probe(policy: Policy, config: Config) -> dict[str, float]:
    """What can be read in games that are played to their junction, whatever is done on the way."""
    memory = dataclasses.replace(config.env.memory, random_phase=False)
    env = make_vec(dataclasses.replace(config.env, num_envs=GAMES, memory=memory))
    assert isinstance(env, TMaze)
    observation, state = torch.from_numpy(env.reset(1)), policy.initial_state(GAMES)
    cue = observation[:, : memory.num_cues].argmax(1)
    nothing = torch.zeros(GAMES, dtype=torch.long)
    reward, reset = torch.zeros(GAMES), torch.ones(GAMES, dtype=torch.bool)
    found = {"contrast": contrast(policy.encoder(observation), cue)}
    for _ in range(memory.length_max + 1):
        state = policy.step(observation, reward, reset, state, nothing).state
        observation, reset = torch.from_numpy(env.step(nothing.numpy()).observation), torch.zeros_like(reset)
    return found | {"readable": readable(state[0], cue), "share": share(state[0], cue)}


def follow(arm: str, seed: int, total_steps: int, points: int) -> list[dict[str, Any]]:
    """One row a probe: arm, seed, step, what was read, and the success since the last one."""
    config = dataclasses.replace(EXPERIMENT.config(arm), seed=seed, total_steps=total_steps)
    run, rows, returns = Run(config), [], []
    for point in range(points + 1):
        while run.learner.global_step < point * total_steps / points:
            batch, _ = run.update()
            returns += [episode.episodic_return for episode in batch.episodes]
        row = {"arm": arm, "seed": seed, "step": run.learner.global_step}
        row |= probe(run.learner.policy, config)
        rows.append(row | {"success": (fmean(returns) + 1) / 2 if returns else None})
        returns = []
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds, with the lowest and the highest, of the first and the last probe and one between."""
    steps = sorted({row["step"] for row in rows})
    lines = ["| arm | step | " + " | ".join((*READ, "success")) + " |", "|---|---|---|---|---|---|"]
    for arm in ARMS:
        for step in (steps[0], steps[len(steps) // 4], steps[-1]):
            mine = [row for row in rows if (row["arm"], row["step"]) == (arm, step)]
            cells = [f"{arm} | {step:,}"]
            for name in (*READ, "success"):
                values = [row[name] for row in mine if row[name] is not None]
                spread = f"{fmean(values):.2f} ({min(values):.2f}, {max(values):.2f})" if values else "-"
                cells.append(spread)
            if mine:
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=path_argument, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--total-steps", type=int, default=300_000)
    parser.add_argument("--points", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        for arm in ARMS:
            rows += follow(arm, seed, options.total_steps, options.points)
            shown = (f"{name} {rows[-1][name]:.3f}" for name in (*READ, "success"))
            print(f"{arm}, seed {seed}: {', '.join(shown)}", flush=True)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "results.json", json.dumps({"machine": header(), "rows": rows}, indent=1) + "\n")
    write_whole(out / "summary.md", table(rows))
    print(f"\n{table(rows)}\nsaved in {out}")


if __name__ == "__main__":
    main()
