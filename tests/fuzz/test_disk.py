"""Whatever stands on disk where a run reads it: a clear error that names it, or what was written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from configs.presets import preset
from configs.schema import Config, ConfigError
from learner.records import checkpoint
from learner.records.checkpoint import CheckpointError
from learner.records.metrics_file import JsonlSink, SinkError, read_rows
from learner.records.run_dir import RunDir
from learner.records.state import join_state, split_state
from tests.fuzz.fuzz import FUZZ

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
KINDS = st.sampled_from(["dict", "tuple", "tensor", "array", "step", "meta", "state", "a", "b/c"])
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KINDS | st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
STATE: dict[str, Any] = {
    "a": torch.arange(6.0).view(2, 3),
    "b": {"c": torch.ones((), dtype=torch.bool), 3: (1, "x", None)},
}


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """Damage to a file: what, where (a share of its length), with what."""
    what = st.sampled_from(["flip", "cut", "insert", "replace"])
    return draw(
        st.lists(
            st.tuples(what, st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=12)),
            min_size=1,
            max_size=4,
        )
    )


def damaged(data: bytes, damage: list[tuple[str, float, bytes]]) -> bytes:
    for what, share, more in damage:
        at = int(share * len(data))
        if what == "cut":
            data = data[:at]
        elif what == "insert":
            data = data[:at] + more + data[at:]
        elif what == "replace":
            data = data[:at] + more + data[at + len(more) :]
        elif at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << more[0] % 8]) + data[at + 1 :]
    return data


def saved(folder: Path) -> Path:
    tensors, rest = split_state(STATE)
    return checkpoint.save(folder, 7, tensors, {"state": rest, "preset": "x"}, keep_last=9)


def forge(path: Path, content: Any, tensors: bytes | None = None) -> None:
    """Writes `content` under the checksum that belongs to it: what only somebody could do who means harm, or
    another version of the code."""
    if tensors is not None:
        (path / "tensors.safetensors").write_bytes(tensors)
        content["tensors_sha256"] = hashlib.sha256(tensors).hexdigest()
    text = json.dumps(content, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (path / "meta.json").write_text(json.dumps({"content": content, "content_sha256": digest}))


@FUZZ
@given(damage=edits(), name=st.sampled_from(["meta.json", "tensors.safetensors"]))
def test_a_damaged_checkpoint_is_refused_or_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[str, float, bytes]], name: str
) -> None:
    path = saved(tmp_path_factory.mktemp("run"))
    file = path / name
    file.write_bytes(damaged(file.read_bytes(), damage))
    try:
        found = checkpoint.load(path)
    except CheckpointError as error:
        assert str(path) in str(error)
        return
    state = join_state(found.meta["state"], found.tensors)
    assert torch.equal(state["a"], STATE["a"]) and state["b"][3] == (1, "x", None) and found.step == 7


@FUZZ
@given(content=JSON, tensors=st.binary(max_size=64))
def test_a_forged_checkpoint_is_refused(
    tmp_path_factory: pytest.TempPathFactory, content: Any, tensors: bytes
) -> None:
    path = saved(tmp_path_factory.mktemp("run"))
    whole = json.loads((path / "meta.json").read_text())["content"]
    forge(path, whole | content if isinstance(content, dict) else content)
    refused_or_read(path)
    forge(path, whole, tensors)
    refused_or_read(path)


@FUZZ
@given(field=st.sampled_from(["format_version", "step", "tensors_sha256", "tensors", "meta"]), value=JSON)
def test_a_checkpoint_with_one_field_that_is_wrong_is_refused(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any
) -> None:
    path = saved(tmp_path_factory.mktemp("run"))
    whole = json.loads((path / "meta.json").read_text())["content"]
    forge(path, whole | {field: value})
    refused_or_read(path)
    del whole[field]
    forge(path, whole)
    if field != "tensors":  # which is for people to read
        with pytest.raises(CheckpointError, match=r"checkpoint"):
            checkpoint.load(path)


def refused_or_read(path: Path) -> None:
    try:
        found = checkpoint.load(path)
        state = join_state(found.meta.get("state"), found.tensors)
    except CheckpointError:
        return
    assert isinstance(found.step, int) and found.step >= 0
    split_state(state)  # plain data again


@FUZZ
@given(skeleton=JSON)
def test_a_states_skeleton_is_put_together_or_refused(skeleton: Any) -> None:
    try:
        state = join_state(skeleton, {"a": torch.ones(2)})
    except CheckpointError:
        return
    split_state(state)


def leaves(data: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(data, dict):
        return [at]
    return [at, *(place for name in data for place in leaves(data[name], (*at, name)))]


CONFIG = json.loads(preset("memory_rtrl").to_json())


@FUZZ
@given(at=st.sampled_from(leaves(CONFIG)[1:]), value=JSON | st.integers() | st.floats())
def test_any_value_in_a_saved_config_is_taken_or_named(at: tuple[str, ...], value: Any) -> None:
    data = json.loads(json.dumps(CONFIG))
    branch = data
    for name in at[:-1]:
        branch = branch[name]
    branch[at[-1]] = value
    try:
        config = Config.from_json(json.dumps(data))
    except ConfigError:
        return
    assert Config.from_json(config.to_json()) == config


@FUZZ
@given(text=st.binary(max_size=40) | JSON.map(lambda data: json.dumps(data).encode()))
def test_a_config_file_of_anything_is_refused(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.json").write_bytes(text)
    with pytest.raises(ConfigError):
        RunDir.saved_config(folder)


ROWS = b"".join(
    json.dumps({"global_step": step, "wall_time": 1.5, "charts/SPS": 2.0}).encode() + b"\n"
    for step in (10, 20, 30)
)


@FUZZ
@given(damage=edits(), step=st.integers(0, 40))
def test_damaged_metrics_are_cut_or_refused_and_never_read_as_rows(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[str, float, bytes]], step: int
) -> None:
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    path.write_bytes(data := damaged(ROWS, damage))
    try:
        sink = JsonlSink(path, resume_step=step)
    except SinkError as error:
        assert str(path) in str(error) and path.read_bytes() == data, "a refused file stays as it is"
        return
    kept = path.read_bytes()
    assert data.startswith(kept)
    sink.write(step + 1, {"charts/SPS": 1.0})
    sink.close()
    assert path.read_bytes().startswith(kept)
    rows = list(read_rows(path))
    assert all(row["global_step"] <= step for row in rows[:-1]) and rows[-1]["global_step"] == step + 1
