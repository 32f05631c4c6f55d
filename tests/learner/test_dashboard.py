"""The W&B workspace: its metrics are those that real runs log, and it is built by the real library."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

import launch
from learner import dashboard
from learner.dashboard import CONDITIONAL, LAYOUT, build
from learner.metrics import METRICS
from tests.learner.wandb_reader import read_history, run_files

# wandb_workspaces 0.4.13 declares its models by pydantic's old decorators, while it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")

CANARY = "c0ffee00" * 10  # 80 characters, of the form of a real key
STEPS = 3000


def shown() -> list[str]:
    return [metric for panels in LAYOUT.values() for metrics in panels.values() for metric in metrics]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two offline runs with an API key in the environment: a plain one, and one with all of CONDITIONAL."""
    options = {words[i : i + 2] for words in CONDITIONAL.values() for i in range(0, len(words), 2)}
    more = [word for pair in sorted(options) for word in pair]
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        no_account(patch, tmp_path_factory.mktemp("home"))
        patch.setenv("WANDB_API_KEY", CANARY)
        for name, options in (("plain", []), ("all", more)):
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
    assert logged(runs["all"]) - {"global_step"} == set(shown())


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


def test_a_saved_workspace_is_brought_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own object; what stands in for the network is that nothing is sent."""
    old = build("somebody", "some project")
    old.sections = old.sections[:1]
    old.runset_settings.query = "breakout"
    old._internal_name, old._internal_id = "nw-abc-v", "an id"
    sent = []
    monkeypatch.setattr(dashboard, "_opened", lambda workspaces, url: old)
    monkeypatch.setattr(type(old), "save", lambda self: sent.append(self._to_model()) or self)
    monkeypatch.setattr(type(old), "url", "https://example.org/view")
    assert dashboard.save(None, None, "https://example.org/view") == "https://example.org/view"
    (view,) = sent
    assert view.id == "an id" and view.name == "nw-abc-v"
    assert [section.name for section in view.spec.section.panel_bank_config.sections] == list(LAYOUT)
    assert view.spec.section.run_sets[0].search.query == "breakout"
