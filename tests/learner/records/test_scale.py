"""`launch.py scale` writes an order for a run that can take it up, and nothing for any other."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from configs.orders import NAME, Order, read_order
from configs.presets import preset
from configs.schema import Config, ConfigError
from learner.records.run_dir import RunDir, RunDirError
from learner.records.scale import main

BASE = preset("cartpole_rtrl")


def _held(folder: Path, config: Config = BASE) -> RunDir:
    run_dir = RunDir.create(folder / "run", "cartpole_rtrl", 1)
    run_dir.save_config(config.to_json())
    return run_dir


@pytest.mark.parametrize(("typed", "order"), [("3", Order(3)), ("auto", Order(None))])
def test_a_run_that_trains_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], typed: str, order: Order
) -> None:
    run_dir = _held(tmp_path)
    assert main([str(run_dir.path), "--num-actors", typed]) == 0
    assert read_order(run_dir.path) == order
    assert json.loads(capsys.readouterr().out) == {
        "run_dir": str(run_dir.path),
        "ordered": f"num_actors = {typed}",
    }
    run_dir.release()


def test_one_that_cannot_take_it_up_is_refused(tmp_path: Path) -> None:
    run_dir = _held(tmp_path)
    for typed, said in (
        ("0", "num_actors = '0': needs a number of at least 1"),
        ("33", "num_actors = 33: there are num_streams = 32"),
        ("x", "num_actors = 'x': needs"),
    ):
        with pytest.raises(ConfigError, match=said):
            main([str(run_dir.path), "--num-actors", typed])
    run_dir.save_config(dataclasses.replace(BASE, runtime="inline").to_json())
    with pytest.raises(ConfigError, match="runtime = 'inline'"):
        main([str(run_dir.path), "--num-actors", "2"])
    run_dir.save_config(BASE.to_json())
    run_dir.release()
    with pytest.raises(RunDirError, match=rf"nothing trains in {run_dir.path}: .*--resume {run_dir.path}"):
        main([str(run_dir.path), "--num-actors", "2"])
    with pytest.raises(RunDirError, match="is not a run directory"):
        main([str(tmp_path), "--num-actors", "2"])
    assert not (run_dir.path / NAME).exists()
