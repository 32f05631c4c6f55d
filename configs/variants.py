"""The four arms that every suite offers: one network, four ways to carry (or not carry) the past."""

from __future__ import annotations

from typing import Any

VARIANTS: dict[str, dict[str, Any]] = {
    "rtrl": {"core": "elstm", "credit": "rtrl"},
    "tbptt": {"core": "elstm", "credit": "tbptt"},
    "lstm": {"core": "lstm", "credit": "tbptt"},
    "feedforward": {"core": "none", "credit": "tbptt"},
}
"""Suffix of a preset's name to (policy.core, credit)."""
