"""The five POPGym tasks of arXiv 2409.01449, as POPGym has them."""

from __future__ import annotations

from experiments.catalogue import Experiment
from experiments.control import arms

TASKS = ("count_recall", "repeat_first", "concentration", "autoencode", "higher_lower")

EXPERIMENT = Experiment(
    name="popgym_five",
    description=(
        "POPGym's own tasks, each Easy; the ports that the paper used show nothing of Autoencode's "
        "sequence, and cannot answer CountRecall. Cells by exact RTRL, trace units and a GRU by TBPTT, and "
        "a policy without memory, by the same settings, which were tuned for none. Returns lie in [-1, 1]; "
        "a perfect memory has 1 in CountRecall, RepeatFirst and Autoencode."
    ),
    arms={f"{task}_{name}": arm for task in TASKS for name, arm in arms(f"popgym_{task}").items()},
    total_steps=400_000,
    seeds=tuple(range(10)),
    metric="return",
    chance=None,
    solved=0.9,
)
