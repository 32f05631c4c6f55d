"""Who carries the streams: how many actors, with how many env slots each, on which device.

What a run learns is decided by `num_streams` and `batch_size`. How many actors carry the streams is not part
of it, and is chosen here for the machine, unless it is set. A stream is a number from 0 to num_streams - 1,
and keeps it whoever carries it: its row of the trace bank, its level where a suite has several.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from configs.error import require
from configs.orders import AUTO, Order

if TYPE_CHECKING:
    from configs.schema import Config

THREADED = ("ALE/", "procgen/")
"""Suites that step an actor's slots in threads."""
BESIDE = (*THREADED, "dmlab/")
"""Suites whose envs run beside their actor: in such threads, or as programs of their own."""

ACTOR_MIB = 320
"""What an actor's process takes, besides environments that are programs of their own."""
CUDA_ACTOR_MIB = 1500
"""The same where its policy is on a GPU, which loads CUDA's libraries. An estimate."""
ACTORS_A_GPU = 2
"""While one's envs run, the other is acted on."""
CPUS_FOR_TWO = 4
"""A GPU with fewer CPUs beside it has one actor."""
SHARES = 10_000
"""Ray counts GPUs in parts of so many."""


def laid_out(
    config: Config,
    cpus: int,
    memory_mib: float = float("inf"),
    gpus: int = 0,
    gpu_cpus: int | None = None,
) -> Config:
    """`config` with `num_actors`, `env.num_envs`, `env.num_threads`, `actor_device` and `ray.actor_gpus` set:
    as they were asked for, or chosen.

    `cpus`: that actors may take. `memory_mib`: of the machine; actors take half of it at most. `gpus`: that
    actors may act on; `gpu_cpus` of the CPUs are beside them, None: all.

    The rule: as many actors as have `env.num_threads` CPUs each, no more than there are streams, and equally
    many for each learner; inline one.
    Where a GPU is, and the envs run beside their actor (natively, or as programs of their own), the policy is
    on it; and native envs have one or two actors a GPU, which share the CPUs beside it.

    Few slots are dear: of Breakout with DQN's CNN an agent step takes 2,040 us of CPU where an actor has 1
    slot, 1,240 with 3, 890 with 8, 770 with 16, 730 with 24, 680 with 48 (benchmarks.layouts, docs/log.md).
    So there are no more actors than CPUs, and each has the more slots. A second thread for one actor's slots
    took more CPU than it gave on busy cores, and is not chosen.
    """
    streams, actors, threads = config.num_streams, config.num_actors, config.env.num_threads
    gpu_cpus = cpus if gpu_cpus is None else gpu_cpus
    device = config.actor_device
    if device == "auto":  # not where most CPUs are on nodes without a GPU: they would stand idle
        here = gpus > 0 and 2 * gpu_cpus >= cpus and config.env.id.startswith(BESIDE)
        here = here and config.device != "cpu"  # whoever keeps the learner off the GPU wants it left alone
        device = "cuda" if here else "cpu"
    on_gpu = device != "cpu" and gpus > 0
    cpus = gpu_cpus if on_gpu else cpus
    fat = on_gpu and not threads and config.env.id.startswith(THREADED)
    if config.env.num_envs:
        actors = actors or streams // config.env.num_envs
    elif not actors and config.runtime == "inline":
        actors = 1
    elif not actors:
        room = min(cpus // (threads or 1), memory_mib / 2 // (CUDA_ACTOR_MIB if on_gpu else ACTOR_MIB))
        if fat:
            room = min(room, gpus * (ACTORS_A_GPU if cpus >= CPUS_FOR_TWO * gpus else 1))
        actors = int(max(1, min(streams // config.actor_groups, room)))
        actors = max(config.num_learners, actors - actors % config.num_learners)
    slots = -(-streams // actors)
    if not threads:
        threads = max(1, min(cpus // actors, slots)) if fat else 1
    ray = config.ray
    if on_gpu and config.runtime == "ray" and not ray.actor_gpus:
        ray = dataclasses.replace(ray, actor_gpus=_share(config, actors, gpus))
    env = dataclasses.replace(config.env, num_envs=slots, num_threads=threads)
    return dataclasses.replace(config, num_actors=actors, env=env, actor_device=device, ray=ray)


def laid_out_in_cluster(config: Config, cpus: int, gpus: int, gpu_cpus: int) -> tuple[Config, str]:
    """`config` laid out for what a cluster has for actors, as `laid_out`, and that in words.

    Raises ConfigError for a policy on a GPU where there is none.
    """
    evaluator = config.evaluator_threads if config.eval.interval_steps else 0
    laid = laid_out(config, cpus - evaluator, gpus=gpus, gpu_cpus=max(0, gpu_cpus - evaluator))
    require(
        laid.acting_device == "cpu" or gpus > 0,
        "actor_device",
        config.actor_device,
        "no node of the cluster has a GPU that Ray knows of (`ray start --num-gpus`): set 'auto' or 'cpu'",
    )
    free = f"{_count(cpus, 'free CPU')}" + (f" and {_count(gpus, 'GPU')}" if gpus else "")
    return laid, f"{free} of the cluster"


def machine_named(cores: int, gpus: int) -> str:
    """What a layout was chosen for, in words."""
    return _count(cores, "core") + (f" and {_count(gpus, 'GPU')}" if gpus else "")


def _share(config: Config, actors: int, gpus: int) -> float:
    """Of a GPU for each actor, and the evaluator, and the learners where there is no other GPU. It is one of
    a whole number of equal parts: Ray fills one GPU after the other."""
    learners = config.num_learners if gpus == config.num_learners and config.device != "cpu" else 0
    places = -(-(actors + (config.eval.interval_steps > 0) + learners) // gpus)
    return SHARES // places / SHARES


def streams_of(config: Config, actor_id: int) -> range:
    """The streams that an actor carries. They are spread evenly: some may have one more than others."""
    streams, actors = config.num_streams, config.num_actors
    return range(actor_id * streams // actors, (actor_id + 1) * streams // actors)


def most_actors(config: Config) -> int:
    """As many as can carry the streams."""
    return config.num_streams // config.actor_groups


def with_actors(config: Config, number: int) -> Config:
    """`config`, laid out, with another number of actors that carry the same streams.

    Raises ConfigError for more than there is something to carry for.
    """
    env = dataclasses.replace(config.env, num_envs=-(-config.num_streams // number))
    return dataclasses.replace(config, num_actors=number, env=env)


def with_order(config: Config, order: Order) -> Config:
    """`config`, as it was asked for, with what was ordered since. Raises ConfigError as `with_actors`."""
    env, ray = dataclasses.replace(config.env, num_envs=0), config.ray
    ray = dataclasses.replace(ray, follow_cluster=order.num_actors is None)
    return dataclasses.replace(config, num_actors=order.num_actors or 0, env=env, ray=ray)


def check_layout(config: Config) -> None:
    """Raises ConfigError where streams, actors, slots, batch and the actors' device do not go together."""
    streams, actors, slots = config.num_streams, config.num_actors, config.env.num_envs
    require(
        config.batch_size <= streams,
        "batch_size",
        config.batch_size,
        f"can never be filled: a batch holds one rollout of a stream, and there are num_streams = {streams}; "
        "lower batch_size or raise num_streams",
    )
    require(
        actors <= streams,
        "num_actors",
        actors,
        f"there are num_streams = {streams} env slots to carry: no more than that, or raise num_streams; 0 "
        "(of a running run: auto) chooses",
    )
    agree = slots == -(-streams // actors) if actors else streams % max(slots, 1) == 0
    carriers = f"num_actors = {actors}" if actors else "actors"
    require(
        not slots or agree,
        "env.num_envs",
        slots,
        f"{carriers} of so many slots do not make num_streams = {streams}: set 0, which chooses, or change "
        "one of them",
    )
    fewest = streams // actors if actors else slots or streams
    require(
        config.actor_groups == 1 or (config.actor_groups == 2 and fewest >= 2),
        "actor_groups",
        config.actor_groups,
        "must be 1, or 2 where each actor has 2 slots or more: fewer num_actors, or more env.num_envs",
    )
    require(
        config.actor_device in ("auto", "cpu", "cuda") or config.runtime == "inline",
        "actor_device",
        config.actor_device,
        "through Ray 'auto', 'cpu' or 'cuda': which GPU an actor sees is Ray's choice",
    )


def described(asked: Config, laid: Config, chosen_for: str) -> str:
    """One line on `laid`, the layout of a run that was asked for as `asked`."""
    actors, slots = laid.num_actors, laid.env.num_envs
    least = laid.num_streams // actors
    text = f"{laid.num_streams} streams: {_count(actors, 'actor')} of "
    text += _count(slots, "env slot") if slots == least else f"{least} to {slots} env slots"
    if laid.env.threads > 1:
        text += f" on {laid.env.threads} threads"
    if laid.acting_device != "cpu":
        text += f", acting on {laid.acting_device}"
        text += f" ({laid.ray.actor_gpus:g} of a GPU each)" if laid.runtime == "ray" else ""
    if (learners := laid.num_learners) > 1:
        text += f"; {learners} learners, each with {actors // learners} of them, "
        text += f"{laid.num_streams // learners} streams and {laid.batch_size // learners} columns of a batch"
    if asked.num_actors or asked.env.num_envs:
        return text
    return f"{text}, chosen for {chosen_for} (--num-actors sets another number)"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)


def with_asked_layout(base: Config, words: Sequence[str]) -> tuple[Config, list[str]]:
    """`base` and command-line words such that what they ask for takes the place of the layout of `base`.

    `--num-actors N`: N actors carry the streams. `--env.num-envs E`: as many actors of E slots as it takes;
    inline E is the number of streams. Both: N x E is. `--num-streams` always wins. `--num-actors auto`: as
    many as the cluster has room for, whatever comes and goes.
    """
    words = _followed(base, words)
    asked = {name: _number(words, name) for name in ("num_streams", "num_actors", "env.num_envs")}
    if all(number is None for number in asked.values()):
        return base, list(words)
    streams, actors, slots = asked.values()
    inline = (_value(words, "runtime") or base.runtime) == "inline"
    base = dataclasses.replace(base, num_actors=0, env=dataclasses.replace(base.env, num_envs=0))
    if slots and not streams and (actors or inline):
        return base, [*words, "--num-streams", str(slots * (actors or 1))]
    return base, list(words)


def _followed(base: Config, words: Sequence[str]) -> list[str]:
    """`words` with `--num-actors auto` as the setting that it stands for, which a number ends."""
    number = _value(words, "num_actors")
    if number is None or any("follow" in word for word in words):
        return list(words)
    if number != AUTO:
        return [*words, *(["--ray.no-follow-cluster"] if base.ray.follow_cluster else [])]
    return [*words, "--num-actors", "0", "--ray.follow-cluster"]


def _value(words: Sequence[str], name: str) -> str | None:
    """What `--name VALUE` or `--name=VALUE` gives last."""
    found = None
    for word, following in zip(words, [*words, ""][1:], strict=True):
        flag, equals, value = word.partition("=")
        if flag.startswith("--") and flag[2:].replace("-", "_") == name:
            found = value if equals else following
    return found


def _number(words: Sequence[str], name: str) -> int | None:
    """None where it is not given, or not a number, which the parser then tells."""
    value = _value(words, name)
    return int(value) if value is not None and value.isdecimal() else None
