"""Checkpoints: what is written comes back, what is damaged is refused, and no kill leaves nothing."""

from __future__ import annotations

import json
import logging
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from learner.records import checkpoint
from learner.records.checkpoint import CheckpointError, load, load_latest, save


def some_tensors(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {
        "policy/encoder.0.weight": torch.randn(5, 7, generator=generator),
        "traces/W_z": torch.randn(3, 4, 2, generator=generator, dtype=torch.float64),
        "rng/torch": torch.randint(0, 256, (64,), generator=generator, dtype=torch.uint8),
        "scalar": torch.tensor(float(step)),
        "empty": torch.zeros(0, 3),
        "flags": torch.tensor([True, False]),
    }


def save_steps(folder: Path, *steps: int, keep_last: int = 10) -> None:
    for step in steps:
        save(folder, step, some_tensors(step), {"updates": step // 10}, keep_last)


def assert_is_step(loaded: checkpoint.Checkpoint, step: int) -> None:
    assert loaded.step == step and loaded.meta == {"updates": step // 10}
    expected = some_tensors(step)
    assert loaded.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(loaded.tensors[name], tensor, rtol=0, atol=0)


def test_round_trip(tmp_path: Path) -> None:
    path = save(tmp_path / "checkpoints", 1200, some_tensors(1200), {"updates": 120}, keep_last=3)
    assert path == tmp_path / "checkpoints" / "step_000000001200"
    assert_is_step(load(path), 1200)
    loaded = load_latest(tmp_path / "checkpoints")
    assert_is_step(loaded, 1200)
    assert loaded.path == path and loaded.refused == []
    loaded.tensors["scalar"] += 1  # memory of its own, writable


def test_meta_lists_names_shapes_and_dtypes(tmp_path: Path) -> None:
    path = save(tmp_path, 5, some_tensors(5), {}, keep_last=1)
    content = json.loads((path / "meta.json").read_text())["content"]
    assert content["format_version"] == 1 and content["step"] == 5
    assert content["tensors"]["traces/W_z"] == {"dtype": "torch.float64", "shape": [3, 4, 2]}


def test_tensors_that_share_memory_or_are_not_contiguous(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"whole": base, "row": base[1], "transposed": base.T, "expanded": base[:, :1].expand(3, 5)}
    tensors["parameter"] = torch.nn.Parameter(base)
    loaded = load(save(tmp_path, 1, tensors, {}, keep_last=1)).tensors
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor.detach()), name


def test_keeps_the_last_k(tmp_path: Path) -> None:
    save_steps(tmp_path, 10, 20, 30, 40, 50, keep_last=3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"step_{s:012d}" for s in (30, 40, 50)]
    save_steps(tmp_path, 60, keep_last=1)
    assert [p.name for p in tmp_path.iterdir()] == ["step_000000000060"]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save_steps(tmp_path, 10)
    save(tmp_path, 10, {"new": torch.ones(1)}, {}, keep_last=1)
    assert set(load_latest(tmp_path).tensors) == {"new"}
    assert [p.name for p in tmp_path.iterdir()] == ["step_000000000010"]


def test_no_checkpoint_is_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CheckpointError, match="no checkpoint in"):
            load_latest(folder)


def test_a_save_drops_the_abandoned_future(tmp_path: Path) -> None:
    """After falling back from a damaged 30 to 20, saving 25 must not lose to 30, nor be pruned for it."""
    save_steps(tmp_path, 10, 20, 30)
    flip_bit(tmp_path / "step_000000000030" / "tensors.safetensors", 400)
    assert load_latest(tmp_path).step == 20
    save_steps(tmp_path, 25, keep_last=1)
    assert load_latest(tmp_path).step == 25 and load_latest(tmp_path).refused == []


# --- damage ------------------------------------------------------------------------------------


def flip_bit(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


def assert_refused(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The newest, 20, is refused with a warning that names it, and 10 is used."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        loaded = load_latest(folder)
    assert_is_step(loaded, 10)
    assert len(loaded.refused) == 1 and "step_000000000020" in loaded.refused[0]
    warning = f"{loaded.refused[0]}; using step_000000000010 instead"
    assert [record.getMessage() for record in caplog.records] == [warning]


@pytest.mark.parametrize("name", ["tensors.safetensors", "meta.json"])
def test_flipped_bits_are_refused(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    save_steps(tmp_path, 10, 20)
    file = tmp_path / "step_000000000020" / name
    intact, choose = file.read_bytes(), random.Random(3)
    for _ in range(40):
        flip_bit(file, choose.randrange(8 * len(intact)))
        if name == "meta.json" and json.loads(intact) == _json_or_none(file):
            continue  # the flip hit blank space between two items, and changed nothing
        assert_refused(tmp_path, caplog)
        file.write_bytes(intact)


def _json_or_none(file: Path) -> object:
    try:
        return json.loads(file.read_bytes())
    except ValueError:
        return None


@pytest.mark.parametrize("name", ["tensors.safetensors", "meta.json"])
def test_truncated_files_are_refused(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    save_steps(tmp_path, 10, 20)
    file = tmp_path / "step_000000000020" / name
    intact, choose = file.read_bytes(), random.Random(4)
    for length in [0, 1, len(intact) - 1, *(choose.randrange(len(intact)) for _ in range(20))]:
        file.write_bytes(intact[:length])
        assert_refused(tmp_path, caplog)


@pytest.mark.parametrize("name", ["tensors.safetensors", "meta.json"])
def test_missing_files_are_refused(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    save_steps(tmp_path, 10, 20)
    (tmp_path / "step_000000000020" / name).unlink()
    assert_refused(tmp_path, caplog)


def test_unknown_format_is_refused_by_name_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 2)
    path = save(tmp_path, 20, {}, {}, keep_last=1)
    monkeypatch.undo()
    save(tmp_path / "elsewhere", 10, {}, {}, keep_last=1).rename(tmp_path / "step_000000000010")
    for read, place in ((load, path), (load_latest, tmp_path)):
        with pytest.raises(CheckpointError, match="has format 2, this version reads 1"):
            read(place)


# --- what cannot be read may be intact ----------------------------------------------------------


def break_reading(path: Path, how: str) -> str:
    """Puts something in the place of `path` that the system really refuses to read; what it then says."""
    path.unlink()
    if how == "EIO":
        path.symlink_to("/proc/self/mem")  # opens; reading from address 0 is an input/output error
        return "Input/output error"
    if how == "a loop of links":
        path.symlink_to(path.name)
        return "symbolic links"
    path.mkdir()
    return "Is a directory"


@pytest.mark.parametrize("name", ["tensors.safetensors", "meta.json"])
@pytest.mark.parametrize("how", ["EIO", "a loop of links", "a folder"])
def test_what_cannot_be_read_is_not_passed_over(tmp_path: Path, name: str, how: str) -> None:
    save_steps(tmp_path, 10, 20)
    said = break_reading(tmp_path / "step_000000000020" / name, how)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        CheckpointError, match=rf"(?s)step_000000000020 cannot be read.*{said}.*intact"
    ) as error:
        load_latest(tmp_path)
    assert not isinstance(error.value, checkpoint.DamagedCheckpointError)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_one_before_one_that_cannot_be_read_does_not_hide_it(tmp_path: Path) -> None:
    save_steps(tmp_path, 10, 20, 30)
    flip_bit(tmp_path / "step_000000000030" / "tensors.safetensors", 400)
    break_reading(tmp_path / "step_000000000020" / "tensors.safetensors", "EIO")
    with pytest.raises(CheckpointError, match="step_000000000020 cannot be read"):
        load_latest(tmp_path)


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").symlink_to("checkpoints")
    for read in (load_latest, checkpoint.newest, checkpoint.steps):
        with pytest.raises(CheckpointError, match="checkpoints cannot be read"):
            read(tmp_path / "checkpoints")


READ_AS_NOBODY = """
import os, sys
from pathlib import Path
from learner.records.checkpoint import load_latest

os.chdir(sys.argv[1])  # as root: what lies above belongs to root alone
os.setresuid(65534, 65534, 65534)
try:
    load_latest(Path("checkpoints"))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up root's rights, to be refused by the system")
def test_a_missing_permission_is_neither_damage_nor_emptiness(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    save_steps(folder, 10, 20)
    for locked in (folder / "step_000000000020" / "meta.json", folder):
        locked.chmod(0)
        said = run_script(READ_AS_NOBODY, tmp_path)
        assert said.startswith("CheckpointError") and "Permission denied" in said
        locked.chmod(0o755)


def test_all_damaged_names_all(tmp_path: Path) -> None:
    save_steps(tmp_path, 10, 20)
    for step in (10, 20):
        (tmp_path / f"step_{step:012d}" / "meta.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"(?s)no usable checkpoint.*0020.*0010"):
        load_latest(tmp_path)


def test_meta_must_be_plain_json(tmp_path: Path) -> None:
    for bad in (float("nan"), {1, 2}, torch.zeros(1)):
        with pytest.raises(ValueError, match="meta of step 10 is not plain JSON"):
            save(tmp_path, 10, {}, {"bad": bad}, keep_last=1)  # pyright: ignore[reportArgumentType]
    assert list(tmp_path.iterdir()) == []


# --- failing disks -----------------------------------------------------------------------------


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Writes past `size` bytes of a file fail with EFBIG, as they fail with ENOSPC on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [0, 100, 1000], ids=["at once", "within the tensors", "within meta.json"])
def test_a_failing_write_leaves_the_checkpoints_before(tmp_path: Path, limit: int) -> None:
    save_steps(tmp_path, 10, 20, keep_last=2)
    assert (tmp_path / "step_000000000020" / "tensors.safetensors").stat().st_size < 1000
    with files_limited_to(limit), pytest.raises(CheckpointError, match=r"step_000000000030.*File too large"):
        save(tmp_path, 30, some_tensors(30), {"bulk": "x" * 2000}, keep_last=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_000000000010", "step_000000000020"]
    save_steps(tmp_path, 30, keep_last=2)
    assert_is_step(load_latest(tmp_path), 30)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file is in the way")
    with pytest.raises(CheckpointError, match="cannot save checkpoint"):
        save_steps(tmp_path / "checkpoints", 10)


# --- kills -------------------------------------------------------------------------------------

KILLED_AT_RANDOM = """
import os, random, signal, sys, time, torch
from pathlib import Path
from learner.records.checkpoint import load_latest, save

folder, choose, interrupted = Path(sys.argv[1]), random.Random(1), 0
torch.set_num_threads(1)
tensors = {str(i): torch.full((100_000,), float(i)) for i in range(5)}
save(folder, 0, tensors, {}, 2)
for attempt in range(20):
    start, before = load_latest(folder).step, set(os.listdir(folder))
    child = os.fork()
    if child == 0:
        for step in range(start + 1, start + 10_000):
            save(folder, step, tensors, {"step": step}, 2)
    while set(os.listdir(folder)) == before:  # the child's first save begins
        time.sleep(0.0005)
    time.sleep(choose.uniform(0.0, 0.06))
    while attempt == 19 and load_latest(folder).step == start:  # at least one has been whole
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    interrupted += any(path.name.startswith(".") for path in folder.iterdir())
    loaded = load_latest(folder)
    assert loaded.step >= start and not loaded.refused, loaded.refused
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in tensors.items())
save(folder, 10**6, tensors, {}, 2)
assert not any(path.name.startswith(".") for path in folder.iterdir())
print(interrupted, loaded.step)
"""


def test_sigkill_at_random_moments(tmp_path: Path) -> None:
    interrupted, step = run_script(KILLED_AT_RANDOM, tmp_path).split()
    assert int(interrupted) >= 1, "no kill fell into a save: the test shows nothing"
    assert int(step) > 0


KILLED_AT_EACH_CALL = """
import os, shutil, sys, torch
from pathlib import Path
from learner.records.checkpoint import load_latest, save

def die_at(call, folder):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        touched = any(str(folder) in str(a) or ".tmp-" in str(a) or ".old-" in str(a) for a in arguments)
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree") and touched:
            seen += 1
            if seen == call:
                os._exit(9)
    sys.addaudithook(hook)

new_step, folder, deaths = int(sys.argv[2]), Path(sys.argv[1]), set()
for call in range(1, 1000):
    shutil.rmtree(folder, ignore_errors=True)
    save(folder, 10, {"x": torch.tensor([10.0])}, {}, 1)
    child = os.fork()
    if child == 0:
        die_at(call, folder)
        save(folder, new_step, {"x": torch.tensor([20.0])}, {}, 1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    loaded = load_latest(folder)
    value = loaded.tensors["x"].item()
    assert (loaded.step, value) in ((10, 10.0), (new_step, 20.0)) and not loaded.refused, (call, loaded)
    if code == 0:
        break
    assert code == 9, code
    deaths.add(value)
    save(folder, 30, {"x": torch.tensor([30.0])}, {}, 1)
    assert [path.name for path in folder.iterdir()] == ["step_000000000030"], call
assert value == 20.0
print(call, len(deaths))
"""


@pytest.mark.parametrize("new_step", [20, 10, 5], ids=["next step", "same step again", "earlier step"])
def test_death_before_each_call_to_the_disk(tmp_path: Path, new_step: int) -> None:
    """With only one checkpoint kept, dying before any file operation leaves the old or the new one."""
    calls, outcomes = run_script(KILLED_AT_EACH_CALL, tmp_path / "checkpoints", str(new_step)).split()
    assert int(calls) >= 10 and int(outcomes) == 2, "death must have been tried before and after the rename"


def test_half_replaced_checkpoint_outlives_a_second_failure(tmp_path: Path) -> None:
    """Killed between the two renames of a replacement; then the disk fills up."""
    save_steps(tmp_path, 10)
    (tmp_path / "step_000000000010").rename(tmp_path / ".old-step_000000000010")
    with files_limited_to(0), pytest.raises(CheckpointError):
        save_steps(tmp_path, 10)
    assert_is_step(load_latest(tmp_path), 10)


def run_script(source: str, *arguments: object) -> str:
    root = Path(checkpoint.__file__).parents[2]
    command = [sys.executable, "-c", source, *map(str, arguments)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_reader_looks_again_when_the_writer_prunes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation may list a checkpoint that training removes before it is read."""
    save_steps(tmp_path, 10, keep_last=1)
    list_folder = checkpoint._newest_first

    def list_then_train(folder: Path) -> list[Path]:
        found = list_folder(folder)
        if found[0].name.endswith("10"):
            save_steps(folder, 20, keep_last=1)
        return found

    monkeypatch.setattr(checkpoint, "_newest_first", list_then_train)
    loaded = load_latest(tmp_path)
    assert_is_step(loaded, 20)
    assert loaded.refused == []


def test_loading_changes_nothing_on_disk(tmp_path: Path) -> None:
    save_steps(tmp_path, 10, 20)
    shutil.copytree(tmp_path / "step_000000000020", tmp_path / ".tmp-step_000000000030")
    before = sorted(tmp_path.rglob("*"))
    load_latest(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
