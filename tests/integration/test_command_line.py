"""Bad input: exit code 2, one clear message, nothing on disk; and the small verbs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import launch as launch_module
from learner.records.run_dir import RunDir


def run(*arguments: str) -> int:
    """In this process, since nothing gets as far as Ray. argparse and tyro exit by themselves."""
    try:
        return launch_module.main(list(arguments))
    except SystemExit as exit_:
        assert isinstance(exit_.code, int)
        return exit_.code


INLINE = ("--runtime", "inline", "--wandb.mode", "disabled")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], ["unknown verb 'fly'", "train"]),
        (["train", "atari_breakout_rtlr"], ["unknown preset", "atari_breakout_rtrl"]),
        (["train", "cartpole_rtrl", "--no-such-field", "1"], ["no-such-field"]),
        (["train", "cartpole_rtrl", "--batch-size", "160"], ["batch_size = 160", "can never be filled"]),
        (["train", "cartpole_rtrl", "--batch-size", "many"], ["--batch-size"]),
        (["train", "atari_brakeout_rtrl"], ["ALE/Brakeout-v5", "ALE/Breakout-v5"]),
        (["train", "cartpole_rtrl", "--env.id", "NoSuchEnv-v0"], ["NoSuchEnv-v0"]),
        (
            ["train", "cartpole_rtrl", "--env.sticky-actions", "0.25"],
            ["env.sticky_actions", "no such setting"],
        ),
        (["train", "cartpole_rtrl", "--policy.encoder", "nature"], ["policy.encoder = 'nature'"]),
        (["train", "cartpole_rtrl", "--policy.core", "lstm"], ["credit = 'rtrl'"]),
        (["train", "cartpole_rtrl", "--device", "cuda:77"], ["device = 'cuda:77'"]),
        (
            ["train", "cartpole_rtrl", "--compute.encoder-dtype", "bfloat16"],
            ["has no effect with policy.enc"],
        ),
        (
            ["train", "gym_rtrl", "--env.id", "CartPole-v1", "--compute.encoder-dtype", "bfloat16"],
            ["compute.encoder_dtype = 'bfloat16': there is no image"],
        ),
        (
            ["train", "cartpole_rtrl", "--device", "cpu", "--compute.tf32", "all"],
            ["compute.tf32 = 'all': a CPU"],
        ),
        (["train", "--resume"], ["needs a run directory"]),
        (["train", "--resume", "/nowhere"], ["/nowhere", "not a run directory"]),
        (["eval", "/nowhere"], ["/nowhere", "not a run directory"]),
        (["bench", "no_preset"], ["unknown preset 'no_preset'"]),
    ],
)
def test_bad_input_exits_with_2_and_one_message(
    arguments: list[str], words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    if arguments[:1] == ["train"] and "--resume" not in arguments:
        arguments = [*arguments, "--run-dir", str(run_dir), *INLINE]
    assert run(*arguments) == 2
    printed = capfd.readouterr().err
    assert all(word in printed for word in words), printed
    assert "Traceback" not in printed
    assert not run_dir.exists()


def test_help_names_the_verbs_and_the_presets(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0 and run("train", "--help") == 0
    printed = capfd.readouterr().out
    assert all(verb in printed for verb in launch_module.VERBS) and "cartpole_" in printed
    assert run() == 2


def _tiny(run_dir: Path, *more: str) -> list[str]:
    return ["train", "cartpole_rtrl", "--total-steps", "1300", "--run-dir", str(run_dir), *INLINE, *more]


def test_a_run_directory_is_not_used_twice(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_dir = tmp_path / "run"
    assert run(*_tiny(run_dir)) == 0
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    assert run(*_tiny(run_dir)) == 2
    assert "already holds a run" in capfd.readouterr().err
    holder = RunDir.open(run_dir)
    try:
        assert run("train", "--resume", str(run_dir)) == 2
        assert "in use" in capfd.readouterr().err
    finally:
        holder.release()
    assert run("train", "--resume", str(run_dir), "--policy.hidden-size", "32") == 2
    assert "policy.hidden_size = 32: was 64" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


def test_eval_plays_whole_games_and_writes_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_dir, result = tmp_path / "run", tmp_path / "result.json"
    assert run(*_tiny(run_dir)) == 0
    assert run("eval", str(run_dir), "--episodes", "5", "--sampled", "--json", str(result)) == 0
    written = json.loads(result.read_text())
    assert written["episodes"] == 5 == len(written["returns"])
    assert written["episodic_return_mean"] == pytest.approx(sum(written["returns"]) / 5)
    assert all(value == length for value, length in zip(written["returns"], written["lengths"], strict=True))
    assert "cartpole/masked: return" in capfd.readouterr().out
    assert run("eval", str(run_dir), "--episodes", "0") == 2


def test_doctor_says_which_suites_run(tmp_path: Path) -> None:
    path = tmp_path / "doctor.json"
    assert run("doctor", "--json", str(path)) == 0
    written = json.loads(path.read_text())
    assert written["suites"]["cartpole"]["runs"] is True
    assert written["packages"]["torch"]


def test_resume_goes_on_from_the_saved_step_and_the_command_line_wins(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    assert run(*_tiny(run_dir)) == 0
    assert run("train", "--resume", str(run_dir), "--total-steps", "3200") == 0
    config = json.loads((run_dir / "config.json").read_text())
    assert config["total_steps"] == 3200
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    steps = [row["global_step"] for row in rows]
    assert steps == sorted(steps) and steps[-1] >= 3200
    assert (run_dir / "checkpoints" / f"step_{steps[-1]:012d}").is_dir()


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    assert run(*_tiny(run_dir)) == 0
    newest = sorted((run_dir / "checkpoints").iterdir())[-1] / "tensors.safetensors"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert run("train", "--resume", str(run_dir)) == 0
    assert "checkpoint refused" in capfd.readouterr().err


def test_torch_takes_no_more_threads_than_a_quota_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(launch_module, "available_cores", lambda: 1)
    torch.set_num_threads(2)
    try:
        run("train")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_an_interrupt_before_a_run_has_begun_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(launch_module.VERBS, "train", interrupted)
    assert launch_module.main(["train", "memory_rtrl"]) == 130
    assert capfd.readouterr().err == "launch.py train: interrupted\n"
