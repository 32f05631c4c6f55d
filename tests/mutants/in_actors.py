"""Faults in `actors/`. How an entry is read: faults.py."""

from __future__ import annotations

from tests.mutants.mutant import in_file

MUTANTS = [
    *in_file(
        "actors/group.py",
        "actors/test_collect.py",
        (
            "a truncated episode's successor has no reset",
            "self._reset = self._terminated | self._truncated",
            "self._reset = self._terminated.copy()",
        ),
        ("returns of games run into each other", "self._return[step.game_over] = 0.0", "pass"),
        (
            "a lost life ends the books of a game",
            "np.flatnonzero(step.game_over)",
            "np.flatnonzero(step.terminated | step.truncated)",
        ),
        (
            "the dummy step counts as a decision",
            "self._length += ~(self._reset & (self._length == 0))",
            "self._length += 1",
        ),
        (
            "every game was terminated",
            'ended_by="truncation" if step.truncated[slot]',
            'ended_by="termination" if step.truncated[slot]',
        ),
        ("a game's level is another slot's", "level=self._levels[slot]", "level=self._levels[0]"),
        ("a game's slot is its group's", "slot=self._first + int(slot)", "slot=int(slot)"),
        ("groups write over each other", "slice(first, first + slots)", "slice(0, slots)"),
        (
            "the first observation has no reset",
            "self._reset = np.ones(slots, np.bool_)",
            "self._reset = np.zeros(slots, np.bool_)",
        ),
    ),
    *in_file(
        "actors/collect.py",
        "actors/test_collect.py actors/test_groups.py::test_two_groups_are_two_actors_side_by_side",
        ("every rollout is the first", "self._sequence_number += 1", "self._sequence_number += 0"),
        (
            "the newest weights stand for the oldest",
            "policy_version_min=min(sheet.versions)",
            "policy_version_min=max(sheet.versions)",
        ),
        ("weights are never refreshed", "        self._inference.refresh()\n", ""),
        ("the state is the last group's", "group.begin(sheet)", "self._groups[-1].begin(sheet)"),
        ("groups of an actor see the same games", "seed=group_seed(env_seed, number)", "seed=env_seed"),
    ),
    *in_file(
        "actors/frame_stack.py",
        "actors/test_frame_stack.py",
        ("a stack shows frames of the game before", "frame = frame.masked_fill", "_ = frame.masked_fill"),
        (
            "a new game blanks one frame more",
            "[age:] |= game_over[:-age]",
            "[age - 1 :] |= game_over[: 1 - age or None]",
        ),
        ("only the last step's end is looked at", "of_earlier_game[age:] |=", "of_earlier_game[age:] ="),
        ("the newest frame is the first", "(S - 1 - age) * c : (S - age) * c", "age * c : (age + 1) * c"),
        (
            "colours and frames change places",
            "stack.reshape(E, frames, channels // frames, *size), 1",
            "stack.reshape(E, channels // frames, frames, *size), 2",
        ),
    ),
    *in_file(
        "actors/inference.py",
        "actors/test_inference.py actors/play/test_evaluate.py",
        ("greedy samples, sampling is greedy", "if self._greedy:", "if not self._greedy:"),
        (
            "the version stays the first",
            "self._version = snapshot.version",
            "self._version = max(self._version, 0)",
        ),
        (
            "weights are told of and not copied",
            "np.copyto(self._at_hand[name].numpy(), arrays[name])",
            "pass",
        ),
        (
            "every actor draws the same numbers",
            "manual_seed(group_seed(self._seed, number))",
            "manual_seed(number)",
        ),
        ("the env is given what the wire carries", "distribution.to_env(action), step", "action, step"),
        ("groups draw the same numbers", "if group else seed", "if group < 0 else seed"),
        ("a group's state stays", "kept.copy_(new)", "kept.copy_(kept)"),
        ("the previous action stays", "its.action.copy_(action)", "pass"),
        ("forgotten slots stay and others go", "tuple(tensor[kept] for", "tuple(tensor[~kept] for"),
    ),
    *in_file(
        "actors/policy/policy.py",
        "actors/policy/test_policy.py "
        "learner/test_encoder_options.py::test_a_frozen_encoder_stays_while_the_rest_learns",
        ("the core sees the raw reward", "reward.clamp(-1.0, 1.0)", "reward"),
        (
            "the previous action lives through a reset",
            "previous.masked_fill(reset.unsqueeze(-1), 0.0)",
            "previous",
        ),
        (
            "V of a step stands for V of the next",
            "torch.cat([chunk.baseline[1:].detach(), last.unsqueeze(0)])",
            "torch.cat([chunk.baseline[:-1].detach(), last.unsqueeze(0)])",
        ),
        (
            "the bootstrap value is of the wrong observation",
            "last = self.step(at_T, reward[T], reset[T], chunk.state, previous_action[T])",
            "last = self.step(at_T, reward[T - 1], reset[T - 1], chunk.state, previous_action[T - 1])",
        ),
        ("a frozen encoder learns", "self.encoder.requires_grad_(False)", "pass"),
    ),
    *in_file(
        "actors/policy/distributions.py",
        "actors/policy/test_distributions.py",
        (
            "entropy has a wrong sign",
            "return -(log_pi.exp() * log_pi).sum(-1)",
            "return (log_pi.exp() * log_pi).sum(-1)",
        ),
        ("the most probable action is the least", "parameters.argmax(dim=-1)", "parameters.argmin(dim=-1)"),
        ("a clip is a squash", 'if gaussian.bounds == "clip"', "if False"),
        ("a free deviation is the network's", 'gaussian.deviation == "free"', "False"),
    ),
    *in_file(
        "actors/policy/gaussian.py",
        "actors/policy/test_distributions.py",
        (
            "the density is of the unsquashed action",
            "self._log_density(parameters, action) - _log_slope(action)",
            "self._log_density(parameters, action)",
        ),
        (
            "the entropy is the unsquashed one's",
            "deviation.log() + slope).sum(-1)",
            "deviation.log()).sum(-1)",
        ),
        ("samples have unit variance", "mean + deviation * noise", "mean + noise"),
        ("a density lacks its normalisation", " - deviation.log()\n", "\n"),
        (
            "an env is given an unsquashed action",
            "    def to_env(self, action: Tensor) -> Tensor:\n        return action.tanh()",
            "    def to_env(self, action: Tensor) -> Tensor:\n        return action",
        ),
        (
            "the density is of the clipped action",
            "return self._log_density(parameters, action).sum(-1)",
            "return self._log_density(parameters, action.clamp(-1.0, 1.0)).sum(-1)",
        ),
        (
            "an env is given an action beyond its bounds",
            "    def to_env(self, action: Tensor) -> Tensor:\n        return action.clamp(-1.0, 1.0)",
            "    def to_env(self, action: Tensor) -> Tensor:\n        return action",
        ),
        ("a free deviation is not learned", "self.deviation.expand_as", "self.deviation.detach().expand_as"),
    ),
    *in_file(
        "actors/policy/normalise.py",
        "actors/policy/test_normalise.py",
        (
            "the means' distance adds no variance",
            " + shift.square() * self.count * new / total",
            " + 0.0 / total",
        ),
        ("each batch weighs alike", "self.mean += shift * new / total", "self.mean += shift * 0.5 / total"),
        ("rows that do not count are counted", "if counts is None else counts", "if True else counts"),
        ("nothing is clipped", "scaled.clamp(-BOUND, BOUND)", "scaled"),
        ("codes are normalised", "measured[first:end] &= part != name", "measured[first:end] &= True"),
        ("deviations are variances", "(moments.variance + _EPSILON).sqrt()", "(moments.variance + _EPSILON)"),
    ),
    *in_file(
        "actors/policy/encoders.py",
        "actors/policy/test_encoders.py actors/policy/test_policy.py",
        ("pixels are not scaled", "self.weight * (1.0 / 255.0)", "self.weight"),
        ("an instruction's features are of its padding", "last = (length - 1)", "last = (length + 1)"),
        ("no instruction has features", " * (length > 0).unsqueeze(-1)", ""),
        ("a residual block has no residual", "return x + self.conv_1", "return self.conv_1"),
        (
            "one vector of several is read",
            "for name in self.vectors], dim=1)",
            "for name in self.vectors[:1] * len(self.vectors)], dim=1)",
        ),
    ),
    *in_file(
        "actors/policy/encoders.py",
        "actors/policy/test_precision.py",
        (
            "the core reads bfloat16",
            "F.relu(features.to(self.linear.weight.dtype))",
            "F.relu(features)",
        ),
        ("bfloat16 changes nothing", "if self.dtype is None:", "if True:"),
    ),
    *in_file(
        "actors/policy/precision.py",
        "actors/policy/test_precision.py",
        (
            "the core's products are in TF32",
            'if chosen == "all" else "ieee"',
            'if chosen != "off" else "ieee"',
        ),
    ),
    *in_file(
        "actors/collect.py",
        "actors/policy/test_precision.py",
        (
            "actors act in the learner's dtype",
            "policy, config.compute.actor_encoder_dtype",
            "policy, config.compute.encoder_dtype",
        ),
    ),
    *in_file(
        "actors/play/games.py",
        "actors/play/test_evaluate.py",
        ("games beyond the quota are counted", "if self._quota[slot] > 0:", "if True:"),
        ("all slots owe as long as one does", "self._quota[slots].any()", "self._quota.any()"),
        (
            "an episode's end resets at once",
            "        self._reset = self._ended\n",
            "        self._reset = ended\n",
        ),
        ("the step to a new game is one of it", "~(self._reset & (self._length == 0))", "1"),
        ("a game is never cut off", "self._length >= self._max_steps", "self._length < 0"),
        ("the return of a game goes on in the next", "for book in (self._return, ", "for book in ("),
        ("the reward of a game's end is not counted", "self._return += self._reward", "self._return += 0"),
    ),
    *in_file(
        "actors/play/evaluate.py",
        "actors/play/test_evaluate.py",
        (
            "every evaluation has the same games",
            "                seed=self._seed + turn,\n                max_steps",
            "                seed=turn,\n                max_steps",
        ),
        ("memory games begin without their cue", "random_phase=False", "random_phase=True"),
        ("the rest of the games is left out", "quota[: episodes % (rounds * slots)] += 1", "pass"),
        ("slots that have played are stepped on", "or suite_of(self._env.id).steps_together", "or True"),
    ),
    *in_file(
        "actors/play/evaluation.py",
        "actors/play/test_evaluate.py actors/play/test_evaluate_levels.py",
        ("std lacks Bessel's correction", "ddof=1", "ddof=0"),
        ("the standard error is the deviation", "self.std / len(self.returns) ** 0.5", "self.std"),
        (
            "a level's return is that of its best game",
            "level: float(np.mean(played))",
            "level: float(np.max(played))",
        ),
    ),
    *in_file(
        "actors/fleet/requests.py",
        "actors/fleet/test_requests.py",
        ("a look finds one of all", "num_returns=len(wanted), timeout=0", "num_returns=1, timeout=0"),
        ("a rollout of a skipped actor is handed out", "if owner in skip:", "if False:"),
        ("one of a failed actor too", "if owner is not None:", "if True:"),
        ("the newest goes first", "in tuple(self._finished):", "in tuple(reversed(self._finished)):"),
        ("one that was taken stays ready", "self._finished.remove(reference)", "pass"),
        ("one that overtook another is handed out", "held_up.add(actor_id)", "pass"),
    ),
    *in_file(
        "actors/policy/bypass.py",
        "actors/policy/test_bypass.py",
        ("brightness counts", "        filters -= filters.mean(dim=(1, 2, 3), keepdim=True)", "        pass"),
        ("answers are not standardised", "(self.moments.variance + _EPSILON).sqrt()", "1.0"),
    ),
    *in_file(
        "actors/fleet/elastic.py",
        "actors/fleet/test_size.py",
        ("room that passes is taken", "now - self._since < patience", "False"),
        ("nobody is waited for", "patience *= 1 if starving and placeless else LONGER", "pass"),
        ("who is slow to start has no place", "if starving and placeless", "if starving"),
        ("room that took nobody is tried again", "or nodes == self._no_more", ""),
        ("more are ordered than there is room for", "if order > present + free:", "if False:"),
    ),
    *in_file(
        "configs/orders.py",
        "configs/test_orders.py",
        (
            "an order of the run before counts",
            "path.stat().st_mtime_ns <= ",
            "path.stat().st_mtime_ns < 0 * ",
        ),
    ),
    *in_file(
        "actors/fleet/placement.py",
        "actors/fleet/test_gpu_placement.py",
        (
            "actors on a GPU are lent none",
            '"num_gpus": gpus}',
            '"num_gpus": 0}',
        ),
    ),
]
