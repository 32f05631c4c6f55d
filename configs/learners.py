"""Several learners of one run, and what each of them has of it: an equal part.

    num_streams, num_actors, batch_size --num_learners equal parts--> learner 0, learner 1, ...

What a run learns is decided by the totals, however many learners share them. A stream has a number of the
whole run, which no number of learners changes; learner k has those of the k-th part.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from configs.error import require

if TYPE_CHECKING:
    from configs.schema import Config


@dataclass(frozen=True, slots=True)
class Part:
    """Which of the equal parts of a run."""

    number: int = 0
    of: int = 1


WHOLE = Part()


def part_of(config: Config) -> Config:
    """The run of one of its learners: with a part of the streams, the actors and the batch."""
    learners = config.num_learners
    return dataclasses.replace(
        config,
        num_learners=1,
        num_streams=config.num_streams // learners,
        num_actors=config.num_actors // learners,
        batch_size=config.batch_size // learners,
    )


def check_learners(config: Config) -> None:
    """Raises ConfigError where several learners cannot share the run."""
    learners = config.num_learners
    require(learners >= 1, "num_learners", learners, "needs at least 1")
    if learners == 1:
        return
    require(
        config.runtime == "ray",
        "num_learners",
        learners,
        "inline there is one process, and one learner: set runtime = 'ray'",
    )
    for name in ("num_streams", "num_actors", "batch_size"):
        total = getattr(config, name)
        more = (total // learners + 1) * learners
        require(
            total % learners == 0,
            name,
            total,
            f"num_learners = {learners} take equal parts of it: set a multiple, such as {more}",
        )
    slots, streams = config.env.num_envs, config.num_streams // learners
    require(
        config.num_actors > 0 or not slots or streams % slots == 0,
        "env.num_envs",
        slots,
        f"actors of so many slots do not make the {streams} streams of each of num_learners = {learners}: "
        "set 0, which chooses, or change one of them",
    )
    require(
        config.device in ("auto", "cpu", "cuda"),
        "device",
        config.device,
        f"num_learners = {learners} have a GPU each, from cuda:0 on: set 'auto', 'cuda' or 'cpu'",
    )
    require(
        config.objective == "vtrace",
        "objective",
        config.objective,
        f"its losses are means over parts of a batch, which num_learners = {learners} do not join; set "
        "'vtrace', whose loss is a sum, or num_learners = 1",
    )
