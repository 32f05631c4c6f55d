"""How the network is computed: how fast and how finely rounded, never what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dtype = Literal["float32", "bfloat16"]
Tf32 = Literal["auto", "off", "convolutions", "all"]


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Weights, optimiser, core, traces, heads, losses and targets are float32 whatever is chosen here; so are
    checkpoints, which go on under any other choice, and evaluations."""

    encoder_dtype: Dtype = "float32"
    """Of the learner's image encoders, from pixels to features: `bfloat16` by autocast, factors and
    activations of 8 bits, features float32 again. Needs a GPU, or a CPU with AVX512-BF16."""
    actor_encoder_dtype: Dtype = "float32"
    """The same where actors act; the logits that travel are those that acted."""
    tf32: Tf32 = "auto"
    """Which float32 products a GPU may form of factors cut to 11 bits. `convolutions`: those of the encoder
    alone; `all`: also the core's and the trace's, which exact RTRL is then off by (8e-4, kernels/trace);
    `off`: none; `auto`: on a GPU `convolutions`, as torch has it."""
    compile_encoder: bool = False
    """The learner's encoder through torch.compile: seconds to a minute at the start, for fewer passes over
    its activations. Needs a C++ compiler."""
