"""Act at the first step, be paid at the 128th."""

from __future__ import annotations

from experiments.far import act_now

EXPERIMENT = act_now(128)
