"""Epochs, minibatches, states and traces of PPO: each gradient step against the policy stepped by autograd.

The oracle knows two policies. `old` runs up to a sub-chunk, `policy` runs through it: with stale states and
traces `old` holds the weights of before the first epoch, with fresh ones the present. What reaches the
recurrent weights of `old` is what a trace has to bring. The loss's own gradient and its targets are by hand.
"""

from __future__ import annotations

import copy
import dataclasses
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from actors.policy import Policy, PolicyChunk
from configs.ppo import PpoConfig
from configs.schema import Config, PolicyConfig, RtrlConfig
from learner.batcher import Batch
from learner.objectives import OBJECTIVES
from learner.objectives.chunks import run as run_through
from learner.objectives.ppo import Ppo
from learner.records.timing import Stopwatch
from learner.rtrl.rtrl import Rtrl
from tests.learner.batches import SPEC, config, random_batch
from tests.learner.objectives import by_hand, ppo_by_hand
from tests.learner.objectives.by_hand import CONSTANTS
from tests.learner.objectives.ppo_by_hand import Clips

T, B, L, EPOCHS, MINIBATCHES = 6, 4, 2, 3, 3
WIDTHS = {"elstm": (5,), "rtu": (10,), "lstm": (5, 5), "none": ()}
Gradient = dict[str, Tensor]

ENDS = {
    "no reset": [],
    "inside": [(2, 1, "terminated"), (4, 3, "truncated")],
    "at the seams": [(1, 1, "terminated"), (3, 2, "truncated"), (2, 0, "terminated"), (5, 3, "terminated")],
    "at the ends": [(0, 1, "truncated"), (T, 2, "truncated"), (T, 3, "terminated"), (4, 0, "terminated")],
}


def settings(core: str = "elstm", credit: str = "rtrl", layers: int = 1, **ppo: Any) -> Config:
    options = {"epochs": EPOCHS, "minibatches": MINIBATCHES, "chunk_length": L, "value_clip": 0.4} | ppo
    return config(
        env=dataclasses.replace(config().env, num_envs=B),
        batch_size=B,
        num_streams=B,
        unroll_length=T,
        objective="ppo",
        credit=credit,
        policy=PolicyConfig(encoder="none", core=core, hidden_size=5, num_layers=layers),
        ppo=PpoConfig(**options),
        **{name: value for name, value in dataclasses.asdict(CONSTANTS).items() if "clip_" not in name[:5]},
    )


class Run:
    """The objective, with what it asks of its policy written down."""

    def __init__(self, options: Config) -> None:
        torch.manual_seed(3)
        self.config = options
        self.policy = Policy(SPEC, options.policy).double()
        with torch.no_grad():  # larger weights, so that the past matters and a missing term shows
            for parameter in self.policy.core.recurrent_parameters():
                parameter.mul_(3.0 if options.policy.core == "elstm" else 1.0)
        self.rtrl = Rtrl(self.policy, options) if options.credit == "rtrl" else None
        self.objective = OBJECTIVES[options.objective](self.policy, options, self.rtrl)
        self.drawn: list[Tensor] = []
        """Observations [L, M, ...] of each gradient step."""
        chunk = self.policy.chunk

        def spy(observation: Tensor, *rest: Any) -> PolicyChunk:
            if torch.is_grad_enabled():
                self.drawn.append(observation)
            return chunk(observation, *rest)

        self.policy.chunk = spy  # type: ignore[method-assign]

    def steps(self, batch: Batch, update: int = 0, learning_rate: float = 0.0) -> list[Gradient]:
        """The gradient of each step. Descends by it, times `learning_rate`, before it asks for the next."""
        self.drawn.clear()
        found = []
        for loss in self.objective.losses(batch, update, Stopwatch(torch.device("cpu"))):
            self.policy.zero_grad()
            loss.total.backward()
            loss.finish()
            found.append({n: p.grad.clone() for n, p in self.policy.named_parameters() if p.grad is not None})
            with torch.no_grad():
                for name, parameter in self.policy.named_parameters():
                    if name in found[-1]:
                        parameter -= learning_rate * found[-1][name]
        return found

    def places(self, batch: Batch) -> list[list[tuple[int, int]]]:
        """Of each gradient step: the first step and the column of each sub-chunk, found by what was seen."""
        return [
            [
                next(
                    (t, b)
                    for t in range(T)
                    for b in range(B)
                    if torch.equal(batch.observation[t, b], drawn[0, m])
                    and torch.equal(batch.observation[t : t + L, b], drawn[:, m])
                )
                for m in range(drawn.shape[1])
            ]
            for drawn in self.drawn
        ]


def batches(core: str, ends: list[tuple[int, int, str]]) -> list[Batch]:
    """Two rollouts of the same streams: x_T of the first is x_0 of the second."""
    first = random_batch(T, B, seed=1, ends=[(3, 1, "terminated")], first_reset=[0], piece=(0, 7, 0))
    second = random_batch(T, B, seed=2, ends=ends, piece=(0, 7, 1))
    for name in ("observation", "reward", "terminated", "truncated", "reset", "previous_action"):
        getattr(second, name)[0] = getattr(first, name)[T]
    g = torch.Generator().manual_seed(9)
    state = tuple(0.3 * torch.randn(B, width, generator=g, dtype=torch.float64) for width in WIDTHS[core])
    return [dataclasses.replace(batch, initial_state=state) for batch in (first, second)]


class Outputs(NamedTuple):
    states: list[tuple[Tensor, ...]]
    """Before x_0 .. x_T"""
    logits: Tensor
    values: Tensor


def step_through(policy: Policy, batch: Batch, state: tuple[Tensor, ...], start: int, stop: int) -> Outputs:
    states, outputs = [state], []
    for t in range(start, stop):
        step = policy.step(
            batch.observation[t], batch.reward[t], batch.reset[t], state, batch.previous_action[t]
        )
        state = step.state
        states.append(state)
        outputs.append(step)
    return Outputs(
        states, torch.stack([s.logits for s in outputs]), torch.stack([s.baseline for s in outputs])
    )


def advantages(policy: Policy, batch: Batch, state: tuple[Tensor, ...]) -> tuple[np.ndarray, np.ndarray]:
    """By hand from stepped values, and these values V(x_0) .. V(x_{T-1})."""
    with torch.no_grad():
        values = step_through(policy, batch, state, 0, T + 1).values.numpy()
    flags = {name: getattr(batch, name).numpy() for name in ("reward", "terminated", "truncated")}
    found = ppo_by_hand.gae(values=values[:-1], next_values=values[1:], constants=CONSTANTS, **flags)
    return found, values[:-1]


def expected(
    policy: Policy,
    old: Policy,
    past: list[Batch],
    batch: Batch,
    chunks: list[tuple[int, int]],
    learned: tuple[np.ndarray, np.ndarray],
    old_values: np.ndarray,
    options: Config,
) -> Gradient:
    """`learned`: advantages, and the values that they are of."""
    state = (past[0] if past else batch).initial_state
    for rollout in past:
        state = step_through(old, rollout, state, 0, T).states[-1]
    before = step_through(old, batch, state, 0, T).states
    parts = []
    for start in range(0, T, L):
        if options.credit == "immediate":
            cut = [tuple(s.detach() for s in before[t]) for t in range(start, start + L)]
            parts += [step_through(policy, batch, s, start + n, start + n + 1) for n, s in enumerate(cut)]
        else:
            parts.append(step_through(policy, batch, before[start], start, start + L))
    logits, values = (torch.cat(every) for every in list(zip(*parts, strict=True))[1:])

    t = np.array([[start + n for start, _ in chunks] for n in range(L)])
    b = np.array([[column for _, column in chunks] for _ in range(L)])
    valid = ~(batch.terminated | batch.truncated).numpy()[:T]
    targets = np.nan_to_num(learned[0] + learned[1])
    loss = ppo_by_hand.ppo(
        logits=logits.detach().numpy()[t, b],
        baseline=values.detach().numpy()[t, b],
        valid=valid[t, b],
        action=batch.action.numpy()[t, b],
        mu_logits=batch.behaviour_logits.numpy()[t, b],
        advantages=np.nan_to_num(learned[0])[t, b],
        targets=targets[t, b],
        old_values=old_values[t, b],
        constants=CONSTANTS,
        clips=Clips(clip=options.ppo.clip, value_clip=options.ppo.value_clip, normalise_advantages=True),
    )
    d_logits, d_values = np.zeros(logits.shape), np.zeros(values.shape)
    d_logits[t, b], d_values[t, b] = loss.d_logits, loss.d_baseline
    seeds = [torch.from_numpy(d_logits), torch.from_numpy(d_values)]

    def gradient(of: Policy) -> Gradient:
        named = dict(of.named_parameters())
        found = torch.autograd.grad(
            [logits, values], list(named.values()), seeds, retain_graph=True, allow_unused=True
        )
        return {n: torch.zeros_like(named[n]) if g is None else g for n, g in zip(named, found, strict=True)}

    whole = gradient(policy)
    if options.credit == "rtrl":  # of the encoder's and the heads' weights no trace is carried
        recurrent = {id(p) for p in old.core.recurrent_parameters()}
        carried = gradient(old)
        for name, parameter in old.named_parameters():
            if id(parameter) in recurrent:
                whole[name] = whole[name] + carried[name]
    return whole


def distance(a: Gradient, b: Gradient) -> float:
    return max(float((a[name] - b[name]).abs().max() / b[name].abs().max().clamp(min=1e-3)) for name in a)


@pytest.mark.parametrize("case", ENDS)
@pytest.mark.parametrize(
    ("core", "credit"),
    [("elstm", "rtrl"), ("rtu", "rtrl"), ("elstm", "tbptt"), ("elstm", "immediate"), ("lstm", "tbptt")],
)
def test_every_step_has_the_gradient_of_the_stepped_policy(core: str, credit: str, case: str) -> None:
    options = settings(core, credit)
    run = Run(options)
    first, second = batches(core, ENDS[case])
    run.steps(first)
    with torch.no_grad():
        state = step_through(run.policy, first, first.initial_state, 0, T).states[-1]
    second = dataclasses.replace(second, initial_state=state)
    found = run.steps(second, 1)
    places = run.places(second)
    assert len(found) == len(places) == EPOCHS * MINIBATCHES
    old = copy.deepcopy(run.policy)
    learned = advantages(run.policy, second, state)
    cut = dataclasses.replace(options, credit="tbptt")
    lost = 0.0
    for gradient, chunks in zip(found, places, strict=True):
        arguments = (run.policy, old, [first], second, chunks, learned, learned[1])
        assert distance(gradient, expected(*arguments, options)) < 1e-11
        lost = max(lost, distance(gradient, expected(*arguments, cut)))
    # Without what comes before the sub-chunks the same check must fail, or it would show nothing.
    assert (lost > 1e-2) == (credit != "tbptt")


@pytest.mark.parametrize("case", ENDS)
def test_vtrace_targets_are_those_by_hand_of_the_stepped_policy(case: str) -> None:
    """The advantages are without the ratio: what by hand is clipped to a ratio of 1e-9 shows them."""
    clips = {f"clip_{n}_threshold": getattr(CONSTANTS, f"clip_{n}_threshold") for n in ("rho", "c")}
    options = dataclasses.replace(settings(targets="vtrace"), **clips)
    run = Run(options)
    batch = batches("elstm", ENDS[case])[1]
    with torch.no_grad():
        stepped = step_through(run.policy, batch, batch.initial_state, 0, T + 1)
        assert run.rtrl is not None
        start = run.rtrl.begin(batch, 0).traces.gather()
        passed = run_through(run.policy, batch, L, start)
    assert isinstance(run.objective, Ppo)
    sample = run.objective._sample(batch, passed, passed)
    wanted = by_hand.actor_critic(
        logits=stepped.logits[:T].numpy(),
        baseline=stepped.values[:T].numpy(),
        next_baseline=stepped.values[1:].numpy(),
        constants=dataclasses.replace(CONSTANTS, clip_pg_rho_threshold=1e-9),
        **{
            name: getattr(batch, name).numpy()
            for name in ("action", "behaviour_logits", "reward", "terminated", "truncated")
        },
    )
    assert 0.2 < wanted.rho_clip_frac < 0.9
    for mine, theirs in ((sample.targets, wanted.targets), (sample.advantages, 1e9 * wanted.advantages)):
        np.testing.assert_allclose(mine.numpy(), np.nan_to_num(theirs), rtol=1e-9, atol=1e-11)


def test_each_epoch_learns_from_every_step_once_and_in_another_order() -> None:
    run = Run(settings())
    batch = batches("elstm", ENDS["inside"])[0]
    run.steps(batch)
    places = run.places(batch)
    epochs = [list(chain(*places[n * MINIBATCHES : (n + 1) * MINIBATCHES])) for n in range(EPOCHS)]
    for chunks in epochs:
        assert sorted(chunks) == [(t, b) for t in range(0, T, L) for b in range(B)]
    assert len({tuple(chunks) for chunks in epochs}) == EPOCHS
    again = Run(settings())
    again.steps(batch)
    assert again.places(batch) == places


ARMS = [(gradient, targets) for gradient in (False, True) for targets in (False, True)]


@pytest.mark.parametrize(("fresh_gradient", "fresh_targets"), ARMS)
@pytest.mark.parametrize("core", ["elstm", "rtu"])
def test_each_arm_is_of_the_weights_that_it_names(
    core: str, fresh_gradient: bool, fresh_targets: bool
) -> None:
    """The weights move after each epoch, of one minibatch, so that an epoch's are what its arm names."""
    arm = {"fresh_gradient": fresh_gradient, "fresh_targets": fresh_targets}
    options = settings(core, minibatches=1, **arm)
    run = Run(options)
    batch = batches(core, ENDS["at the seams"])[0]
    first = copy.deepcopy(run.policy)
    learned_first = advantages(first, batch, batch.initial_state)
    policy = copy.deepcopy(run.policy)
    wrong = 0.0
    for number, gradient in enumerate(run.steps(batch, learning_rate=0.3)):
        old = copy.deepcopy(policy) if fresh_gradient else first
        learned = advantages(policy, batch, batch.initial_state) if fresh_targets else learned_first
        chunks = run.places(batch)[number]
        arguments = (batch, chunks, learned, learned_first[1], options)
        assert distance(gradient, expected(policy, old, [], *arguments)) < 1e-11, number
        other = first if fresh_gradient else copy.deepcopy(policy)
        wrong = max(wrong, distance(gradient, expected(policy, other, [], *arguments)))
        with torch.no_grad():
            for name, parameter in policy.named_parameters():
                parameter -= 0.3 * gradient[name]
    assert wrong > 1e-3, "the weights moved too little to tell the arms apart"


def test_with_fresh_traces_a_batch_begins_from_traces_of_the_present_weights() -> None:
    distances = []
    for fresh in (True, False):
        options = settings(epochs=1, minibatches=1)
        options = dataclasses.replace(options, rtrl=RtrlConfig(fresh_traces=fresh))
        run = Run(options)
        first, second = batches("elstm", ENDS["inside"])
        run.steps(first, learning_rate=0.3)
        with torch.no_grad():
            state = step_through(run.policy, first, first.initial_state, 0, T).states[-1]
        second = dataclasses.replace(second, initial_state=state)
        policy = copy.deepcopy(run.policy)
        (gradient,) = run.steps(second, 1)
        learned = advantages(policy, second, state)
        arguments = ([first], second, run.places(second)[0], learned, learned[1], options)
        distances.append(distance(gradient, expected(policy, copy.deepcopy(policy), *arguments)))
    assert distances[0] < 1e-11 < 1e-3 < distances[1]


@pytest.mark.parametrize("layers", [1, 2])
def test_while_the_weights_rest_all_arms_are_one(layers: int) -> None:
    batch = batches("elstm", ENDS["at the seams"])[0]
    if layers == 2:
        batch = dataclasses.replace(batch, initial_state=batch.initial_state * 2)
    arms = []
    for gradient, targets in ARMS:
        run = Run(settings(layers=layers, fresh_gradient=gradient, fresh_targets=targets))
        arms.append(run.steps(batch))
    for other in arms[1:]:
        for mine, theirs in zip(arms[0], other, strict=True):
            assert distance(mine, theirs) < 1e-12


@pytest.mark.parametrize("layers", [1, 2])
def test_the_bank_moves_on_once_a_batch_whatever_the_epochs_do(layers: int) -> None:
    """To where V-trace's one unroll takes it, from the same weights."""
    first, second = batches("elstm", ENDS["inside"])
    if layers == 2:
        first, second = (
            dataclasses.replace(batch, initial_state=batch.initial_state * 2) for batch in (first, second)
        )
    options = settings(layers=layers)
    runs = [Run(options), Run(dataclasses.replace(options, objective="vtrace"))]
    rows = []
    for run in runs:
        run.steps(first)
        run.steps(second, 1, learning_rate=0.1 if run is runs[0] else 0.0)
        assert run.rtrl is not None
        rows.append(run.rtrl.bank.traces([dataclasses.replace(second.streams[0], sequence_number=2)])[0])
        assert run.rtrl.breaks == 0
    assert any(tensor.any() for trace in rows[0].gather() for tensor in trace)
    for mine, theirs in zip(rows[0].gather(), rows[1].gather(), strict=True):
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_a_policy_without_a_core_learns_from_sub_chunks_too() -> None:
    run = Run(settings("none", "tbptt"))
    batch = batches("none", ENDS["inside"])[0]
    found = run.steps(batch)
    learned = advantages(run.policy, batch, ())
    for gradient, chunks in zip(found, run.places(batch), strict=True):
        whole = expected(run.policy, run.policy, [], batch, chunks, learned, learned[1], run.config)
        assert distance(gradient, whole) < 1e-11
