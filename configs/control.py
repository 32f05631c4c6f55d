"""What continuous control needs of a policy: the Gaussian that its actions are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class GaussianConfig:
    """Of continuous actions. With discrete ones no setting is taken but the defaults."""

    deviation: Literal["network", "free"] = "network"
    """`network`: a deviation for each state; `free`: one parameter a dimension, whatever the state, as PPO
    has it on MuJoCo. About 1 at the start, where the bounds of an action are -1 and 1."""
    bounds: Literal["squash", "clip"] = "squash"
    """How an action comes to lie within its bounds: tanh, whose density is accounted for (SAC), or a clip
    that is the environment's affair, so that the policy is a plain Gaussian."""
