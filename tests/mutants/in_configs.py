"""Faults in `configs/`. How an entry is read: faults.py."""

from __future__ import annotations

from tests.mutants.mutant import in_file

MUTANTS = [
    *in_file(
        "configs/layout.py",
        "configs/test_layout.py",
        (
            "streams that do not divide are left over",
            "slots = -(-streams // actors)",
            "slots = streams // actors",
        ),
        (
            "the last actor carries what is left",
            "(actor_id + 1) * streams // actors)",
            "actor_id * streams // actors + streams // actors)",
        ),
        ("actors take all memory", "memory_mib / 2 //", "memory_mib //"),
        ("an actor has more threads than slots", "min(cpus // actors, slots)", "cpus // actors"),
        ("one GPU has all actors of a large cluster", "2 * gpu_cpus >= cpus", "True"),
        ("the learner has no place on its GPU", "if gpus == config.num_learners and", "if False and"),
        (
            "the evaluator has no place on a GPU",
            "(actors + (config.eval.interval_steps > 0) + learners)",
            "(actors + learners)",
        ),
        ("envs in the actor's thread act on a GPU", "and config.env.id.startswith(BESIDE)", "and True"),
    ),
    *in_file(
        "configs/effect.py",
        "configs/test_effect.py",
        ("a forget bias without its gate is taken", "policy.core not in FORGET_GATE,", "False,"),
    ),
    *in_file(
        "configs/identity.py",
        "configs/test_effect.py",
        ("what changes nothing makes another run", "and name not in idle", "and name"),
        (
            "what changes one of two makes no other run",
            "without_effect(saved).keys() &",
            "without_effect(saved).keys() |",
        ),
        (
            "only the core of a policy is kept",
            '_within(name, ("policy",))',
            '_within(name, ("policy.core",))',
        ),
    ),
]
