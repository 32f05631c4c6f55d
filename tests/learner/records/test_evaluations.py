"""When an evaluation is asked for, and what is logged of it: with an evaluator that plays when told to."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from learner.records.evaluations import Evaluations
from learner.records.metrics import Metrics


@dataclass
class _Evaluation:
    episodes: list[int] = field(default_factory=lambda: [1, 2, 3])
    mean: float = 2.0
    std: float = 0.5
    mean_length: float = 40.0
    score_suite: str | None = "atari57"
    scores: dict[str, float] = field(default_factory=lambda: {"pong": 12.0})


@dataclass
class _Finished:
    global_step: int
    evaluation: _Evaluation = field(default_factory=_Evaluation)


class _Evaluator:
    """Plays one evaluation at a time: `busy` until `play`, or at once."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.asked: list[int] = []
        self.errors = 0
        self.fails = False
        self._at_once = at_once
        self._pending: deque[int] = deque()
        self._done: deque[_Finished] = deque()

    def request(self, global_step: int) -> bool:
        if self._pending:
            return False
        self.asked.append(global_step)
        self._pending.append(global_step)
        if self._at_once:
            self.play()
        return True

    def play(self) -> None:
        step = self._pending.popleft()
        if self.fails:
            self.errors += 1
        else:
            self._done.append(_Finished(step))

    def finished(self, timeout_s: float = 0.0) -> _Finished | None:
        return self._done.popleft() if self._done else None


def test_one_is_asked_for_where_a_multiple_of_the_interval_is_passed() -> None:
    evaluator = _Evaluator()
    evaluations = Evaluations(evaluator, 100, 0, Metrics())
    for step in range(30, 400, 30):
        evaluations.poll(step)
    assert evaluator.asked == [120, 210, 300]


def test_a_resumed_run_does_not_evaluate_again_what_it_had() -> None:
    evaluator = _Evaluator()
    evaluations = Evaluations(evaluator, 100, 250, Metrics())
    for step in (260, 290, 310):
        evaluations.poll(step)
    assert evaluator.asked == [310]


def test_one_that_is_due_while_another_is_played_is_asked_for_afterwards() -> None:
    evaluator = _Evaluator(at_once=False)
    evaluations = Evaluations(evaluator, 100, 0, Metrics())
    for step in (100, 200, 230):
        evaluations.poll(step)
    assert evaluator.asked == [100]
    evaluator.play()
    evaluations.poll(260)
    assert evaluator.asked == [100, 260]


def test_what_is_logged() -> None:
    metrics = Metrics()
    Evaluations(_Evaluator(), 100, 0, metrics).poll(100)
    logged = metrics.reduce()
    assert {name: logged[name] for name in logged if not name.startswith("faults/")} == {
        "eval/episodic_return": 2.0,
        "eval/episodic_return_std": 0.5,
        "eval/episodic_length": 40.0,
        "eval/episodes": 3.0,
        "eval/global_step": 100.0,
        "suite/atari57/pong": 12.0,
    }


def test_the_last_weights_are_evaluated_once_at_the_end() -> None:
    evaluator, metrics = _Evaluator(), Metrics()
    evaluations = Evaluations(evaluator, 100, 0, metrics)
    evaluations.poll(100)
    evaluations.finish(150, lambda: False)
    assert evaluator.asked == [100, 150] and metrics.reduce()["eval/global_step"] == 150.0
    evaluations.finish(150, lambda: False)
    assert evaluator.asked == [100, 150]


def test_a_last_evaluation_that_fails_or_is_not_wanted_does_not_hold_the_run_up() -> None:
    evaluator, metrics = _Evaluator(), Metrics()
    evaluator.fails = True
    Evaluations(evaluator, 100, 0, metrics).finish(150, lambda: False)
    assert evaluator.asked == [150] and metrics.reduce()["faults/eval_errors"] == 1.0
    Evaluations(evaluator, 100, 0, metrics).finish(150, lambda: True)
    assert evaluator.asked == [150]
