"""The books of a soak: what every row of metrics says, held against each other and against what was done to
the run. Pure: rows in, faults out.

A life is one process of the learner, from one line of starts.jsonl to the next. Within it every row must say

    asked   = under_way + arrived + lost_calls + lost_actors + let_go
    arrived = learned + dropped + waiting               learned: steps since its start, divided by T

and what was lost must have a name: actors are replaced no more often than they were killed, streams break no
more often than actors were replaced and rollouts lost or dropped, and calls are lost only where they are made
to be, or with an actor that was killed. Between lives steps go back to a checkpoint, which may be younger
than the last row, but by no more than is between two rows; and after a clean stop not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

Row = Mapping[str, float]
End = Literal["stopped", "killed", "failed"]

ENDS = ("under_way", "arrived", "lost_calls", "lost_actors", "let_go")
TOTALS = (*ENDS[1:], "asked", "dropped", "missing")
AT_REST = ("faults/env_errors", "faults/sink_errors", "faults/checkpoint_errors", "faults/nonfinite_metrics")
"""Of what no fault that is injected causes."""


@dataclass(slots=True)
class Life:
    """One process of the learner."""

    name: str
    start: int
    """Step of the checkpoint that it began from."""
    unroll_length: int
    widest: int
    """Streams of the actor that carries most."""
    lossy: bool = False
    """Calls get lost on purpose."""
    rows: list[Row] = field(default_factory=list)
    actors_killed: list[float] = field(default_factory=list)
    """When, in Unix seconds."""
    end: End | None = None
    """How it ended; None while it lasts. `killed`: by us. `failed`: by itself."""

    @property
    def last_step(self) -> int:
        return int(self.rows[-1]["global_step"]) if self.rows else self.start

    @property
    def window(self) -> int:
        """Steps between two rows at most: after the last one a checkpoint may be so much further on."""
        steps = [self.start, *(int(row["global_step"]) for row in self.rows)]
        return max((after - before for before, after in pairwise(steps)), default=0)


def row_faults(life: Life, row: Row, before: Row | None) -> list[str]:
    """What is wrong with one row, of its life after the row `before`."""
    unrolls = {name: int(row[f"unrolls/{name}"]) for name in (*TOTALS, "under_way", "waiting")}
    found = []
    if unrolls["asked"] != (ends := sum(unrolls[name] for name in ENDS)):
        found.append(f"asked for {unrolls['asked']} unrolls, and {ends} are accounted for")
    steps = int(row["global_step"]) - life.start
    learned, rest = divmod(steps, life.unroll_length)
    known = learned + unrolls["dropped"] + unrolls["waiting"]
    if rest or unrolls["arrived"] != known:
        found.append(
            f"{unrolls['arrived']} unrolls arrived, and {known} were learned from ({steps} steps), were "
            "dropped or wait"
        )
    if not 0 <= unrolls["missing"] <= unrolls["lost_calls"]:
        found.append(f"{unrolls['missing']} unrolls are missing, and {unrolls['lost_calls']} lost with calls")
    restarts = int(row["faults/actor_restarts"])
    killed = sum(when <= row["wall_time"] for when in life.actors_killed)
    if restarts > killed:
        found.append(f"{restarts} actors were replaced, and {killed} killed")
    lost = unrolls["lost_calls"] + unrolls["lost_actors"]
    if lost and not killed and not life.lossy:
        found.append(f"{lost} unrolls were lost, and neither an actor nor a call")
    gaps = restarts * life.widest + unrolls["missing"] + unrolls["dropped"]
    if (breaks := int(row.get("rtrl/trace_breaks", 0))) > gaps:
        found.append(f"{breaks} streams broke, and {gaps} had a reason to")
    found += [f"{name} = {row[name]:g}" for name in AT_REST if row[name]]
    if before is not None:
        names = [f"unrolls/{name}" for name in TOTALS] + ["global_step", "faults/actor_restarts"]
        found += [
            f"{name} falls from {before[name]:g} to {row[name]:g}"
            for name in names
            if row[name] < before[name]
        ]
    return [f"{life.name}, step {int(row['global_step']):,}: {what}" for what in found]


def life_faults(life: Life, patience_s: float) -> list[str]:
    """What is wrong with a life. An actor that was killed so long before the last row was replaced."""
    found: list[str] = []
    for before, row in zip([None, *life.rows], life.rows, strict=False):
        found += row_faults(life, row, before)
    if life.rows:
        last = life.rows[-1]
        due = sum(when + patience_s < last["wall_time"] for when in life.actors_killed)
        if (seen := int(last["faults/actor_restarts"])) < due:
            found.append(f"{life.name}: {due} actors were killed, and {seen} replaced")
    if life.end == "failed":
        found.append(f"{life.name}: ended by itself")
    return found


def chain_faults(lives: list[Life]) -> list[str]:
    """What is wrong between the lives of one run: steps that came from nowhere, or were lost at a stop."""
    found = []
    for before, after in pairwise(lives):
        if after.start > before.last_step + before.window:
            found.append(
                f"{after.name} begins at step {after.start:,}, and {before.last_step:,} was the last"
            )
        if before.end == "stopped" and after.start != before.last_step:
            found.append(
                f"{after.name} begins at step {after.start:,}, and {before.last_step:,} was stopped at"
            )
    return found


def balance(lives: list[Life]) -> dict[str, int]:
    """The totals of all lives, by their last rows, in unrolls: asked for, learned from, dropped, lost with
    calls, with actors, let go; and with the lives themselves: under way or waiting at their end, and learned
    from after the checkpoint that the next one began from (`taken_back`, which `learned` contains)."""
    total: dict[str, int] = dict.fromkeys(
        ("asked", "learned", "dropped", "lost_calls", "lost_actors", "let_go", "at_end"), 0
    )
    for life in lives:
        if not life.rows:
            continue
        last = life.rows[-1]
        for name in ("asked", "dropped", "lost_calls", "lost_actors", "let_go"):
            total[name] += int(last[f"unrolls/{name}"])
        total["learned"] += (life.last_step - life.start) // life.unroll_length
        total["at_end"] += int(last["unrolls/under_way"] + last["unrolls/waiting"])
    total["missing"] = sum(int(life.rows[-1]["unrolls/missing"]) for life in lives if life.rows)
    total["taken_back"] = sum(
        max(0, before.last_step - after.start) // before.unroll_length for before, after in pairwise(lives)
    )
    return total
