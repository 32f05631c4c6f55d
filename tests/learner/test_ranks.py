"""Two ranks, joined by gloo, are one learner of their joint batch, to float64 rounding: weights, moments,
traces, counters. One has fewer columns than the other, and none in one of the updates. And one that is killed
holds the other up no longer than it takes to see it."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed import FileStore  # pyright: ignore[reportPrivateImportUsage]

from actors.output import leave
from actors.policy import Policy
from configs.schema import Config
from learner.batcher import Batch, StreamPiece
from learner.learner import Learner
from learner.ranks import Agreed, Alone, Joined, RankLostError, Ranks
from tests.integration.cli import PATIENCE_S
from tests.learner.batches import SPEC, config, random_batch

T, COLUMNS, UPDATES = 6, (2, 1), 4
IDLE = 2
"""In this update rank 1 has no batch."""
OPTIONS: dict[str, dict[str, Any]] = {
    "elstm": {"grad_norm_clipping": 0.5},
    "rtu": {"optimizer": "adam"},
    "lstm": {"credit": "tbptt", "grad_norm_clipping": 0.5},
    "normalised": {"normalise_rewards": True},
}
"""By core, but for the last: an eLSTM beside which observations and rewards are normalised."""


def _config(core: str, columns: int) -> Config:
    normalised = core == "normalised"
    policy = dataclasses.replace(
        config().policy, core="elstm" if normalised else core, normalise_observations=normalised
    )
    streams = {"num_streams": columns, "batch_size": columns}
    return config(policy=policy, learning_rate=0.05, total_steps=1000, **streams, **OPTIONS[core])


def _batch(core: str, update: int, first: int, columns: int) -> Batch:
    """Those columns of the joint batch of an update, as streams 0, 1, ... of whoever learns from it."""
    ends = [(2, 1, "terminated"), (update, 0, "truncated"), (T - 1, 2, "terminated")]
    whole = random_batch(T, sum(COLUMNS), seed=update, ends=ends)
    state = whole.initial_state
    if core in ("rtu", "lstm"):
        g = torch.Generator().manual_seed(update)
        template = Policy(SPEC, _config(core, 1).policy).double().core.initial_state(sum(COLUMNS))
        state = tuple(torch.randn(part.shape, generator=g, dtype=torch.float64) for part in template)
    chosen = slice(first, first + columns)
    timed = {
        field: getattr(whole, field)[:, chosen]
        for field in ("observation", "reward", "terminated", "truncated", "reset", "action")
    }
    timed |= {name: getattr(whole, name)[:, chosen] for name in ("behaviour_logits", "previous_action")}
    return dataclasses.replace(
        whole,
        **timed,
        initial_state=tuple(part[chosen] for part in state),
        streams=[StreamPiece(0, 7, update, columns)],
        policy_version_min=whole.policy_version_min[chosen],
    )


def _learner(core: str, columns: int, ranks: Ranks) -> Learner:
    torch.manual_seed(0)
    policy = Policy(SPEC, _config(core, columns).policy).double()
    return Learner(policy, _config(core, columns), torch.device("cpu"), ranks)


def _flat(state: Any, name: str = "") -> dict[str, np.ndarray]:
    if isinstance(state, torch.Tensor):
        return {name: state.numpy()}
    if isinstance(state, Mapping):
        items = state.items()
    elif isinstance(state, list | tuple):
        items = enumerate(state)
    else:
        return {}
    return {path: array for key, value in items for path, array in _flat(value, f"{name}/{key}").items()}


def _rank(number: int, core: str, folder: str) -> None:
    torch.set_num_threads(1)
    store = FileStore(f"{folder}/store", 2)
    ranks = Joined(number, 2)
    ranks.join(store, torch.device("cpu"), PATIENCE_S)
    learner = _learner(core, COLUMNS[number], ranks)
    for update in range(UPDATES):
        idle = number == 1 and update == IDLE
        mine = 0 if idle else T * COLUMNS[number]
        agreed = ranks.agree(ending=False, steps=mine)
        there = 1 if update == IDLE else 2
        assert agreed == Agreed(0, there, 0, T * (2 if update == IDLE else 3), False) and agreed.step
        if idle:
            learner.follow(agreed.steps)
        else:
            learner.launch(_batch(core, update, 2 * number, COLUMNS[number]), agreed.steps)
            learner.read()
    assert ranks.agree(ending=number == 1, steps=0) == Agreed(1, 0, 0, 0, False)
    np.savez(
        f"{folder}/{number}.npz", counters=[learner.updates, learner.global_step], **_flat(_state(learner))
    )
    ranks.close()


def _left_alone(number: int, folder: str) -> None:
    """Rank 1 is killed when both have agreed on a step, and rank 0 is in its sum."""
    ranks = Joined(number, 2)
    ranks.join(FileStore(f"{folder}/store", 2), torch.device("cpu"), 1e6)
    ranks.agree(ending=False, steps=1)
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        ranks.add_up([torch.ones(3)])
    except RankLostError as error:
        Path(folder, "said").write_text(str(error))
    leave()  # as any rank ends: gloo's thread that is not done with the sum aborts in the interpreter's end


def _state(learner: Learner) -> dict[str, Any]:
    state = learner.state_dict()
    return {name: state[name] for name in ("policy", "optimizer", "rewards", "traces")}


@pytest.mark.parametrize("core", OPTIONS)
def test_two_ranks_are_one_learner_of_their_joint_batch(core: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=_rank, args=(number, core, str(tmp_path))) for number in range(2)]
    for rank in ranks:
        rank.start()
    alone = _learner(core, 3, Alone())
    for update in range(UPDATES):
        columns = 2 if update == IDLE else 3
        alone.launch(_batch(core, update, 0, columns))
        alone.read()
    for rank in ranks:
        rank.join(PATIENCE_S)
        assert rank.exitcode == 0
    expected = _flat(_state(alone))
    assert any(name.startswith("/traces") for name in expected) == (core != "lstm")
    for number, rows in enumerate((slice(0, 2), slice(2, 3))):
        found = dict(np.load(tmp_path / f"{number}.npz"))
        assert found.pop("counters").tolist() == [alone.updates, alone.global_step]
        assert found.keys() == expected.keys()
        for name, array in found.items():
            if name.startswith("/traces") and array.dtype.kind == "f":
                mine = expected[name][rows]
            elif name.startswith("/traces"):
                continue  # whose rows they are: of the rank's own streams
            else:
                mine = expected[name]
            np.testing.assert_allclose(array, mine, rtol=1e-12, atol=1e-14, err_msg=f"rank {number}{name}")


def test_a_rank_whose_fellow_is_killed_in_a_sum_says_so_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=_left_alone, args=(number, str(tmp_path))) for number in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(PATIENCE_S)
    assert [rank.exitcode for rank in ranks] == [0, -signal.SIGKILL]
    assert "gloo" in (tmp_path / "said").read_text().lower()
