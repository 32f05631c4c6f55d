"""The policy: one set of weights, acted with and learned."""

from actors.policy.policy import Policy, PolicyUnroll, State

__all__ = ["Policy", "PolicyUnroll", "State"]
