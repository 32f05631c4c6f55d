"""What a soak has shown, as JSON and as tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import median
from typing import Any

from tests.soak.faults import Death


def times(seconds: Sequence[float]) -> dict[str, float | int]:
    if not seconds:
        return {"count": 0}
    return {"count": len(seconds), "median_s": round(median(seconds), 1), "max_s": round(max(seconds), 1)}


def returns(deaths: Sequence[Death]) -> dict[str, Any]:
    """From a death to the next rollout or update; and how many never came to it, as their learner died or the
    turn was over before."""
    found: dict[str, Any] = {}
    for kind, what in (
        ("actor", "an actor's death to its next rollout"),
        ("rank", "a learner's to an update"),
    ):
        of_kind = [death for death in deaths if death.kind == kind]
        back = [death.back_s for death in of_kind if death.back_s is not None]
        found[what] = times(back) | {"not within its life": len(of_kind) - len(back)}
    return found


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "# A soak: runs that are killed, stopped and starved at random",
        "",
        f"`{result['command']}`: {result['minutes']:.1f} minutes, "
        f"{result['turns']} turns of {result['turn_s']:.0f} s, {result['kills']} kills. "
        + ("Everything held." if not result["faults"] else f"{len(result['faults'])} faults were found."),
        "",
    ]
    lines += [f"- FAULT: {fault}" for fault in result["faults"][:50]]
    lines += ["", "## What was done", "", "| fault | times |", "|---|---|"]
    lines += [f"| {kind} | {number} |" for kind, number in result["injected"].items()]
    lines += ["", "## How long it took", "", "| from | times | median s | longest s | not within its life |"]
    lines += ["|---|---|---|---|---|"]
    for what, row in result["times"].items():
        cells = [str(row.get(name, "-")) for name in ("count", "median_s", "max_s", "not within its life")]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    lines += ["", "## What became of every unroll that actors were asked for", ""]
    names = list(next(iter(result["balance"].values()), {}))
    lines += [f"| run | steps | lives | {' | '.join(names)} |", "|---" * (3 + len(names)) + "|"]
    for run, row in result["balance"].items():
        told = result["runs"][run]
        cells = [f"{row[name]:,}" for name in names]
        lines.append(f"| {run} | {told['steps']:,} | {told['lives']} | {' | '.join(cells)} |")
    lines += [
        "",
        "asked = learned + dropped + lost_calls + lost_actors + let_go + at_end. `at_end`: under way or "
        "waiting when their learner ended. `missing` are among lost_calls, `taken_back` among learned. "
        f"{result['rows']:,} rows were held against this.",
        "",
        "## Growth, an hour",
        "",
        f"Least squares within each process, but for its first {result['warm_s']:.0f} s. What was seen for "
        "too short a time has no limit.",
        "",
        "| what | quantity | an hour | limit | largest | lives | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["slopes"]:
        limit = "-" if row["limit"] is None else f"{row['limit']:g}"
        cells = [row["role"], row["quantity"], f"{row['per_hour']:+.2f}", limit, f"{row['largest']:.1f}"]
        lines.append(f"| {' | '.join([*cells, str(row['lives']), str(round(row['seconds']))])} |")
    lines += ["", "```json", json.dumps(result["machine"], indent=2), "```", ""]
    return "\n".join(lines)
