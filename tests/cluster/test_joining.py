"""What is refused before Ray is asked, and what a joined cluster is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.fleet.cluster import _runtime_env, check_lasting, ray_session
from configs.schema import ConfigError, RayConfig
from tests.cluster.ray_nodes import ROOT, free_port

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://head:10001", "needs HOST:PORT of a Ray head"),
        ("http://127.0.0.1:8265", "needs HOST:PORT of a Ray head"),
        ("head", "needs HOST:PORT of a Ray head"),
        ("127.0.0.1:PORT", "nothing answers there"),
    ],
)
def test_an_address_where_no_head_can_be_is_refused_at_once(address: str, message: str) -> None:
    address = address.replace("PORT", str(free_port()))  # not in the test's name, which stays the same
    with pytest.raises(ConfigError, match=message) as error, ray_session(RayConfig(address=address), 1):
        pass
    assert repr(address) in str(error.value)


def test_rays_own_variable_counts_where_no_address_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://elsewhere:10001")
    with pytest.raises(ConfigError, match="ray://elsewhere:10001"), ray_session(RayConfig(), 1):
        pass


def test_a_session_of_our_own_has_no_nodes_to_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with (
        pytest.raises(ConfigError, match="--num-actors auto"),
        ray_session(RayConfig(follow_cluster=True), 1),
    ):
        pass


@pytest.mark.parametrize("run_dir", [None, "runs/1", str(Path.cwd() / "runs")])
def test_in_a_job_a_run_directory_in_rays_copy_is_refused(
    run_dir: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_lasting(run_dir)
    monkeypatch.setenv(JOB, "{}")
    check_lasting(str(tmp_path))
    with pytest.raises(ConfigError, match="an absolute path elsewhere, on a disk that stays"):
        check_lasting(run_dir)


def test_the_code_travels_unless_the_job_has_brought_it() -> None:
    assert _runtime_env(None)["working_dir"] == str(ROOT)
    job = {"runtime_env": {"working_dir": "gcs://package.zip", "env_vars": {"OMP_WAIT_POLICY": "ACTIVE"}}}
    assert _runtime_env(json.dumps(job)) == {}, "Ray refuses what the job has set already"
    assert "working_dir" in _runtime_env(json.dumps({"runtime_env": None}))
