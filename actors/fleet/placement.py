"""Where actors are placed: anywhere but on the nodes that are avoided, and what is told of these."""

from __future__ import annotations

from typing import Any

from actors.fleet.health import AVOID_S, NODE_FAILURES, Health
from actors.fleet.nodes import actor_nodes, node_name
from configs.schema import Config


def resources(config: Config, threads: int | None = None) -> dict[str, float]:
    """What an actor takes of its node: a CPU for each of its threads, and its share of a GPU where its policy
    is on one. An evaluator has `threads` of its own."""
    gpus = 0.0 if config.acting_device == "cpu" else config.ray.actor_gpus
    return {"num_cpus": config.env.threads if threads is None else threads, "num_gpus": gpus}


class Placement:
    def __init__(self, config: Config, health: Health) -> None:
        self._resources = resources(config)
        self._health = health
        self.avoided: frozenset[str] = frozenset()
        """Ids of nodes, as of the last look."""

    def options(self) -> dict[str, Any]:
        """For Ray, of a new actor. Spread: the loss of a node costs few actors, and the learner's node keeps
        CPUs for the learner."""
        options: dict[str, Any] = {"scheduling_strategy": "SPREAD", **self._resources}
        if self.avoided:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(self.avoided))})"}
        return options

    def look(self, now: float) -> None:
        """Takes up what has become of the nodes since the last look, and tells it."""
        nodes = actor_nodes(self._resources["num_cpus"], self._resources["num_gpus"])
        before, self.avoided = self.avoided, self._health.avoided(nodes, now)
        for node_id in sorted((before - self.avoided).intersection(nodes)):
            print(f"actors may be placed on {node_name(node_id)} again", flush=True)
        for node_id in sorted(self.avoided - before):
            why = (
                "actors of this run cannot live there"
                if self._health.is_unfit(node_id)
                else f"{NODE_FAILURES} actors in a row failed there. It is tried again in {AVOID_S:g} s"
            )
            print(f"{node_name(node_id)} is avoided: {why}", flush=True)
