"""Faults in `learner/objectives/`. How an entry is read: faults.py."""

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
]
