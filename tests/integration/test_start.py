"""How a run begins or goes on: nothing on disk before all input was found good, no run taken for another."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

import launch as launch_module
from learner.records.checkpoint import load_latest
from learner.records.choose import load_chosen
from tests.cluster.ray_nodes import free_port

QUIET = ("--runtime", "inline", "--wandb.mode", "disabled")


def run(*arguments: str) -> int:
    try:
        return launch_module.main(list(arguments))
    except SystemExit as exit_:
        assert isinstance(exit_.code, int)
        return exit_.code


def train(run_dir: Path, *more: str, preset: str = "memory_rtrl", steps: int = 400) -> int:
    """80 steps an update."""
    return run("train", preset, "--total-steps", str(steps), "--run-dir", str(run_dir), *QUIET, *more)


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.fixture(autouse=True)
def no_account(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No W&B key or login of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def smaller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of fewer units than a preset's."""
    run_dir = tmp_path_factory.mktemp("smaller")
    assert train(run_dir, "--policy.hidden-size", "4", steps=160) == 0
    return run_dir


ROTATING = ("--policy.hidden-size", "4", "--policy.core", "rtu")


@pytest.fixture(scope="module")
def rotating(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of trace units."""
    run_dir = tmp_path_factory.mktemp("rotating")
    assert train(run_dir, *ROTATING, steps=160) == 0
    return run_dir


# --- starts that fail --------------------------------------------------------------------------

FAILING = {
    "a dead Ray address": (["--runtime", "ray", "--ray.address", f"127.0.0.1:{free_port()}"], 2),
    "a W&B login that fails": (["--wandb.mode", "online"], 1),
    "an env that cannot be made": (["--env.id", "NoSuchEnv-v0"], 2),
    "a device that is not there": (["--device", "cuda:77"], 2),
    "a policy that is nowhere": (["--policy.load", "nowhere"], 2),
    "a policy of another shape": (["--policy.load", "SMALLER"], 2),
    "an encoder that is nowhere": (["--policy.encoder", "mlp", "--policy.load-encoder", "nowhere"], 2),
}


@pytest.mark.parametrize("why", FAILING)
@pytest.mark.parametrize("begun_as", ["new", "auto"])
def test_a_start_that_fails_leaves_no_folder_and_can_be_made_again(
    why: str, begun_as: str, smaller: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, code = FAILING[why]
    run_dir, more = tmp_path / "run", ["--auto-resume"] if begun_as == "auto" else []
    words = [str(smaller) if word == "SMALLER" else word for word in words]
    assert train(run_dir, *more, *words) == code
    assert list(tmp_path.iterdir()) == []
    if begun_as == "new":
        assert train(run_dir) == 0


def test_a_folder_that_was_there_before_a_failed_start_keeps_what_is_the_users(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert train(tmp_path, "--wandb.mode", "online") == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert train(tmp_path, "--auto-resume") == 0, "and is begun again"
    assert load_latest(tmp_path / "checkpoints").step == 400
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_run_that_cannot_go_on_stays_as_it_was(tmp_path: Path) -> None:
    assert train(tmp_path / "run") == 0
    before = content(tmp_path)
    for words, code in FAILING.values():
        if "--device" in words or "--wandb.mode" in words or "--ray.address" in words:
            resume = ["--resume", str(tmp_path / "run"), "--total-steps", "800", *words]
            assert run("train", *resume) == code
            assert {path: before[path] for path in content(tmp_path) if path in before} == before
            assert all("wandb" in str(path) for path in content(tmp_path).keys() - before.keys())


def test_killed_in_its_first_save_it_begins_again(tmp_path: Path) -> None:
    """A hidden folder is no checkpoint."""
    assert train(tmp_path / "whole") == 0
    half = tmp_path / "half"
    (half / "checkpoints" / ".tmp-step_000000000000").mkdir(parents=True)
    for name in ("config.json", "starts.jsonl"):
        (half / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    (half / "metrics.jsonl").touch()
    assert train(half, "--auto-resume") == 0
    assert load_latest(half / "checkpoints").step == 400
    assert not list((half / "checkpoints").glob(".*"))


# --- begin, or go on ---------------------------------------------------------------------------


def test_the_same_command_begins_a_run_and_goes_on_with_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    assert train(run_dir, "--auto-resume") == 0
    assert train(run_dir, "--auto-resume") == 0
    assert "going on" not in capfd.readouterr().err, "the same settings are nothing to tell of"
    assert train(run_dir, "--auto-resume", "--checkpoint.keep-last", "2", steps=800) == 0
    printed = capfd.readouterr().err
    assert "total_steps = 800, was 400" in printed and "checkpoint.keep_last = 2, was 3" in printed
    starts = [json.loads(line)["global_step"] for line in (run_dir / "starts.jsonl").read_text().splitlines()]
    assert starts == [0, 400, 400] and load_latest(run_dir / "checkpoints").step == 800


@pytest.mark.parametrize(
    ("preset", "more", "said"),
    [
        ("memory_rtrl", ["--seed", "2"], "seed = 1 there, 2 asked for"),
        ("memory_tbptt", [], "preset = 'memory_rtrl' there, 'memory_tbptt' asked for"),
        ("memory_rtrl", ["--learning-rate", "0.1"], "learning_rate = 0.003 there, 0.1 asked for"),
        ("memory_rtrl", ["--env.memory.delay", "3"], "env.memory.delay = 20 there, 3 asked for"),
        ("memory_rtrl", ["--policy.hidden-size", "8"], "policy.hidden_size = 32 there, 8 asked for"),
    ],
)
def test_another_run_is_not_gone_on_with(
    preset: str, more: list[str], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "run") == 0
    before = content(tmp_path)
    assert train(tmp_path / "run", "--auto-resume", *more, preset=preset) == 2
    printed = capfd.readouterr().err
    assert "holds another run" in printed and said in printed and "--resume" in printed
    assert ("change it on purpose" in printed) == ("policy." not in said), "a policy is kept as it is"
    assert content(tmp_path) == before


def test_a_run_that_cannot_be_read_is_not_begun_anew(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "run") == 0
    (tmp_path / "run" / "checkpoints").rename(tmp_path / "run" / "aside")
    (tmp_path / "run" / "checkpoints").symlink_to("checkpoints")
    before = content(tmp_path / "run" / "aside")
    (tmp_path / "run" / "metrics.jsonl").unlink()  # which would give it away as well
    for more in ([], ["--auto-resume"]):
        assert train(tmp_path / "run", *more) == 1
        assert "cannot be read" in capfd.readouterr().err
    assert content(tmp_path / "run" / "aside") == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["memory_rtrl", "--auto-resume"], "--auto-resume needs --run-dir"),
        (["--resume"], "needs a run directory"),
        (["memory_rtrl", "--resume", "x"], "leave out 'memory_rtrl'"),
        (["--resume", "x", "--auto-resume"], "leave out '--auto-resume'"),
    ],
)
def test_flags_that_do_not_go_together(
    words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("train", *words) == 2
    assert said in capfd.readouterr().err


# --- from the policy of another run ------------------------------------------------------------


def policy_of(run_dir: Path, which: str = "newest") -> dict[str, torch.Tensor]:
    tensors = load_chosen(run_dir / "checkpoints", which).tensors
    return {name: tensor for name, tensor in tensors.items() if name.startswith("policy/")}


@pytest.mark.parametrize("place", ["", "checkpoints/step_000000000080"])
def test_a_new_run_starts_from_the_whole_policy_of_another(smaller: Path, tmp_path: Path, place: str) -> None:
    more = ["--policy.hidden-size", "4", "--seed", "7", "--checkpoint.keep-last", "9"]
    source = smaller / place
    if place:
        assert train(tmp_path / "source", *more[:2], *more[4:], "--checkpoint.interval-s", "1e-9") == 0
        source = tmp_path / "source" / place
    assert train(tmp_path / "run", "--policy.load", str(source), *more) == 0
    expected = policy_of(smaller if not place else tmp_path / "source", "80" if place else "newest")
    began, plain = policy_of(tmp_path / "run", "0"), policy_of(smaller, "0")
    assert began.keys() == expected.keys() and all(torch.equal(began[n], expected[n]) for n in expected)
    assert not all(torch.equal(began[name], plain[name]) for name in plain)
    starts = json.loads((tmp_path / "run" / "starts.jsonl").read_text())
    assert starts["global_step"] == 0, "a new run, with a schedule and a count of its own"


def test_a_run_that_goes_on_does_not_start_from_the_other_policy_again(smaller: Path, tmp_path: Path) -> None:
    more = ["--policy.hidden-size", "4", "--policy.load", str(smaller), "--auto-resume"]
    assert train(tmp_path / "run", *more) == 0
    trained = policy_of(tmp_path / "run")
    assert train(tmp_path / "run", *more) == 0  # nothing is left to do
    assert all(torch.equal(trained[name], tensor) for name, tensor in policy_of(tmp_path / "run").items())


OTHERWISE = {
    "core": ["--policy.core", "linear_rtu"],
    "rotation.angle": ["--policy.rotation.angle", "direct"],
    "rotation.radius": ["--policy.rotation.radius", "exp"],
    "rotation.activation": ["--policy.rotation.activation", "tanh"],
    "previous_reward": ["--policy.no-previous-reward"],
}
"""Weights that mean something else; but for the last of the same shapes."""


@pytest.mark.parametrize("name", [*OTHERWISE, "rotation.r_min"])
def test_a_run_that_goes_on_reads_its_weights_as_they_were_meant(
    name: str, rotating: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {file.name: file.read_bytes() for file in rotating.glob("*.json*")}
    words = OTHERWISE.get(name, ["--policy.rotation.r-min", "0.9"])
    assert run("train", "--resume", str(rotating), "--total-steps", "800", *words) == 2
    assert f"policy.{name} = " in (printed := capfd.readouterr().err) and "leave it out" in printed
    assert {file.name: file.read_bytes() for file in rotating.glob("*.json*")} == before


@pytest.mark.parametrize("name", OTHERWISE)
@pytest.mark.parametrize("place", ["", "checkpoints/step_000000000160"])
def test_a_policy_of_another_recurrence_is_not_taken(
    name: str, place: str, rotating: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*ROTATING, *OTHERWISE[name], "--policy.load", str(rotating / place)]
    assert train(tmp_path / "run", *words) == 2
    printed = capfd.readouterr().err
    assert f"holds another policy: policy.{name} is" in printed and not (tmp_path / "run").exists()


# --- paths -------------------------------------------------------------------------------------


def test_a_home_folder_is_found_where_the_shell_does_not_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert run("train", "memory_rtrl", "--total-steps", "80", "--run-dir=~/x", *QUIET) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert run("train", "--resume=~/x", "--total-steps", "160") == 0
    assert load_latest(tmp_path / "home" / "x" / "checkpoints").step == 160


def test_a_resumed_run_stays_where_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_dir, other = tmp_path / "run", tmp_path / "other"
    assert train(run_dir) == 0
    assert run("train", "--resume", str(run_dir), "--run-dir", str(other)) == 2
    printed = capfd.readouterr().err
    assert str(other) in printed and "stays in its directory" in printed and not other.exists()
    assert run("train", "--resume", str(run_dir), "--run-dir", f"{run_dir}/../run") == 0
    run_dir.rename(other)
    assert run("train", "--resume", str(other)) == 0, "one that was moved goes on where it is now"
    assert json.loads((other / "config.json").read_text())["run_dir"] == str(other)


def test_a_working_directory_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir("/proc")  # where not even root can make a folder
    assert run("train", "memory_rtrl", "--total-steps", "80", *QUIET) == 2
    printed = capfd.readouterr().err
    assert "run directory /proc/runs cannot be made" in printed and "--run-dir" in printed


WANDERING = """
import os, gymnasium, numpy as np
class Wandering(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,))
    action_space = gymnasium.spaces.Discrete(2)
    def __init__(self, render_mode=None):
        os.chdir("/")
    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(3, np.float32), {}
    def step(self, action):
        self.t += 1
        return np.zeros(3, np.float32), 0.0, self.t == 7, False, {}
gymnasium.register("NAME-v0", Wandering)
"""


@pytest.mark.parametrize("named", [True, False])
def test_an_env_that_changes_the_working_directory_moves_no_run(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"wandering_{named}"
    (tmp_path / f"{name}.py").write_text(WANDERING.replace("NAME", name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    env = ["--env.id", f"{name}:{name}-v0", "--env.num-envs", "4", "--batch-size", "4"]
    where = ["--run-dir", "runs/memory_rtrl/mine"] if named else []
    assert run("train", "memory_rtrl", *env, "--total-steps", "40", *where, *QUIET) == 0
    (found,) = (tmp_path / "runs" / "memory_rtrl").iterdir()
    assert load_latest(found / "checkpoints").step >= 40
