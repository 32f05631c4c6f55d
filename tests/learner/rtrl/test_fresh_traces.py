"""`rtrl.fresh_traces`: an update's gradient is that of full BPTT by autograd, under the present weights."""

from __future__ import annotations

from itertools import pairwise

import torch

from actors.policy import Policy, PolicyUnroll
from configs.schema import RtrlConfig
from learner.batcher import Batch
from learner.learner import Learner
from learner.objectives.vtrace import actor_critic_loss
from tests.learner.batches import DISTRIBUTION, SPEC, config, random_batch

T, B, KEPT = 6, 3, 2


def _learner() -> Learner:
    torch.manual_seed(0)
    options = RtrlConfig(fresh_traces=True, history_rollouts=KEPT)
    settings = config(rtrl=options, learning_rate=0.05, grad_norm_clipping=1e9)
    learner = Learner(Policy(SPEC, settings.policy).double(), settings, torch.device("cpu"))
    with torch.no_grad():  # larger weights, so that the past matters
        for parameter in learner.policy.core.recurrent_parameters():
            parameter.mul_(6.0)
    return learner


def _through(policy: Policy, batch: Batch, state: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Steps the policy over a rollout, with gradient: its outputs, and the state after x_{T-1}."""
    outputs = []
    for t in range(T + 1):
        arguments = (
            batch.observation[t],
            batch.reward[t],
            batch.reset[t],
            (state,),
            batch.previous_action[t],
        )
        step = policy.step(*arguments)
        outputs.append(torch.cat([step.logits, step.baseline[:, None]], -1))
        if t < T:
            (state,) = step.state
    return outputs, state


def _exact(policy: Policy, past: list[Batch], batch: Batch) -> dict[str, torch.Tensor]:
    """The last batch's gradient through `past` too, unrolled anew under the present weights. The actor's own
    state begins the last batch: only its derivative is that of the recomputed one."""
    state = past[0].initial_state[0] if past else batch.initial_state[0]
    for rollout in past:
        _, state = _through(policy, rollout, state)
    start = batch.initial_state[0] + (state - state.detach())
    outputs = torch.stack(_through(policy, batch, start)[0])
    values = outputs[..., -1]
    unroll = PolicyUnroll(outputs[:T, :, :-1], values[:T], values[1:].detach(), None)
    loss = actor_critic_loss(unroll, DISTRIBUTION, batch, config())
    core = {f"core.{n}": p for n, p in policy.core.named_parameters() if "output_gate" not in n}
    return dict(zip(core, torch.autograd.grad(loss.total, list(core.values())), strict=True))


def test_every_update_has_the_gradient_of_full_bptt_over_the_history_kept() -> None:
    learner = _learner()
    ends = [(2, 1, "terminated"), (4, 2, "truncated")]
    batches = [random_batch(T, B, seed=n, ends=ends[n % 2 :][:1], piece=(0, 7, n)) for n in range(5)]
    for before, after in pairwise(batches):
        with torch.no_grad():
            after.initial_state[0].copy_(_through(learner.policy, before, before.initial_state[0])[1])
    for number, batch in enumerate(batches):
        kept = batches[max(0, number - KEPT) : number]
        expected, cut = (_exact(learner.policy, past, batch) for past in (kept, []))
        learner.update(batch)
        for name, parameter in learner.policy.named_parameters():
            if name in expected:
                torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-10, atol=1e-12)
        if number:  # and the past has a part in it
            assert max(float((expected[n] - cut[n]).norm() / expected[n].norm()) for n in cut) > 1e-3
