"""The books of a soak find what does not balance, and nothing where everything does."""

from __future__ import annotations

import pytest

from tests.soak.books import Life, balance, chain_faults, life_faults

T = 5
NOTHING = {
    **{f"unrolls/{name}": 0.0 for name in ("under_way", "lost_calls", "lost_actors", "let_go", "missing")},
    **{f"unrolls/{name}": 0.0 for name in ("asked", "arrived", "dropped", "waiting")},
    **{
        f"faults/{name}": 0.0 for name in ("actor_restarts", "env_errors", "sink_errors", "checkpoint_errors")
    },
    "faults/nonfinite_metrics": 0.0,
    "rtrl/trace_breaks": 0.0,
}


def row(step: int, wall_time: float, **unrolls: float) -> dict[str, float]:
    named = {f"unrolls/{name}": number for name, number in unrolls.items()}
    return NOTHING | named | {"global_step": step, "wall_time": wall_time}


def shaken() -> Life:
    """From step 100 with 4 streams an actor: one is killed and replaced, one answer lost, 4 dropped."""
    rows = [
        row(140, 10.0, asked=24, under_way=8, arrived=16, waiting=8),
        row(200, 20.0, asked=52, under_way=8, arrived=36, waiting=12, dropped=4, lost_calls=4, lost_actors=4)
        | {"unrolls/missing": 4.0, "faults/actor_restarts": 1.0, "rtrl/trace_breaks": 12.0},
    ]
    return Life("run, life 0", 100, T, 4, True, rows, [12.0], "stopped")


def test_a_life_that_balances_is_found_to() -> None:
    assert life_faults(shaken(), 5.0) == []
    after = Life("run, life 1", 200, T, 4)
    assert chain_faults([shaken(), after]) == []
    assert balance([shaken(), after]) == {
        **{"asked": 52, "learned": 20, "dropped": 4, "lost_calls": 4, "lost_actors": 4, "let_go": 0},
        **{"at_end": 20, "missing": 4, "taken_back": 0},
    }


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"unrolls/asked": 53.0}, "asked for 53 unrolls, and 52 are accounted for"),
        ({"unrolls/lost_actors": 0.0}, "asked for 52 unrolls, and 48 are accounted for"),
        ({"unrolls/waiting": 11.0}, "36 unrolls arrived, and 35 were learned from (100 steps)"),
        ({"unrolls/dropped": 0.0}, "36 unrolls arrived, and 32 were"),
        ({"global_step": 205}, "36 unrolls arrived, and 37 were learned from (105 steps)"),
        ({"global_step": 203}, "36 unrolls arrived, and 36 were learned from (103 steps)"),
        ({"unrolls/missing": 8.0}, "8 unrolls are missing, and 4 lost with calls"),
        ({"unrolls/missing": -4.0}, "-4 unrolls are missing"),
        ({"faults/actor_restarts": 2.0}, "2 actors were replaced, and 1 killed"),
        ({"faults/actor_restarts": 0.0}, "1 actors were killed, and 0 replaced"),
        ({"rtrl/trace_breaks": 13.0}, "13 streams broke, and 12 had a reason to"),
        ({"faults/env_errors": 1.0}, "faults/env_errors = 1"),
        ({"unrolls/asked": 20.0}, "unrolls/asked falls from 24 to 20"),
    ],
)
def test_what_does_not_balance_is_found(changes: dict[str, float], fault: str) -> None:
    life = shaken()
    life.rows[1] = {**life.rows[1], **changes}
    assert any(fault in found for found in life_faults(life, 5.0)), life_faults(life, 5.0)


def test_a_loss_needs_a_name() -> None:
    rows = [row(100, 10.0, asked=12, under_way=8, lost_calls=4)]
    assert life_faults(Life("a", 100, T, 4, True, rows, [], "killed"), 5.0) == []
    assert life_faults(Life("a", 100, T, 4, False, rows, [9.0], "killed"), 5.0) == []
    (found,) = life_faults(Life("a", 100, T, 4, False, rows, [], "killed"), 5.0)
    assert "4 unrolls were lost, and neither an actor nor a call" in found
    (found,) = life_faults(Life("a", 100, T, 4, False, [], [], "failed"), 5.0)
    assert found == "a: ended by itself"


def test_steps_that_a_stop_lost_or_that_came_from_nowhere_are_found() -> None:
    before = shaken()
    (found,) = chain_faults([before, Life("b", 180, T, 4)])
    assert found == "b begins at step 180, and 200 was stopped at"
    before.end = "killed"
    assert chain_faults([before, Life("b", 180, T, 4)]) == []
    assert balance([before, Life("b", 180, T, 4)])["taken_back"] == 4
    assert chain_faults([before, Life("b", 260, T, 4)]) == [], "saved after the last row, and then killed"
    assert balance([before, Life("b", 260, T, 4)])["taken_back"] == 0
    (found,) = chain_faults([before, Life("b", 265, T, 4)])
    assert found == "b begins at step 265, and 200 was the last"
