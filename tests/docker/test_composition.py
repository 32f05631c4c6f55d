"""The compose files and Dockerfiles, read as text: what a user relies on, held without an engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
OVERRIDES = ([], ["docker-compose.gpu.yml"], ["docker-compose.dmlab.yml"])
SECRET = re.compile(r"RAY_AUTH_TOKEN(?!_PATH)|[0-9a-f]{32,}")


def services() -> dict[str, Any]:
    return yaml.safe_load((DOCKER / "docker-compose.yml").read_text())["services"]


def compose() -> list[str]:
    """The command: Compose 2 is a plugin of docker, Compose 1 a program of its own."""
    plugin = ["docker", "compose"]
    if shutil.which("docker") and subprocess.run([*plugin, "version"], capture_output=True).returncode == 0:
        return plugin
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed (as root: make system-deps, Debian's docker-compose)")
    return ["docker-compose"]


def composed(*overrides: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`config` of the composition: what Compose makes of it, without the .env of this clone's user."""
    files = [word for name in ("docker-compose.yml", *overrides) for word in ("-f", str(DOCKER / name))]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", **variables}
    with tempfile.NamedTemporaryFile() as nothing:
        command = [*compose(), "--env-file", nothing.name, *files, "config"]
        return subprocess.run(command, capture_output=True, text=True, env=environment)


def shm_bytes(text: str) -> int:
    """Of `2gb` or, as Compose 2 says it, of a number of bytes."""
    return int(text[:-2]) * 2**30 if text.endswith("gb") else int(text)


@pytest.mark.parametrize("overrides", OVERRIDES, ids=str)
def test_compose_accepts_the_composition(overrides: list[str]) -> None:
    result = composed(*overrides)
    assert result.returncode == 0, result.stderr
    assert set(yaml.safe_load(result.stdout)["services"]) == {"head", "actor"}


def test_compose_refuses_a_bad_value() -> None:
    assert composed(ACTOR_CONTAINERS="many").returncode != 0


def test_variables_reach_the_services() -> None:
    result = composed(TRAIN="memory_rtrl --seed 2", ACTOR_CPUS="4", ACTOR_CONTAINERS="8", VOLUMES="second")
    config = yaml.safe_load(result.stdout)
    head, actor = config["services"]["head"], config["services"]["actor"]
    assert head["environment"]["TRAIN"] == "memory_rtrl --seed 2"
    assert actor["environment"]["ACTOR_CPUS"] == "4"
    assert 8 in (actor.get("scale"), actor.get("deploy", {}).get("replicas"))
    assert {volume["name"] for volume in config["volumes"].values()} == {
        *("second-runs", "second-token", "second-secrets")
    }


def test_only_the_dashboard_is_published_and_only_on_loopback() -> None:
    assert services()["head"]["ports"] == ["127.0.0.1:${DASHBOARD_PORT:-8265}:8265"]
    assert [name for name, service in services().items() if "ports" in service] == ["head"]
    assert not any("network_mode" in service for service in services().values())


@pytest.mark.parametrize("name", ["head", "actor"])
def test_shared_memory_holds_the_object_store(name: str) -> None:
    result = composed()
    service = yaml.safe_load(result.stdout)["services"][name]
    assert shm_bytes(str(service["shm_size"])) > int(service["environment"]["OBJECT_STORE_MIB"]) * 2**20


def test_a_stop_has_the_time_for_a_checkpoint() -> None:
    head = services()["head"]
    assert head["stop_grace_period"] == "2m"
    assert head["init"] is True  # hands SIGTERM on to the learner, and reaps Ray's orphans
    assert head["command"][0] == "python"  # no shell, which would keep SIGTERM to itself
    assert head["restart"].startswith("on-failure")  # but not after a clean end


def test_runs_and_secrets_are_in_volumes_and_actors_see_the_token_alone_and_cannot_write_it() -> None:
    head, actor = services()["head"], services()["actor"]
    assert head["volumes"] == ["runs:/runs", "token:/token", "secrets:/secrets"]
    assert actor["volumes"] == ["token:/token:ro"]


CANARY = "0123456789abcdef" * 5


def test_the_key_of_w_and_b_is_no_variable_of_a_container() -> None:
    """Those `docker inspect` shows."""
    result = composed(WANDB_API_KEY=CANARY)
    assert result.returncode == 0 and CANARY not in result.stdout
    names = {name for service in services().values() for name in service["environment"]}
    assert "WANDB_API_KEY_FILE" in names and "WANDB_API_KEY" not in names


DOCKER_STAND_IN = """#!/usr/bin/env bash
echo "$*" >> "$LOG"
env >> "$LOG.environment"
case "$*" in
    *" plan "*) echo "4 2" ;;
    *"head.py key") cat > "$LOG.key" ;;
esac
"""


@pytest.mark.parametrize("key", [CANARY, ""])
def test_up_hands_the_key_over_by_a_pipe_before_anything_starts(key: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    stand_in = tmp_path / "bin" / "docker"
    stand_in.write_text(DOCKER_STAND_IN)
    stand_in.chmod(0o755)
    (tmp_path / "docker").mkdir()
    up = shutil.copy(DOCKER / "up.sh", tmp_path / "docker")
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "LOG": str(tmp_path / "log")}
    result = subprocess.run(
        [up, "--detach", "memory_rtrl", "--wandb.mode", "online"],
        env=environment | ({"WANDB_API_KEY": key} if key else {}),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    calls = (tmp_path / "log").read_text().splitlines()
    told = [number for number, call in enumerate(calls) if call.endswith("head.py key")]
    (started,) = (number for number, call in enumerate(calls) if " up " in call)
    assert len(told) == bool(key) and all(number < started for number in told)
    if key:
        assert (tmp_path / "log.key").read_text() == f"{key}\n"
    files = (path.read_text() for path in (tmp_path / "docker").iterdir())
    assert not any(CANARY in text for text in (*files, *calls, result.stdout, result.stderr))


@pytest.mark.parametrize("name", ["head", "actor"])
def test_ray_asks_for_a_token_that_no_file_holds(name: str) -> None:
    environment = services()[name]["environment"]
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_AUTH_TOKEN_PATH"].startswith("/token/")
    for path in [*DOCKER.glob("*.yml"), *DOCKER.glob("*Dockerfile"), *DOCKER.glob("*.sh")]:
        assert SECRET.search(path.read_text()) is None, path


def test_a_token_would_be_found() -> None:
    assert SECRET.search("RAY_AUTH_TOKEN: x") and SECRET.search("x: " + "0f" * 32)


@pytest.mark.parametrize("name", ["head", "actor"])
def test_no_privileges(name: str) -> None:
    assert services()[name]["cap_drop"] == ["ALL"]
    assert services()[name]["security_opt"] == ["no-new-privileges:true"]


def test_the_gpu_override_reserves_one_for_the_head_alone() -> None:
    override = yaml.safe_load((DOCKER / "docker-compose.gpu.yml").read_text())["services"]
    assert set(override) == {"head"}
    (device,) = override["head"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


@pytest.mark.parametrize("name", ["Dockerfile", "dmlab.Dockerfile"])
def test_images_do_not_run_as_root(name: str) -> None:
    users = re.findall(r"^USER (\S+)", (DOCKER / name).read_text(), re.MULTILINE)
    assert users[-1] == "1000"


@pytest.mark.parametrize("name", ["Dockerfile", "dmlab.Dockerfile"])
def test_versions_come_from_constraints_alone(name: str) -> None:
    text = (DOCKER / name).read_text()
    installs = re.findall(r"pip install (.+)", text)
    assert installs and all("-c constraints.txt" in install for install in installs)
    assert not any("==" in install for install in installs)


def test_dependencies_are_installed_before_the_code_is_copied() -> None:
    steps = re.findall(r"^(?:COPY|RUN) .*|pip install.*", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    code = steps.index("COPY . .")
    assert max(i for i, step in enumerate(steps) if "pip install" in step) < code
    assert steps.index("COPY pyproject.toml constraints.txt ./") < code


def test_defaults_of_the_build_are_the_same_in_both_places() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    defaults = {name: value.strip('"') for name, value in re.findall(r"^ARG (\w+)=(.*)$", text, re.MULTILINE)}
    build = services()["head"]["build"]
    assert build["args"] == {name: f"${{{name}:-{value}}}" for name, value in defaults.items()}
    assert set(defaults) == {"PYTHON_VERSION", "TORCH_INDEX", "EXTRAS"}


def test_images_are_built_from_named_files_only() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]
    assert lines[0] == "*"
    assert lines[-1] == "**/__pycache__"
    allowed = {line.removeprefix("!").split("/")[0] for line in lines[1:-1]}
    assert allowed == {
        *("actors", "benchmarks", "configs", "docker", "envs", "experiments", "kernels", "learner"),
        *("sweeps", "training"),
        *("*.py", "pyproject.toml", "constraints.txt", "LICENSE"),
    }
    inside = {line for line in lines if line.startswith(("!docker", "!experiments"))}
    assert inside == {"!docker/*.py", "!docker/deepmind_lab-*.whl", "!experiments/**/*.py"}


@pytest.mark.parametrize("name", [".env", "build.log", "deepmind_lab-1.0-py3-none-any.whl"])
def test_git_ignores_what_using_the_folder_leaves(name: str) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git clone, so git says nothing about ignored files")
    command = ["git", "check-ignore", "--quiet", f"docker/{name}"]
    assert subprocess.run(command, cwd=ROOT).returncode == 0
