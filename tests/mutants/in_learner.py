"""Faults in `learner/`. How an entry is read: faults.py."""

from __future__ import annotations

from tests.mutants.mutant import in_file

MUTANTS = [
    *in_file(
        "learner/objectives/vtrace.py",
        "learner/objectives/test_loss_by_hand.py learner/objectives/test_vtrace.py",
        ("the policy gradient goes the wrong way", "policy = -select(", "policy = select("),
        (
            "the ratio pi / mu is 1",
            "log_rho = select(valid, (log_prob - log_mu)",
            "log_rho = select(valid, (log_mu - log_mu)",
        ),
        ("the ratio is mu / pi", "(log_prob - log_mu).detach()", "(log_mu - log_prob).detach()"),
        ("the squared error is not halved", "baseline = 0.5 * ", "baseline = "),
        ("entropy is punished", "- config.entropy_cost * entropy", "+ config.entropy_cost * entropy"),
        (
            "rho_mean is of clipped ratios",
            "rho_mean=select(valid, rho)",
            "rho_mean=select(valid, rho.clamp(max=clipped_rho))",
        ),
        ("rho_clip_frac asks the wrong clip", "(rho > clipped_rho)", "(rho > clipped_c)"),
        ("c_mean lacks lambda", "c_mean=config.lambda_ * ", "c_mean="),
    ),
    *in_file(
        "learner/objectives/vtrace.py",
        "learner/test_update_by_hand.py",
        ("losses are sums", "steps = self.valid_steps.clamp(min=1.0)", "steps = 1.0"),
    ),
    *in_file(
        "learner/objectives/targets.py",
        "learner/objectives/test_loss_by_hand.py learner/objectives/test_vtrace.py",
        (
            "V-trace ignores lambda",
            "lambda_=config.lambda_,\n    )\n    return Targets(returns.vs, returns.pg",
            "lambda_=1.0,\n    )\n    return Targets(returns.vs, returns.pg",
        ),
        ("rho is not clipped", "clip_rho=config.clip_rho_threshold", "clip_rho=None"),
        ("c has rho's clip", "clip_c=config.clip_c_threshold", "clip_c=config.clip_rho_threshold"),
        (
            "the advantage has rho's clip",
            "clip_pg_rho=config.clip_pg_rho_threshold",
            "clip_pg_rho=config.clip_rho_threshold",
        ),
        ("the discount is 0.5", "config.discounting * (~", "0.5 * (~"),
        (
            "truncation does not bootstrap, termination does",
            "(~batch.terminated[1:])",
            "(~batch.truncated[1:])",
        ),
        ("the reward's scale is ignored", "config.reward_scale * clip_reward", "clip_reward"),
        (
            "targets reach over a truncation",
            "discounts, ~ended[1:])",
            "discounts, ~batch.terminated[1:])",
        ),
        (
            "a truncated episode's dummy step is learned from",
            "ended = batch.terminated | batch.truncated",
            "ended = batch.terminated",
        ),
        ("losses count half", "0.3 * squashed", "0.5 * squashed"),
        ("rewards above 1 count", "reward.clamp(-1.0, 1.0)", "reward.clamp(-1.0, 2.0)"),
    ),
    *in_file(
        "learner/objectives/targets.py",
        "learner/objectives/test_ppo.py",
        (
            "PPO's V-trace reaches over the end of an episode",
            "torch.where(steps.continues[:-1], v[1:], next_values[:-1])",
            "v[1:]",
        ),
        ("PPO's V-trace values beyond the end", "select_product(steps.discounts, following)", "following"),
    ),
    *in_file(
        "learner/objectives/targets.py",
        "learner/objectives/test_ppo_loss.py",
        ("GAE's advantage is its target", "returns.vs - values", "returns.vs"),
        (
            "GAE ignores lambda",
            "lambda_=config.lambda_,\n    )\n    return Targets(returns.vs, returns.vs",
            "lambda_=1.0,\n    )\n    return Targets(returns.vs, returns.vs",
        ),
    ),
    *in_file(
        "learner/objectives/ppo.py",
        "learner/objectives/test_ppo_loss.py",
        ("PPO's policy gradient goes the wrong way", "policy = -mean(", "policy = mean("),
        ("the larger surrogate counts", "torch.minimum(ratio", "torch.maximum(ratio"),
        (
            "the ratio's gradient is cut",
            "ratio = importance_ratio(log_ratio)",
            "ratio = importance_ratio(log_ratio.detach())",
        ),
        (
            "means are over dummies too",
            "count = valid.sum()",
            "count = valid.new_tensor(valid.numel()).sum()",
        ),
        ("advantages keep their mean", "advantages = advantages - mean(advantages)", "pass"),
        ("the smaller value error counts", "torch.maximum(error", "torch.minimum(error"),
        ("the KL is the other estimator", "mean(ratio - 1.0 - log_ratio)", "mean(-log_ratio)"),
        ("PPO punishes entropy", "- config.entropy_cost * entropy", "+ config.entropy_cost * entropy"),
        ("explained variance is the share left", "1.0 - rest / whole", "rest / whole"),
    ),
    *in_file(
        "learner/objectives/ppo.py",
        "learner/objectives/test_ppo.py",
        (
            "fresh gradients are stale",
            "before = again if ppo.fresh_gradient else before",
            "before = before",
        ),
        ("fresh targets are stale", "self._sample(batch, first, again)", "self._sample(batch, first, first)"),
        (
            "fresh values stand for the old ones",
            "targets.values, first.values)",
            "targets.values, present.values)",
        ),
        (
            "epochs are in one order",
            "generator=self._generator)",
            "generator=torch.Generator().manual_seed(0))",
        ),
        (
            "traces are those of the first sub-chunks",
            "layer.map(lambda s: s[chunks])",
            "layer.map(lambda s: s[chunks % 4])",
        ),
        ("states are those of the first sub-chunks", "tensor[chunks] for", "tensor[chunks % 4] for"),
        ("the bank stays behind", "advance(step, first.advanced)", "advance(step, step.traces.gather())"),
    ),
    *in_file(
        "learner/objectives/chunks.py",
        "learner/objectives/test_ppo.py",
        (
            "a sub-chunk begins from the state after it",
            "zip(*states, strict=True)",
            "zip(*states[1:], state, strict=True)",
        ),
        (
            "sub-chunks lie one step late",
            "slice(start, start + length)",
            "slice(start + 1, start + length + 1)",
        ),
        ("a drawn sub-chunk is of another column", "chunks % B]", "(chunks + 1) % B]"),
        (
            "each sub-chunk starts from the batch's traces",
            "            traces = [chunk.trace] if",
            "            _ = [chunk.trace] if",
        ),
    ),
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
        "learner/records/evaluations.py",
        "learner/records/test_evaluations.py::test_weights_have_their_step_also_where_updates_had_fewer",
        ("updates have all their steps (ranks)", "            self._short.append(", "            str("),
        ("what was short is forgotten too soon (ranks)", "if one[0] > finished.version]", "if False]"),
    ),
    *in_file(
        "learner/records/metrics.py",
        "learner/records/test_metrics.py",
        ("the first learner's totals are all (ranks)", 'if spec.reduction == "last" else', "if True else"),
        ("games of the others are not told (ranks)", 'for game in window["games"]', "for game in []"),
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
        "learner/rtrl/trace_bank.py",
        "learner/rtrl/test_trace_bank.py learner/rtrl/test_fresh_traces.py learner/rtrl/test_controls.py",
        (
            "a gap goes unnoticed",
            "expected != (piece.incarnation, piece.sequence_number)",
            "expected is None or expected[0] != piece.incarnation",
        ),
        (
            "a new life goes unnoticed",
            "expected != (piece.incarnation, piece.sequence_number)",
            "expected is None or expected[1] != piece.sequence_number",
        ),
        (
            "columns share a row",
            "indices += piece.streams",
            "indices += [piece.first_stream] * piece.num_streams",
        ),
        ("a stream's first rollout is a break", "or piece.sequence_number > 0", "or True"),
        ("a broken stream keeps its trace", "fresh.append(stream)", "pass"),
        ("fresh traces are zeros", "mine.index_copy_(0, rows, new)", "mine.index_copy_(0, rows, 0 * new)"),
        ("traces below the bound are scaled up to it", ".clamp(max=1.0)", ""),
        ("the bound is of each tensor", "for row in rows]).sum(0)", "for row in rows]).amax(0)"),
        ("a saved bank begins anew", "fill(tensor, value)", "pass"),
    ),
    *in_file(
        "learner/rtrl/rtrl.py",
        "learner/rtrl/test_boundary_metrics.py learner/rtrl/test_fresh_traces.py "
        "learner/rtrl/test_controls.py",
        ("the control keeps its boundary term", "if not options.boundary:", "if False:"),
        (
            "the history is empty",
            "            self._history.append(batch)\n",
            "",
        ),
        ("clips of the last update alone are told", "self.clips = self.clips + step", "self.clips = step"),
        (
            "staleness compares a gradient with itself",
            "cosine(gradients(parameters), exact)",
            "cosine(exact, exact)",
        ),
        (
            "the share is of the advanced trace",
            "carried = traces.gather()",
            "carried = [layer.bank for layer in traces.layers]",
        ),
    ),
    *in_file(
        "learner/rtrl/history.py",
        "learner/rtrl/test_controls.py learner/rtrl/test_fresh_traces.py",
        ("an earlier life is remembered", "past.clear()", "pass"),
        (
            "the history begins in its last rollout's state",
            "stream[0].initial_state",
            "stream[-1].initial_state",
        ),
        (
            "columns get each other's traces",
            "rows = torch.tensor(list(group)",
            "rows = torch.tensor(list(group)[::-1]",
        ),
        ("twice as much is kept", "maxlen=self._rollouts", "maxlen=2 * self._rollouts"),
        (
            "episodes run into each other",
            "policy.core.unroll(x, state, reset, policy",
            "policy.core.unroll(x, state, 0 * reset == 1, policy",
        ),
    ),
    *in_file(
        "learner/rtrl/diagnostics.py",
        "learner/rtrl/test_boundary_metrics.py",
        ("boundary_grad_frac is ten times too large", "_norm(boundary) /", "10 * _norm(boundary) /"),
        ("trace_norm is a sum over streams", "/ math.sqrt(lam_0[0].shape[0])", "/ 1.0"),
        (
            "a norm is a square",
            "return torch.linalg.vector_norm(torch.stack(norms))",
            "return torch.stack(norms).square().sum()",
        ),
        ("a cosine is not normalised", "dot / norms, 1.0", "dot, 1.0"),
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
        "learner/records/metrics.py",
        "learner/records/test_metrics.py",
        ("a maximum is a minimum", "return max(values)", "return min(values)"),
        ("the first value is the last", "return values[-1]", "return values[0]"),
        ("a mean is a sum", "return sum(values) / len(values)", "return sum(values)"),
        ("windows run into each other", "        self._window.clear()\n", ""),
        ("episode lengths are returns", "float(finished.episodic_length)", "float(finished.episodic_return)"),
        ("a rate is since the start", "self._total, self._time = total, now", "pass"),
    ),
    *in_file(
        "learner/records/evaluations.py",
        "learner/records/test_evaluations.py",
        (
            "an evaluation is asked for at every update",
            "self._last = step // self._interval\n        self._take",
            "self._take",
        ),
        (
            "the run ends without its last evaluation",
            "while self._done != self._now.updates and",
            "while self._done < 0 and",
        ),
        (
            "std is the mean",
            '"eval/episodic_return_std": result.std',
            '"eval/episodic_return_std": result.mean',
        ),
    ),
    *in_file(
        "learner/records/checkpoint.py",
        "learner/records/test_checkpoint.py::test_round_trip "
        "learner/records/test_checkpoint.py::test_keeps_the_last_k "
        "learner/records/test_checkpoint.py::test_flipped_bits_are_refused "
        "learner/records/test_checkpoint.py::test_a_save_drops_the_abandoned_future "
        "learner/records/test_checkpoint.py::test_saving_a_step_again_replaces_it "
        "learner/records/test_checkpoint.py::test_unknown_format_is_refused_by_name_and_not_passed_over "
        "learner/records/test_checkpoint.py::test_what_cannot_be_read_is_not_passed_over "
        "learner/records/test_checkpoint.py::test_death_before_each_call_to_the_disk",
        ("one checkpoint too many is kept", "kept > keep_last", "kept > keep_last + 1"),
        ("an abandoned future is kept", "later or kept", "kept"),
        ("the oldest is taken for the newest", "sorted(found, reverse=True)", "sorted(found)"),
        (
            "damaged tensors are read",
            'hashlib.sha256(data).hexdigest() != content["tensors_sha256"]',
            "False",
        ),
        ("damaged counters are read", "    if not intact:", "    if False:"),
        (
            "what cannot be read is taken for damaged",
            "if not isinstance(error, DamagedCheckpointError):",
            "if False:",
        ),
        ("another format is read", "if type(version) is int and version != FORMAT_VERSION", "if False"),
        (
            "a checkpoint is removed before its successor stands",
            "            os.rename(final, replaced)",
            "            shutil.rmtree(final)",
        ),
    ),
    *in_file(
        "learner/records/state.py",
        "learner/records/test_state.py",
        ("a tuple comes back as a list", "return tuple(_join(", "return list(_join("),
        ("an array comes back as a tensor", 'tensors[value] if kind == "tensor"', "tensors[value] if True"),
        ("another shape is spread over what is there", "if tensor.shape != saved.shape:", "if False:"),
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
    *in_file(
        "learner/records/run_dir.py",
        "experiments/test_runner.py::test_a_run_that_still_trains_is_not_begun_anew",
        (
            "a run that trains is removed",
            "lock = _acquire(Path(path))",
            'lock = FileLock(Path(path) / ".other")',
        ),
    ),
]
