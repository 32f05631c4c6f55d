"""The W&B workspace: its metrics are those that real runs log, and it is built by the real library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

import launch
from learner.records.dashboard import CONDITIONAL, LAYOUT, build
from learner.records.metrics import METRICS
from tests.learner.records.wandb_reader import read_history, run_files

# wandb_workspaces 0.4.13 declares its models by pydantic's old decorators, while it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")

ROOT = Path(launch.__file__).parent
CANARY = "c0ffee00" * 10  # 80 characters, of the form of a real key
STEPS = 3000
OF_SEVERAL = ("--runtime", "ray", "--num-learners", "2")
"""Through Ray, in tests/integration/test_several_learners.py."""


def shown() -> list[str]:
    return [metric for panels in LAYOUT.values() for metrics in panels.values() for metric in metrics]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Offline runs with an API key in the environment: a plain one, and one with all of CONDITIONAL, but for
    what excludes some of the rest, which are runs of their own: another objective, and flags alone (without
    a value), which normalise."""
    flags = {words for words in CONDITIONAL.values() if len(words) == 1}
    valued = set(CONDITIONAL.values()) - flags - {OF_SEVERAL}
    options = {words[i : i + 2] for words in valued for i in range(0, len(words), 2)}
    ppo = ("--objective", "ppo")
    more = [word for pair in sorted(options - {ppo}) for word in pair]
    normalised = ["--env.id", "cartpole/masked", *(word for words in sorted(flags) for word in words)]
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        no_account(patch, tmp_path_factory.mktemp("home"))
        patch.setenv("WANDB_API_KEY", CANARY)
        for name, options in (("plain", []), ("all", more), ("ppo", ppo), ("normalised", normalised)):
            folders[name] = tmp_path_factory.mktemp(name)
            where = ["--run-dir", str(folders[name]), "--wandb.mode", "offline", "--total-steps", str(STEPS)]
            assert launch.main(["train", "memory_tbptt", *where, *options]) == 0
    return folders


def no_account(patch: pytest.MonkeyPatch, home: Path) -> None:
    """No key, settings or login of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        patch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        patch.setenv(name, str(home))


def logged(run_dir: Path) -> set[str]:
    """Names that the run gave to W&B."""
    (file,) = run_files(run_dir)
    return {name for row in read_history(file) for name in row if not name.startswith("_")}


def test_every_metric_has_one_place() -> None:
    assert Counter(shown()) == Counter(METRICS.keys())
    assert set(CONDITIONAL) <= set(METRICS)


def test_a_run_logs_every_metric_but_the_conditional_ones(runs: dict[str, Path]) -> None:
    assert logged(runs["plain"]) - {"global_step"} == set(shown()) - set(CONDITIONAL)


def test_each_conditional_metric_appears_with_its_option(runs: dict[str, Path]) -> None:
    special = logged(runs["all"]) | logged(runs["ppo"]) | logged(runs["normalised"])
    elsewhere = {name for name, words in CONDITIONAL.items() if words == OF_SEVERAL}
    assert special - {"global_step"} == set(shown()) - elsewhere
    assert not any(name.startswith("vtrace/") for name in logged(runs["ppo"]))


def test_the_api_key_is_in_no_file_of_a_run(runs: dict[str, Path]) -> None:
    def holders(folder: Path) -> list[Path]:
        return [p for p in folder.rglob("*") if p.is_file() and CANARY.encode() in p.read_bytes()]

    for folder in runs.values():
        assert len([p for p in folder.rglob("*") if p.is_file()]) >= 8
        assert holders(folder) == []
    planted = runs["plain"] / "checkpoints" / "planted"
    planted.write_text(f"key = {CANARY}")
    assert holders(runs["plain"]) == [planted]
    planted.unlink()


def test_the_workspace_is_the_layout() -> None:
    workspace = build("somebody", "some project")
    assert (workspace.entity, workspace.project) == ("somebody", "some project")
    assert workspace.settings.x_axis == "global_step"
    found = {
        section.name: {panel.title: tuple(panel.y) for panel in section.panels}
        for section in workspace.sections
    }
    assert found == LAYOUT
    panels = [panel for section in workspace.sections for panel in section.panels]
    assert {panel.x for panel in panels} == {"global_step"}
    # What would be sent: the library's own serialisation, which needs no network.
    sent = json.loads(workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    sections = sent["section"]["panelBankConfig"]["sections"]
    metrics = [m for section in sections for panel in section["panels"] for m in panel["config"]["metrics"]]
    assert metrics == shown()


def test_dry_run_prints_the_layout_and_needs_no_wandb(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("wandb", "wandb_workspaces"):
        monkeypatch.setitem(sys.modules, name, None)
    assert launch.main(["dashboard", "--dry-run"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {
        name: {t: tuple(m) for t, m in panels.items()} for name, panels in printed["sections"].items()
    } == (LAYOUT)
    assert printed["only_with"].keys() == CONDITIONAL.keys()
    assert launch.main(["dashboard"]) == 1
    assert "needs the package wandb_workspaces" in capsys.readouterr().err


def test_what_cannot_be_saved_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_account(monkeypatch, tmp_path)
    assert launch.main(["dashboard", "--url", "https://wandb.ai/x/y?nw=z", "--entity", "x"]) == 2
    assert "leave --entity and --project out" in capsys.readouterr().err
    assert launch.main(["dashboard", "--url", "nowhere"]) == 2
    assert "--url nowhere is no saved workspace" in capsys.readouterr().err
    assert launch.main(["dashboard", "--entity", "somebody"]) == 1
    printed = capsys.readouterr().err
    assert "W&B did not save the workspace" in printed and "wandb login" in printed


class Server(BaseHTTPRequestHandler):
    """As much of W&B's server as saving a workspace asks for. What is saved goes to `saved`."""

    saved: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        reply = b""
        if self.path == "/graphql":  # the other requests are the client's telemetry
            request = json.loads(content)
            reply = json.dumps({"data": self.answer(request["query"], request.get("variables"))}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertView" in query:
            self.saved.append(variables)
            return {"upsertView": {"view": {"id": "an id", "name": variables["name"]}, "inserted": True}}
        if "allViews" in query:
            views = [view for view in self.saved if view["name"] == variables["viewName"]]
            return {"project": {"allViews": {"edges": [{"node": {**view, "id": "an id"}} for view in views]}}}
        assert "viewer" in query, query
        return {"viewer": {"id": "1", "username": "somebody", "entity": "somebody", "flags": "{}"}}

    def log_message(self, format: str, *args: object) -> None: ...


def test_a_workspace_is_created_and_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the real library, in a process of its own, over HTTP to a server on this machine."""
    no_account(monkeypatch, tmp_path)
    monkeypatch.setattr(Server, "saved", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"

        def save(*words: str, layout: str = "") -> subprocess.CompletedProcess[str]:
            code = (
                f"import sys; from learner.records import dashboard; {layout}"
                "sys.exit(dashboard.main(sys.argv[1:]))"
            )
            return subprocess.run(
                [sys.executable, "-c", code, *words],
                cwd=ROOT,
                env=os.environ | {"WANDB_API_KEY": CANARY, "WANDB_BASE_URL": address},
                capture_output=True,
                text=True,
            )

        first = save(layout="del dashboard.LAYOUT['System']; ")
        assert first.returncode == 0, first.stderr
        url = first.stdout.removeprefix("saved: ").strip()
        assert url.startswith(f"{address}/somebody/evertrace?nw=")
        second = save("--url", url)
        assert second.returncode == 0, second.stderr
        assert second.stdout == first.stdout
        assert CANARY not in first.stdout + first.stderr + second.stdout + second.stderr
        unknown = save("--url", f"{address}/somebody/evertrace?nw=other")
        assert unknown.returncode != 0 and "is no saved workspace" in unknown.stderr
        server.shutdown()
    created, updated = Server.saved
    assert "id" not in created and updated["id"] == "an id" and updated["name"] == created["name"]

    def sections(view: dict[str, Any]) -> list[str]:
        bank = json.loads(view["spec"])["section"]["panelBankConfig"]
        return [section["name"] for section in bank["sections"]]

    assert sections(created) == [*LAYOUT][:-1] and sections(updated) == [*LAYOUT]
