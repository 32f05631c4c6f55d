"""A whole run on DeepMind Lab's stand-in: engines in processes of their own below Ray's workers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import psutil
import pytest

from envs.suites.gym.words import hash_words
from learner.records.checkpoint import Checkpoint, load_latest
from tests.envs.suites.dmlab import fake_deepmind_lab
from tests.envs.suites.dmlab.fake_deepmind_lab import EPISODE_FRAMES, INSTRUCTIONS, LOG_VARIABLE
from tests.integration.cli import ROOT, Launch, ended, read_metrics, wait_until

pytestmark = pytest.mark.usefixtures("nothing_left")

SMALL = (
    *("--num-actors", "2", "--env.num-envs", "2", "--batch-size", "4", "--unroll-length", "20"),
    *("--policy.encoder", "shallow", "--policy.hidden-size", "32", "--learner-threads", "1"),
    *("--log-interval-s", "0.05", "--wandb.mode", "disabled"),
)
INLINE = ("--runtime", "inline", *SMALL)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """For processes that find the stand-in as `deepmind_lab`."""
    (tmp_path / "lib").mkdir()
    shutil.copy(str(fake_deepmind_lab.__file__), tmp_path / "lib" / "deepmind_lab.py")
    return {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path / "lib")]),
        LOG_VARIABLE: str(tmp_path / "log"),
    }


def words_learned(checkpoint: Checkpoint) -> set[int]:
    """The words whose embeddings have had a gradient: RMSprop has averaged its square."""
    embedding = checkpoint.tensors["policy/encoder.parts.instruction.embedding.weight"]
    (squares,) = (
        tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith("optimizer/") and tensor.shape == embedding.shape
    )
    return set(squares.any(1).nonzero().flatten().tolist())


@pytest.mark.ray
def test_rtrl_trains_through_ray(launch: Launch, tmp_path: Path, environment: dict[str, str]) -> None:
    run_dir, cache = tmp_path / "run", tmp_path / "maps"
    process = launch.start(
        *("train", "dmlab_explore_goal_locations_small_rtrl", "--run-dir", str(run_dir)),
        *("--total-steps", "400", "--env.dmlab.level-cache", str(cache), *SMALL, "--env.dmlab.num-maps", "4"),
        *("--ray.object-store-mib", "128"),
        *("--env.dmlab.extra-observations", "INSTR,VEL.TRANS", "--reward-clipping", "soft_asymmetric"),
        **environment,
    )
    code, output = ended(process)
    assert code == 0, output
    assert "total_steps = 400 reached" in output
    rows = read_metrics(run_dir)
    checkpoint = load_latest(run_dir / "checkpoints")
    assert checkpoint.step == rows[-1]["global_step"] >= 400
    assert words_learned(checkpoint)
    assert words_learned(checkpoint) <= {int(word) for text in INSTRUCTIONS for word in hash_words(text)} - {
        0
    }
    assert rows[-1]["rtrl/trace_breaks"] == rows[-1]["faults/actor_restarts"] == 0
    assert all(row["perf/fps"] == pytest.approx(4 * row["charts/SPS"]) for row in rows)
    returns = [row["charts/episodic_return"] for row in rows if "charts/episodic_return" in row]
    assert returns and all(0 <= value <= EPISODE_FRAMES for value in returns)
    engines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert len(engines) == 2 + 2 * 2 * 2, "one each for driver and learner, who learn the shapes; two a slot"
    wait_until(lambda: not any(psutil.pid_exists(engine["pid"]) for engine in engines))
    # Ray kills the actors: their engines' keepers clear up after them.
    wait_until(lambda: not any(Path(engine["temp_folder"]).exists() for engine in engines))
    asked = ["RGB_INTERLEAVED", "INSTR", "VEL.TRANS"]
    assert all(engine["observations"] == asked for engine in engines)
    assert len(list(cache.iterdir())) == 4


def test_an_engine_that_keeps_aborting_ends_the_run_with_its_own_words(
    launch: Launch, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Inline; through Ray an actor's error is told as any other's is (test_runs_through_ray.py)."""
    process = launch.start(
        *("train", "dmlab_rooms_watermaze_rtrl", "--run-dir", str(tmp_path / "run")),
        *("--env.id", "dmlab/tests/fake_abort", *INLINE, "--num-actors", "1", "--batch-size", "2"),
        **environment,
    )
    code, output = ended(process)
    assert code == 1, output
    assert "dmlab/tests/fake_abort, stream " in output and "SIGABRT" in output
    assert "ERROR: Hunk_Alloc failed" in output


def test_a_level_that_does_not_exist_is_a_bad_command_line(
    launch: Launch, tmp_path: Path, environment: dict[str, str]
) -> None:
    process = launch.start(
        *("train", "dmlab_rooms_watermaze_rtrl", "--run-dir", str(tmp_path / "run")),
        *("--env.id", "dmlab/tests/no_such_level", *INLINE),
        **environment,
    )
    code, output = ended(process)
    assert code == 2, output
    assert "Failed to init environment" in output and not (tmp_path / "run").exists()
