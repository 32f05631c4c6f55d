"""The policy: one set of weights, acted with and learned."""

from actors.policy.policy import Policy, PolicyChunk, PolicyUnroll, State

__all__ = ["Policy", "PolicyChunk", "PolicyUnroll", "State"]
