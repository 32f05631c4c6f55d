"""Faults in `learner/`, but for its rooms. How an entry is read: faults.py."""

from __future__ import annotations

from tests.mutants.mutant import in_file

MUTANTS = [
    *in_file(
        "learner/batcher.py",
        "learner/objectives/test_loss_by_hand.py learner/objectives/test_vtrace.py",
        ("the reward is of the action before", "reward = self.reward[1:]", "reward = self.reward[:-1]"),
    ),
    *in_file(
        "learner/rewards.py",
        "learner/test_rewards.py",
        ("sums run on into the next episode", "~starts.flip(0)", "torch.ones_like(starts)"),
        ("a rollout's sums begin at 0", "earned[:1] + discounting * first", "earned[:1]"),
        ("sums go on over a gap", "== (piece.incarnation, piece.sequence_number))", "is not None)"),
        ("sums stay with the columns", "self._sums[at] = ", "self._sums[: len(at)] = "),
        ("a mean is taken off", "self._moments.variance[0]", "self._moments.mean[0]"),
        ("first steps of episodes count", "sums.reshape(-1, 1), ~batch", "sums.reshape(-1, 1), True | batch"),
    ),
    *in_file(
        "learner/learner.py",
        "learner/test_rewards.py",
        ("the last observation is taken in twice", "part[:-1], batch", "part, batch"),
        ("sums are not saved", "self.rewards.streams_state(),", "{},"),
    ),
    *in_file(
        "learner/learner.py",
        "learner/test_update_by_hand.py learner/test_learner.py",
        (
            "the schedule counts updates",
            "self.global_step / self.config.total_steps",
            "self.updates / self.config.total_steps",
        ),
        ("gradients add up", "            self.optimizer.zero_grad()\n", ""),
        ("the gradient is not clipped", "self.config.grad_norm_clipping, grad_norm", "1e9, grad_norm"),
        (
            "a step is a time step of all streams",
            "self.global_step += batch.num_steps",
            "self.global_step += batch.action.shape[0]",
        ),
        ("the lag is one too many", "lag = self.updates - batch", "lag = self.updates + 1 - batch"),
        ("a NaN gradient moves the weights", " & norm.isfinite()", ""),
        ("the largest lag is the smallest", "float(lag.max())", "float(lag.min())"),
        (
            "another optimiser's moments are taken",
            'if state["optimizer_name"] != self.config.optimizer',
            "if False",
        ),
    ),
    *in_file(
        "learner/learner.py",
        "learner/test_compute.py",
        (
            "the learner does not ask for bfloat16",
            "            set_encoder_dtype(self",
            "            print(self",
        ),
        ("the encoder is not compiled", "if config.compute.compile_encoder:", "if False:"),
    ),
    *in_file(
        "learner/learner.py",
        "learner/test_launch.py",
        (
            "statistics keep what is not finite",
            "        statistics.restore_unless(self._sound)\n        watch",
            "        watch",
        ),
        (
            "what follows a dropped step moves weights",
            "self._sound = self._sound & loss",
            "self._sound = loss",
        ),
        (
            "a dropped update counts",
            "self.updates, self.global_step = report.updates, report.global_step",
            "pass",
        ),
        ("half moved weights are sound", "self._moving = broken > 0", "self._moving = False"),
    ),
    *in_file(
        "learner/report.py",
        "learner/test_launch.py learner/test_learner.py",
        (
            "a norm that is not finite is not told of",
            "map(math.isfinite, row[-2:])",
            "map(math.isfinite, row[-1:])",
        ),
    ),
    *in_file(
        "learner/optimizer.py",
        "learner/test_learner.py",
        ("moments of other weights are taken", "if moment.shape != shape or", "if"),
        ("moments of another optimiser are taken", "if moments.keys() != self._names:", "if False:"),
    ),
    *in_file(
        "learner/optimizer.py",
        "learner/test_launch.py",
        ("Adam takes a step that is not sound", "(~sound).float()", "(~sound).float() * 0"),
        ("RMSprop takes a step that is not sound", "            if sound:\n", "            if True:\n"),
        (
            "first moments keep what is not finite",
            "torch.zeros_like(tensor), out=tensor",
            "tensor, out=tensor",
        ),
        ("a selected step is taken anyway", "        kept.restore_unless(sound)\n", ""),
    ),
    *in_file(
        "learner/loop.py",
        "learner/test_loop.py",
        ("an interval's save does not read first", "        self._read(0)\n        try:", "        try:"),
    ),
    *in_file(
        "learner/loop.py",
        "learner/test_prefetch.py",
        (
            "an error leaves the thread",
            "finally:\n            self._feed.close()",
            "finally:\n            pass",
        ),
    ),
    *in_file(
        "learner/learner.py",
        "learner/test_loop_of_ranks.py::test_a_step_that_is_not_finite_on_one_is_dropped_on_all",
        (
            "a loss is judged by its own learner alone (ranks)",
            "add_up([loss, *gradients])",
            "add_up(gradients)",
        ),
    ),
    *in_file(
        "learner/ranks.py",
        "learner/test_ranks.py::test_two_ranks_are_one_learner_of_their_joint_batch",
        ("a sum is a learner's own (ranks)", "        self._sum(bucket)\n", ""),
    ),
    *in_file(
        "learner/ranks.py",
        "learner/test_loop_of_ranks.py::test_where_one_ends_all_end_with_one_checkpoint",
        (
            "the first learner alone can end the run (ranks)",
            "mine = [ending,",
            "mine = [ending and self.number == 0,",
        ),
    ),
    *in_file(
        "learner/rows.py",
        "learner/test_loop_of_ranks.py::test_ranks_whose_weights_differ_do_not_go_on_and_save_nothing",
        (
            "learners go on with other weights (ranks)",
            'if any(other["weights"] != weights for other in others):',
            "if False:",
        ),
    ),
    *in_file(
        "learner/loop.py",
        "learner/test_loop_of_ranks.py::test_ranks_whose_weights_differ_do_not_go_on_and_save_nothing",
        (
            "weights that differ are saved (ranks)",
            "CheckpointError, RanksDifferError):",
            "CheckpointError,):",
        ),
    ),
    *in_file(
        "learner/prefetch.py",
        "learner/test_prefetch.py",
        ("both batches lie in one memory", "[Buffers(device), Buffers(device)]", "[Buffers(device)] * 2"),
        ("a batch in use is free", "self._in_use = buffers", "self._free.append(buffers)"),
        (
            "an error overtakes the batches before it",
            "            if not self._ready:\n                self._raise()\n                return",
            "            self._raise()\n            if not self._ready:\n                return",
        ),
        (
            "a batch ahead is judged by the update under way",
            "updates = max(updates + 1, self._updates())",
            "updates = self._updates()",
        ),
        ("the age is of when a batch was made", " + 1e3 * (time.monotonic() - made)", ""),
        (
            "a CPU learner has a thread too",
            'config.prefetch == "auto" and device.type == "cuda"',
            'config.prefetch == "auto"',
        ),
    ),
    *in_file(
        "learner/prefetch.py",
        "learner/test_prefetch.py::test_a_run_reaches_its_steps_and_not_one_more",
        ("a closed thread goes on", "self._closed = True", "self._closed = False"),
    ),
    *in_file(
        "learner/budget.py",
        "learner/test_budget.py",
        ("a batch ahead takes no memory", "(1 + prefetches(config, device))", "1"),
    ),
    *in_file(
        "learner/optimizer.py",
        "learner/test_update_by_hand.py learner/test_encoder_options.py",
        ("RMSprop's alpha is ignored", "alpha=config.alpha", "alpha=0.99"),
        ("RMSprop's epsilon is ignored", "        eps=config.epsilon,\n        momentum", "        momentum"),
        ("momentum is ignored", "momentum=config.momentum", "momentum=0.0"),
        ("Adam's epsilon is ignored", "eps=config.epsilon, fused", "fused"),
        (
            "the encoder has no rate of its own",
            'group["lr"] = scale * learning_rate',
            'group["lr"] = learning_rate',
        ),
        (
            "a resumed run keeps old hyper-parameters",
            '"param_groups": mine',
            '"param_groups": state["param_groups"]',
        ),
        ("a resumed run forgets the moments", '"state": state["state"]', '"state": {}'),
    ),
    *in_file(
        "learner/batcher.py",
        "learner/test_batcher.py",
        (
            "the newest weights stand for the oldest",
            "[r.policy_version_min for r",
            "[r.policy_version_max for r",
        ),
        (
            "the lag of the newest weights decides",
            "version - rollout.policy_version_min",
            "version - rollout.policy_version_max",
        ),
        ("a lag that is allowed is dropped", "> self._max_policy_lag", ">= self._max_policy_lag"),
        (
            "two rollouts of a stream meet in a batch",
            "if stream in streams), len(room))",
            "if stream in ()), len(room))",
        ),
        (
            "the newest rollouts go first",
            "for rollout in self._waiting:\n            own = _streams(rollout)\n            room",
            "for rollout in reversed(self._waiting):\n            own = _streams(rollout)\n            room",
        ),
        (
            "the first previous action is the first action",
            "[r.previous_action[None], r.action]",
            "[r.action[:1], r.action]",
        ),
        (
            "one actor's games are counted",
            "for r in rollouts for episode",
            "for r in rollouts[:1] for episode",
        ),
        (
            "the rest of a rollout is lost",
            "rest.append(rollout.columns(count, len(own)))",
            "pass",
        ),
        (
            "an actor is thought covered by a part of its streams",
            "if columns[actor_id, incarnation] >= len(streams)",
            "if columns[actor_id, incarnation]",
        ),
        (
            "what waits of another life covers an actor",
            "if columns[actor_id, incarnation] >= len(streams)",
            "if sum(count for (one, _), count in columns.items() if one == actor_id) >= len(streams)",
        ),
        ("what waits of before a scaling stays", "if start == stop:", "if True:"),
        ("waiting is told in seconds", "1e3 * sum(ages)", "sum(ages)"),
    ),
    *in_file(
        "learner/publish.py",
        "learner/test_publish.py",
        (
            "weights that are held are sent again",
            "self._version <= newer_than",
            "self._version < newer_than",
        ),
        ("published weights change with training", "torch.cat(parts)", "parts[0]"),
    ),
    *in_file(
        "learner/budget.py",
        "learner/test_budget.py",
        (
            "what the learner has in hand takes no room",
            "(config.ray.rollouts_in_flight + 2)",
            "(config.ray.rollouts_in_flight)",
        ),
        ("all streams share one trace", "row * streams,", "row,"),
        ("a little too much is let pass", "if total > limit:", "if total > 1.5 * limit:"),
        (
            "a GPU holds one actor's policy",
            "count * acting_bytes(config, policy, spec)",
            "acting_bytes(config, policy, spec)",
        ),
        ("frames of a stack are counted each", "seen * (steps + stack - 1) // stack", "seen * steps"),
        ("traces on a GPU are counted in the host", "if share not in learning]", "]"),
    ),
]
