"""What is done to a run while it trains: kills, stops, a slow learner. At random, by one generator."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from tests.soak.watch import Watch

LONGEST_STOP_S = {"actor": 40.0, "rank": 15.0, "driver": 5.0, "raylet": 3.0, "gcs": 3.0}
"""Past `ray.stall_report_s` for an actor; for Ray's own processes within what Ray waits for them."""
SLOW_S = 20.0
"""For so long a learner is slow: stopped at three looks of four."""

ANY = {
    "kill actor": 5,
    "kill rank": 2,
    "stop actor": 2,
    "stop rank": 1,
    "slow rank": 1,
    "stop ray or driver": 1,
}
SPARING = {"kill actor": 6, "stop actor": 2, "slow rank": 1, "stop ray or driver": 1}
"""Kinds of faults and their weights: of the first part of a turn, and of the rest, in which the learner and
its first actor live long enough to show whether they grow."""


@dataclass(slots=True)
class Death:
    """A process that was killed, and when what it did was done again."""

    kind: str
    at: float
    """Monotonic seconds."""
    life: Any
    actor: int | None
    pid: int
    start: int
    """Lives seen so far."""
    back_s: float | None = None
    """Until the actor's next rollout, the learner's next update. None: not yet, or its learner died."""


@dataclass(slots=True)
class Held:
    """A process that is stopped until then; `slow`: but for one look of four."""

    process: psutil.Process
    until: float
    slow: bool
    looks: int = 0


@dataclass(slots=True)
class Faults:
    """Of a whole soak."""

    random: random.Random
    every_s: float
    counts: Counter[str] = field(default_factory=Counter[str])
    deaths: list[Death] = field(default_factory=list)
    _held: list[Held] = field(default_factory=list)
    _next: float = 0.0

    @property
    def kills(self) -> int:
        return sum(number for kind, number in self.counts.items() if kind.startswith("kill"))

    def step(self, watch: Watch, driver: psutil.Process, sparing: bool) -> str | None:
        """Ends what is over, notes what has come back, and does the next thing when it is due; what that was.
        While the learner is gone nothing is due."""
        now = time.monotonic()
        self._note_returns(watch, now)
        self._hold(now)
        if watch.life is None:
            self._next = max(self._next, now + 2.0)
            return None
        if now < self._next:
            return None
        self._next = now + self.random.expovariate(1 / self.every_s)
        weights = SPARING if sparing else ANY
        kind = self.random.choices(list(weights), list(weights.values()))[0]
        done = self._do(kind, watch, driver, sparing, now)
        if done is not None:
            self.counts[kind] += 1
        return done

    def release(self) -> None:
        """Nothing is stopped any more."""
        for held in self._held:
            with suppress(psutil.NoSuchProcess):
                held.process.send_signal(signal.SIGCONT)
        self._held.clear()

    # --- one fault -----------------------------------------------------------------------------

    def _do(self, kind: str, watch: Watch, driver: psutil.Process, sparing: bool, now: float) -> str | None:
        """None where there is nobody to do it to."""
        life = watch.life
        assert life is not None
        with suppress(psutil.NoSuchProcess):
            if "actor" in kind:
                rows = [row for row in watch.status["actors"] if row["pid"] and (row["actor"] or not sparing)]
                row = self.random.choice(rows) if rows else {"pid": None}
                process = _ours(row["pid"], driver, "ray::RolloutWor")
            elif "rank" in kind:
                if kind == "kill rank" and not watch.forgiven:
                    return None
                row, ranks = {"actor": None}, watch.status["ranks"]
                process = _ours(ranks[0]["pid"] if ranks else None, driver, "ray::Rank")
            else:
                role = self.random.choice(["driver", "raylet", "gcs"])
                family = [driver] if role == "driver" else driver.children(recursive=True)
                found = [one for one in family if role == "driver" or one.name().startswith(role)]
                return self._stop(role, found[0], now) if found else None
            if process is None or process.status() == psutil.STATUS_ZOMBIE:
                return None
            role = kind.split()[1]
            if kind.startswith("stop"):
                return self._stop(role, process, now)
            if kind == "slow rank":
                if any(held.process == process for held in self._held):
                    return None
                self._held.append(Held(process, now + SLOW_S, slow=True))
                return f"a slow learner for {SLOW_S:g} s"
            return self._kill(role, process, watch, row["actor"], now)
        return None

    def _stop(self, role: str, process: psutil.Process, now: float) -> str | None:
        if any(held.process == process for held in self._held):
            return None
        seconds = self.random.uniform(0.5, LONGEST_STOP_S[role])
        process.send_signal(signal.SIGSTOP)
        self._held.append(Held(process, now + seconds, slow=False))
        return f"{role} {process.pid} is stopped for {seconds:.1f} s"

    def _kill(
        self, role: str, process: psutil.Process, watch: Watch, actor: int | None, now: float
    ) -> str | None:
        life = watch.lives[-1]
        if role == "actor":
            life.actors_killed.append(time.time())
        else:
            life.end = "killed"
        process.kill()
        self.deaths.append(Death(role, now, life, actor, process.pid, len(watch.lives)))
        who = role if actor is None else f"{role} {actor}"
        return f"{who} (pid {process.pid}) is killed"

    # --- what comes of it ----------------------------------------------------------------------

    def _hold(self, now: float) -> None:
        kept: list[Held] = []
        for held in self._held:
            with suppress(psutil.NoSuchProcess):
                held.looks += 1
                over = now >= held.until
                if over or (held.slow and held.looks % 4 == 0):
                    held.process.send_signal(signal.SIGCONT)
                elif held.slow:
                    held.process.send_signal(signal.SIGSTOP)
                if not over:
                    kept.append(held)
        self._held = kept

    def _note_returns(self, watch: Watch, now: float) -> None:
        for death in self.deaths:
            if death.back_s is not None:
                continue
            if death.kind == "rank":
                later = watch.lives[death.start :]
                if death.life in watch.lives and any(life.last_step > life.start for life in later):
                    death.back_s = now - death.at
            elif death.life.end is None and death.life is (watch.lives[-1] if watch.lives else None):
                rows = [row for row in watch.status.get("actors", []) if row["actor"] == death.actor]
                if any(row["pid"] not in (None, death.pid) and row["rollouts"] for row in rows):
                    death.back_s = now - death.at


def _ours(pid: int | None, driver: psutil.Process, name: str) -> psutil.Process | None:
    """The process of this number, if it is what status.json takes it for: its number may be another's."""
    if pid is None:
        return None
    process = psutil.Process(pid)
    return process if process.name().startswith(name) and driver in process.parents() else None
