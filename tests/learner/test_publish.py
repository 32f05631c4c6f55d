"""Weights that were published: by version, as they were then."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from learner.publish import HostCopy, LocalPublisher


def test_a_source_gives_newer_weights_only() -> None:
    publisher, policy = LocalPublisher(), torch.nn.Linear(2, 1)
    assert publisher.source.fetch(-1) is None
    publisher.publish(policy, 4)
    newest = publisher.source.fetch(3)
    assert newest is not None and newest.version == 4
    assert publisher.source.fetch(4) is None and publisher.source.fetch(5) is None
    publisher.publish(policy, 5)
    newest = publisher.source.fetch(4)
    assert newest is not None and newest.version == 5
    publisher.close()
    assert publisher.source.fetch(-1) is None


def test_published_weights_stay_what_they_were_while_training_goes_on() -> None:
    policy = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    taken = HostCopy(policy, 7).snapshot()
    before = {name: tensor.clone().numpy() for name, tensor in policy.state_dict().items()}
    assert taken.version == 7 and taken.arrays.keys() == before.keys()
    with torch.no_grad():
        for tensor in policy.state_dict().values():
            tensor.add_(1)
    for name, array in before.items():
        np.testing.assert_array_equal(taken.arrays[name], array)


def test_tensors_of_a_dtype_travel_as_one_and_are_read_by_name() -> None:
    layers = torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1).double()
    policy = torch.nn.Sequential(*layers)
    taken = HostCopy(policy, 7).snapshot()
    sizes = {dtype: array.shape for dtype, array in taken.flat.items()}
    assert sizes == {"float32": (2 * 3 + 3 + 4 * 3,), "int64": (1,), "float64": (3 + 1,)}
    again = pickle.loads(pickle.dumps(taken))
    for name, tensor in policy.state_dict().items():
        for snapshot in (taken, again):
            array = snapshot.arrays[name]
            np.testing.assert_array_equal(array, tensor.numpy(), strict=True)
            assert np.shares_memory(array, snapshot.flat[str(array.dtype)])


def test_the_board_of_weights_starts_without_torch() -> None:
    """Which takes seconds, and 200 MB, of every run through Ray."""
    program = "import sys, learner.board; print('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    assert subprocess.check_output([sys.executable, "-c", program], cwd=root, text=True) == "False\n"
