"""What a run that trains may be asked: read as it was written, and refused by name where it is no order."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command_line import asked_to_train, with_fields
from configs.layout import laid_out, streams_of, with_actors, with_order
from configs.orders import NAME, Order, parse_num_actors, read_order, write_order
from configs.presets import preset
from configs.schema import Config, ConfigError

BASE = preset("cartpole_rtrl")


def _run_dir(folder: Path, config: Config = BASE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config.to_json())
    os.utime(folder / "config.json", ns=(0, 0))
    return folder


@pytest.mark.parametrize("order", [Order(3), Order(None)])
def test_an_order_is_read_as_written_until_the_run_begins_anew(tmp_path: Path, order: Order) -> None:
    run_dir = _run_dir(tmp_path)
    assert read_order(run_dir) is None
    write_order(run_dir, order)
    assert read_order(run_dir) == order
    assert sorted(path.name for path in run_dir.iterdir()) == ["config.json", NAME]
    at = (run_dir / NAME).stat().st_mtime_ns
    os.utime(run_dir / "config.json", ns=(at, at))
    assert read_order(run_dir) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"num_actors": 0}', "num_actors = 0"),
        ('{"num_actors": true}', "num_actors = True"),
        ('{"num_actors": 2.0}', "num_actors = 2.0"),
        ('{"num_actors": "many"}', "num_actors = 'many'"),
        ('{"num_actors": 2, "seed": 3}', "is no order"),
        ("[2]", "is no order"),
        ('{"num_actors": ', "cannot be read"),
    ],
)
def test_what_is_no_order_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (_run_dir(tmp_path) / NAME).write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_order(tmp_path)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@settings(max_examples=200)
def test_whatever_lies_there_is_an_order_or_refused(
    tmp_path_factory: pytest.TempPathFactory, text: bytes
) -> None:
    run_dir = _run_dir(tmp_path_factory.getbasetemp() / "any")
    (run_dir / NAME).write_bytes(text)
    try:
        read_order(run_dir)
    except ConfigError:
        return


def test_a_number_or_auto_as_typed() -> None:
    assert (parse_num_actors("4"), parse_num_actors("auto")) == (Order(4), Order(None))
    for typed in ("0", "-1", "four", "", "1.5"):
        with pytest.raises(ConfigError, match=r"num_actors = .* needs a number of at least 1, or 'auto'"):
            parse_num_actors(typed)


@pytest.mark.parametrize("number", [1, 3, 5, 32])
def test_another_number_of_actors_carries_the_same_streams(number: int) -> None:
    config = with_actors(laid_out(dataclasses.replace(BASE, num_actors=4), 4), number)
    carried = [stream for actor_id in range(number) for stream in streams_of(config, actor_id)]
    assert carried == list(range(BASE.num_streams)) and config.env.num_envs == -(-32 // number)
    assert config.batch_size == BASE.batch_size


def test_more_actors_than_streams_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_actors = 33: there are num_streams = 32"):
        with_actors(laid_out(BASE, 4), 33)
    with pytest.raises(ConfigError, match="num_actors = 33: there are num_streams = 32"):
        with_order(BASE, Order(33))


def test_auto_is_a_setting_that_a_number_ends() -> None:
    auto = with_fields(BASE, ["--num-actors", "auto", "--ray.address", "a:1"], "train")
    assert auto.ray.follow_cluster and auto.num_actors == 0
    back = with_fields(auto, ["--num-actors=4"], "train")
    assert back.num_actors == 4 and not back.ray.follow_cluster
    assert with_fields(auto, ["--seed", "2"], "train").ray.follow_cluster
    for words, said in (
        ("--ray.follow-cluster --num-actors 3", "num_actors = 3: follows from the cluster"),
        ("--num-actors auto --env.num-envs 4", "env.num_envs = 4: follows from the cluster"),
        ("--num-actors auto --runtime inline", "ray.follow_cluster = True: has no effect with runtime"),
        ("--ray.settle-s 3", "ray.settle_s = 3.0: has no effect with ray.follow_cluster = False"),
    ):
        with pytest.raises(ConfigError, match=said):
            with_fields(BASE, words.split(), "train")


def test_a_run_that_is_resumed_keeps_what_it_was_told_and_the_command_line_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    run_dir = _run_dir(tmp_path, dataclasses.replace(BASE, num_actors=2))
    write_order(run_dir, Order(5))
    assert asked_to_train(["--resume", str(run_dir)]).config.num_actors == 5
    assert asked_to_train(["--resume", str(run_dir), "--num-actors", "3"]).config.num_actors == 3
    write_order(run_dir, Order(None))
    for words in (["--ray.address", "host:1"], []):
        auto = asked_to_train(["--resume", str(run_dir), *words]).config
        assert auto.num_actors == 0 and auto.ray.follow_cluster == bool(words)
        assert ("num_actors = auto, as was ordered" in capsys.readouterr().out) != bool(words)
    monkeypatch.setenv("RAY_ADDRESS", "host:1")
    assert asked_to_train(["--resume", str(run_dir)]).config.ray.follow_cluster
