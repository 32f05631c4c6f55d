"""What the windows of `launch.py bench system` say: the bottleneck, and what to change.

The bottleneck is acting or learning, and the running system tells which, not its parts. It is learning where
the learner never waits: then the actors wait for it. Where it does wait, it waits for acting; but if the run
uses all cores, that says only who lost the race for them, and the bottleneck is what uses more of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.system.watched import Window
from configs.schema import Config

BUSY = 0.85
"""Of the cores in use, and no more can be had from them."""
PATIENT = 0.1
"""Of the time waiting, and the learner is what others wait for."""


@dataclass(frozen=True, slots=True)
class Use:
    """Means over all windows."""

    waited: float
    """Share of the time that the learner waited for rollouts (inline: that the actors were at work)."""
    cores: dict[str, float]
    """Cores in use, by group of processes (`Window.cpu_s`)."""
    us_per_step: dict[str, float]
    """CPU microseconds an agent step, without `others`."""

    @classmethod
    def of(cls, windows: Sequence[Window]) -> Use:
        seconds, steps = sum(w.seconds for w in windows), sum(w.steps for w in windows)
        groups = dict.fromkeys(group for window in windows for group in window.cpu_s)
        cpu = {group: sum(w.cpu_s.get(group, 0.0) for w in windows) for group in groups}
        return cls(
            waited=sum(w.waited_s for w in windows) / seconds,
            cores={group: spent / seconds for group, spent in cpu.items()},
            us_per_step={group: 1e6 * spent / steps for group, spent in cpu.items() if group != "others"},
        )

    def idle_cores(self, cores: int) -> int:
        return max(0, int(cores - sum(self.cores.values()) + 0.5))

    def takes_all(self, cores: int) -> bool:
        """The run itself, other programs aside, uses all cores."""
        return sum(used for group, used in self.cores.items() if group != "others") >= BUSY * cores


def bottleneck(use: Use, cores: int, inline: bool) -> str:
    """`acting` or `learning`."""
    if inline:  # one after the other in one process: the larger part of the time
        return "acting" if use.waited > 0.5 else "learning"
    if use.waited < PATIENT:
        return "learning"
    cost = use.us_per_step
    learns_more = cost.get("learner", 0.0) > cost.get("actors", 0.0)
    return "learning" if use.takes_all(cores) and learns_more else "acting"


def advice(config: Config, use: Use, parts: Mapping[str, float], cores: int, on_gpu: bool) -> str:
    """What to change, in one sentence. `parts`: agent steps a second of each alone."""
    inline, idle = config.runtime == "inline", use.idle_cores(cores)
    if bottleneck(use, cores, inline) == "learning":
        if on_gpu:
            return "a larger --batch-size, or a smaller network; fewer actors would do"
        threads = config.learner_threads or cores
        more = f"--learner-threads {threads + idle} (now {threads}), " if idle and threads < cores else ""
        return f"{more}a GPU for the learner (--device cuda), or a smaller network"
    if inline:
        return "--runtime ray, whose actors work beside the learner"
    if idle:
        cores_idle = "1 core is" if idle == 1 else f"{idle} cores are"
        return f"--num-actors {config.num_actors + idle} (now {config.num_actors}): {cores_idle} idle"
    if parts["inference"] < parts["env"]:
        costly = "its policy costs more than its environments: a larger --env.num-envs, or a smaller network"
    else:
        costly = "its environments cost more than its policy: a cheaper environment"
    elsewhere = "" if on_gpu else ", or a GPU for the learner, which leaves its cores to the actors"
    return f"{costly}; more cores (--num-actors, docs/cluster.md){elsewhere}"
