"""Out of memory, said in the sizes that matter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from actors.policy import Policy
from configs.schema import Config
from kernels.rtrl import Trace

# How torch's other allocators and NVIDIA's libraries say it: RuntimeErrors of no type of their own.
_WORDS = ("can't allocate memory", "not enough memory", "ALLOC_FAILED", "out of memory")


class OutOfMemory(RuntimeError):  # noqa: N818 a condition, as torch and Python name it
    """The learner's device, or the host, has no room. The message names what takes it and what to lower."""


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


@contextmanager
def naming_sizes(config: Config, policy: Policy, device: torch.device) -> Iterator[None]:
    """Turns an error for want of memory into an OutOfMemory that says what the user can do about it."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or isinstance(error, OutOfMemory):
            raise
        first = str(error).strip().splitlines()[:1]
        raise OutOfMemory(f"out of memory on {device}: {''.join(first)}\n{_sizes(config, policy)}") from error


def trace_bytes(policy: Policy) -> int:
    """Of one stream's trace."""
    trace = policy.core.initial_trace(1, device="cpu")
    layers = [trace] if isinstance(trace, Trace) else trace
    return sum(tensor.nbytes for layer in layers for tensor in layer)


def _sizes(config: Config, policy: Policy) -> str:
    """What takes memory, one a line, and what makes it smaller, what helps most first."""
    batch, options = config.batch_size, config.policy
    streams = config.num_streams
    weights = sum(parameter.numel() for parameter in policy.parameters())
    lines = [
        f"  an update of {config.unroll_length} steps (unroll_length) x {batch} columns (batch_size) through "
        f"encoder {options.encoder!r}: lower batch_size, then unroll_length (learning changes with both)",
        f"  {weights:,} weights with gradients and moments, {_mib(16 * weights)}: lower policy.hidden_size = "
        f"{options.hidden_size} and policy.features = {options.features}, or choose a smaller policy.encoder",
    ]
    if config.carries_traces:
        row = trace_bytes(policy)
        lines.append(
            f"  traces of {streams} streams (num_streams), {_mib(row)} each: "
            f"{_mib(row * streams)}; lower num_streams or policy.hidden_size"
        )
        if config.objective == "ppo":
            chunks = config.unroll_length // config.ppo.chunk_of(config.unroll_length) * batch
            lines.append(
                f"  and {chunks} more, one for each sub-chunk of a batch (unroll_length / ppo.chunk_length x "
                f"batch_size): {_mib(row * chunks)}; raise ppo.chunk_length"
            )
        if config.rtrl.fresh_traces or config.rtrl.staleness_interval:
            lines.append(
                f"  and {config.rtrl.history_rollouts} rollouts of each to compute traces anew from: lower "
                "rtrl.history_rollouts"
            )
    return "\n".join(lines)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
