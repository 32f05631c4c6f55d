"""The machines of a Ray cluster: what they are called, whether actors can run there, what a dead one left.

Everything here asks Ray's own books or runs a small task on the node in question, which takes no CPU slot.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from configs.schema import ConfigError, EnvConfig
from envs.make import check_env
from envs.spec import EnvError

LAST_LINES = 100  # where each thread of a rank is takes some 60
LAST_BYTES = 64 * 1024
"""So much of a log is read at most, from its end."""
LOG_TIMEOUT_S = 5.0
RAY_MARKS = ("job_id:", "actor_name:", "task_name:")

# The same version on every node that has it: what pickles, and what decides how an env behaves.
# torch is left out: weights travel as arrays, and a CPU build beside a CUDA build is a good choice.
SAME_EVERYWHERE = (
    *("ray", "numpy", "gymnasium", "ale-py", "envpool", "procgen-mirror", "popgym", "minigrid"),
    *("mujoco", "vizdoom"),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Where a worker process lives, and the files that hold what it prints."""

    node_id: str
    pid: int
    logs: tuple[str, ...]


def identity() -> Identity:
    """Of this process, a Ray worker. Ray gives it files for its two output streams; a pipe has no name."""
    streams = (os.readlink(f"/proc/self/fd/{number}") for number in (1, 2))
    logs = tuple(stream for stream in streams if stream.startswith("/"))
    return Identity(ray.get_runtime_context().get_node_id(), os.getpid(), logs)


def _nodes() -> dict[str, dict[str, Any]]:
    return {node["NodeID"]: node for node in ray.nodes()}


def actor_nodes(cpus: float = 1, gpus: float = 0) -> list[str]:
    """The live nodes that have so many CPUs and GPUs, by id."""
    return [
        name
        for name, node in _nodes().items()
        if node["Alive"]
        and node["Resources"].get("CPU", 0) >= cpus
        and node["Resources"].get("GPU", 0) >= gpus
    ]


def places_for(homes: Sequence[str | None], num_cpus: float, num_gpus: float) -> int:
    """How many actors of so many CPUs and GPUs the live nodes can hold, beside those whose nodes are `homes`,
    whatever else may run on them."""
    has = {node_id: node["Resources"] for node_id, node in _nodes().items() if node["Alive"]}
    return min(
        sum(max(0, int(owned.get(name, 0) / each) - homes.count(node_id)) for node_id, owned in has.items())
        for name, each in (("CPU", num_cpus), ("GPU", num_gpus))
        if each
    )


def room_for(homes: Sequence[str | None], num_cpus: float, num_gpus: float) -> int:
    """How many more actors of so many CPUs and GPUs there is room for, beside those whose nodes are `homes`
    (None: not placed yet): of the nodes, and of what is free in the whole cluster, the lesser."""
    rest = ray.available_resources()
    free = [int(rest.get(name, 0) / each) for name, each in (("CPU", num_cpus), ("GPU", num_gpus)) if each]
    return max(0, min(places_for(homes, num_cpus, num_gpus), *free) - homes.count(None))


class Free(NamedTuple):
    """What a cluster has for actors."""

    cpus: int
    """Free on all nodes, now."""
    gpus: int
    """Whole ones of all nodes, taken or not."""
    gpu_cpus: int
    """CPUs beside these: of each GPU as many as beside the one that has fewest."""


def free() -> Free:
    cpus, has = int(ray.available_resources().get("CPU", 0)), []
    for node in _nodes().values():
        gpus = int(node["Resources"].get("GPU", 0)) if node["Alive"] else 0
        has += [int(node["Resources"].get("CPU", 0)) // max(gpus, 1)] * gpus
    return Free(cpus, len(has), min(cpus, len(has) * min(has, default=0)))


def node_name(node_id: str) -> str:
    """Host name, address, and the start of Ray's id, since one host may carry two nodes."""
    node = _nodes().get(node_id)
    if node is None:  # Ray's books keep a bounded number of dead nodes
        return f"node {node_id[:8]}"
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, node {node_id[:8]})"


def is_lost(node_id: str) -> bool:
    node = _nodes().get(node_id)
    return node is None or not node["Alive"]


def lost_node(error: Exception, home: Identity | None) -> str | None:
    """The id of the dead node that took an actor with it; None if the actor failed by itself.

    An actor that had no time to say where it lived: Ray's error names the node.
    """
    named = re.search(r"node has died\. Node Id: (\w+)", str(error))
    node_id = home.node_id if home is not None else named.group(1) if named else None
    return node_id if node_id is not None and is_lost(node_id) else None


def room() -> str:
    """How many CPUs and GPUs the cluster has and how many are free, in words."""
    has, rest = ray.cluster_resources(), ray.available_resources()
    total, left = int(has.get("CPU", 0)), int(rest.get("CPU", 0))
    count = sum(node["Alive"] for node in _nodes().values())
    cpus, nodes = f"{total} CPU" + "s" * (total != 1), f"{count} node" + "s" * (count != 1)
    gpus = f"; GPUs: {has['GPU']:g}, {rest.get('GPU', 0):g} of them free" if has.get("GPU") else ""
    return f"the cluster has {cpus} on {nodes}, {left} of them free{gpus}"


def _on(node_id: str) -> dict[str, Any]:
    """Options of a task that runs on this node or not at all."""
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False)}


def _tail(logs: tuple[str, ...]) -> str:
    """The last lines of each file, but for the marks that Ray writes for itself."""
    found: list[str] = []
    for log in logs:
        try:
            with Path(log).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_BYTES))
                text = file.read(LAST_BYTES).decode(errors="replace")
        except OSError as error:  # whoever cleans temporary folders up takes logs too
            found.append(f"({log} cannot be read: {error.strerror})")
            continue
        lines = [line for line in text.splitlines() if line.strip()]
        found += [line for line in lines if not line.lstrip(":").startswith(RAY_MARKS)][-LAST_LINES:]
    return "\n".join(found)


def last_words(dead: Identity) -> str:
    """What a dead worker printed last, or why that cannot be told."""
    where = ", ".join(dead.logs)
    if not dead.logs:
        return "(its node writes no log files)"
    if dead.node_id == ray.get_runtime_context().get_node_id():
        return _tail(dead.logs)
    if is_lost(dead.node_id):
        return f"(its log is on the lost node: {where})"
    reference: Any = ray.remote(_tail).options(**_on(dead.node_id)).remote(dead.logs)
    try:
        return ray.get(reference, timeout=LOG_TIMEOUT_S)
    except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
        return f"(its log, {where}, could not be fetched: {type(error).__name__})"


def doings_on(home: Identity) -> Any:
    """Reference of what a worker's processes are doing, in words, as its node sees them."""
    return ray.remote(_doings).options(**_on(home.node_id)).remote(home.pid)


def _doings(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        states = [(one.pid, one.name(), one.status()) for one in family]
    except psutil.NoSuchProcess:
        return f"process {pid} or one of its own has just ended"
    return ", ".join(f"process {number} ({name}) is {status}" for number, name, status in states)


def report_of(error: Exception, home: Identity | None) -> str:
    """The whole error of an actor; of a process that died also what it printed last."""
    text = str(error).strip()
    if home is not None and not isinstance(error, ray.exceptions.RayTaskError):
        text += f"\nthe last lines of process {home.pid}:\n{last_words(home)}"
    return "\n".join(f"    {line}" for line in text.splitlines())


def versions() -> dict[str, str]:
    """Of Python and of what is installed of SAME_EVERYWHERE."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in SAME_EVERYWHERE:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """What is installed at both places in different versions."""
    both = sorted(set(here) & set(there))
    return [f"{name} {there[name]}, here {here[name]}" for name in both if here[name] != there[name]]


class UnfitNodeError(RuntimeError):
    """No actor of this run can live on the node where this was raised."""


def unfitness(env: EnvConfig, wanted: Mapping[str, str]) -> list[str]:
    """Why no actor of `env` can live on this node, beside a learner with the versions `wanted`."""
    try:
        check_env(env)
    except EnvError as error:
        return [str(error), *differences(wanted, versions())]
    return differences(wanted, versions())


def check_nodes(env: EnvConfig, timeout_s: float) -> None:
    """Looks whether every node that has CPUs could run an actor. On one that joins later each actor looks
    for itself, when it starts.

    Raises ConfigError that names each node which cannot, and why.
    """
    here, faults = versions(), []
    examine = ray.remote(unfitness)
    nodes = actor_nodes()
    answers: list[Any] = [examine.options(**_on(node)).remote(env, here) for node in nodes]
    if answers:
        ray.wait(answers, num_returns=len(answers), timeout=timeout_s)
    for node, answer in zip(nodes, answers, strict=True):
        name = node_name(node)
        try:
            found = ray.get(answer, timeout=0)
        except ray.exceptions.GetTimeoutError:
            faults.append(f"{name}: no answer within {timeout_s:g} s; its logs are in its Ray session folder")
        except ray.exceptions.RayError as error:
            faults.append(f"{name}: {str(error).strip()}")
        else:
            faults += [f"{name}: {fault}" for fault in found]
    if faults:
        raise ConfigError(
            "actors cannot run on every node of the cluster; install the same environment on all "
            "(constraints.txt), or take the node away:\n  " + "\n  ".join(faults)
        )
