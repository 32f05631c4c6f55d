"""How the ranks of a learner find each other, once all are built, and make sure that they begin alike."""

from __future__ import annotations

from configs.schema import Config
from learner.learner import Learner
from learner.ranks import Alone, Joined, RanksDifferError, fingerprint, open_store, store_at


class Meeting:
    """Of one rank with the others, if there are any."""

    def __init__(self, number: int, config: Config) -> None:
        limits = config.ray
        self._timeout_s = limits.start_timeout_s + limits.learner_timeout_s
        self.ranks = Alone() if config.num_learners == 1 else Joined(number, config.num_learners)
        self._store = None if self.ranks.of == 1 or number > 0 else open_store()

    @property
    def port(self) -> int | None:
        """Where the others find the first one."""
        return None if self._store is None else self._store.port

    def join(self, port: int | None, learner: Learner) -> None:
        """Waits for all. Raises RankLostError where one is gone, RanksDifferError on the first where another
        does not have the same weights."""
        if isinstance(self.ranks, Alone):
            return
        assert port is not None, "the first rank has said where"
        self.ranks.join(self._store or store_at(port), learner.device, self._timeout_s)
        mine = fingerprint(learner.policy, learner.updates, learner.global_step)
        if any(other != mine for other in self.ranks.gather(mine)):
            raise RanksDifferError("the learners do not begin with the same weights")
