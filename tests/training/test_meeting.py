"""Ranks find each other on loopback, and do not begin with weights that differ."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection

import psutil
import pytest
import torch

from actors.policy import Policy
from configs.schema import RayConfig
from learner.learner import Learner
from tests.integration.cli import PATIENCE_S
from tests.learner.batches import SPEC, config
from training.meeting import Meeting


def _rank(number: int, seeds: tuple[int, int], pipe: Connection) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seeds[number])
    settings = config(num_learners=2, num_streams=4, batch_size=2, ray=RayConfig(start_timeout_s=1e6))
    meeting = Meeting(number, settings)
    learner = Learner(Policy(SPEC, settings.policy), settings, torch.device("cpu"), meeting.ranks)
    pipe.send(meeting.port)
    try:
        meeting.join(pipe.recv(), learner)
    except RuntimeError as error:
        pipe.send(str(error))
    else:
        listening = [c for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN]
        pipe.send({c.laddr.ip for c in listening})
    pipe.recv()  # the first one has gathered


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1)])
def test_they_meet_on_loopback_and_only_with_the_same_weights(seeds: tuple[int, int]) -> None:
    context = multiprocessing.get_context("spawn")
    pipes, ranks = [], []
    for number in range(2):
        mine, its = context.Pipe()
        ranks.append(context.Process(target=_rank, args=(number, seeds, its)))
        ranks[-1].start()
        pipes.append(mine)
    port, none = (pipe.recv() for pipe in pipes)
    assert port > 0 and none is None
    for pipe in pipes:
        pipe.send(port)
    found = []
    for pipe in pipes:
        assert pipe.poll(PATIENCE_S)
        found.append(pipe.recv())
    for pipe, rank in zip(pipes, ranks, strict=True):
        pipe.send(None)
        rank.join(PATIENCE_S)
    if seeds == (0, 1):
        assert found[0] == "the learners do not begin with the same weights"
    else:
        assert found[0] and all(ip.removeprefix("::ffff:") == "127.0.0.1" for ip in found[0] | found[1])
