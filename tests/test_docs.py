"""The documentation: it becomes a site, its tables hold, the commands of its tutorials do what they say."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mkdocs.exceptions import PluginError

from configs.presets import preset, preset_patterns
from configs.variants import VARIANTS
from experiments import catalogue
from tests.pages import blocks, run

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TUTORIALS = DOCS / "tutorials"
SHORT = "--total-steps 2000"


def commands(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [line for block in blocks(text) if block.kind == "sh" for line in block.text.splitlines()]


def shortened(command: str) -> str:
    if " train " not in command:
        return command
    without = re.sub(r" --total-steps \d+", "", command)
    return f"{without} {SHORT} --wandb.mode disabled"


@pytest.mark.parametrize(("page", "begun"), [("own-environment", 3), ("trace-figure", 1)])
def test_the_commands_of_a_tutorial_work(page: str, begun: int, tmp_path: Path) -> None:
    file = TUTORIALS / f"{page}.md"
    for block in blocks(file.read_text(encoding="utf-8")):
        if block.kind == "python":
            (tmp_path / block.path).write_text(block.text)
    told = [shortened(command) for command in commands(file)]
    codes, printed = run(tmp_path, told, ROOT)
    assert codes == [0] * len(told) and len(told) > begun, printed
    assert printed.count("total_steps = 2000 reached") == begun
    for folder in re.findall(r" --out (\S+)", "\n".join(told)):
        assert list((tmp_path / folder).glob("*.png")), f"{folder}: no figure"


def test_the_papers_page_names_what_there_is() -> None:
    """Its commands take minutes to days: each is asked whether it is known with these options."""
    told = commands(TUTORIALS / "papers.md")
    experiments = [command.split()[3] for command in told if " experiment " in command]
    assert len(experiments) == 10
    for name in experiments:
        assert catalogue.get(name).name == name
    for command in told:
        words = command.split()[1:]
        assert words[0] in ("launch.py", "-m"), command
        if words[:2] == ["launch.py", "train"]:
            preset(words[2])
        if words[0] == "-m":
            done = subprocess.run(
                [sys.executable, "-m", words[1], "--help"], cwd=ROOT, capture_output=True, text=True
            )
            assert done.returncode == 0 and words[2] in done.stdout, done.stderr


def test_the_table_of_presets_is_theirs() -> None:
    page = (DOCS / "presets.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| `(\w+_rtrl\w*)` \| (.+) \|$", page, re.MULTILINE)
    for _, name, told in rows:
        config = preset(name)
        streams = (config.unroll_length, config.batch_size, config.num_streams)
        bias = config.policy.forget_bias
        cells: list[Any] = [config.policy.encoder, config.policy.hidden_size]
        cells += [bias if isinstance(bias, str) else f"{bias:g}", *streams, config.objective]
        cells += [
            f"{config.optimizer}, {config.learning_rate:.3g}",
            f"{config.total_steps:,}",
            config.runtime,
        ]
        assert told.split(" | ") == list(map(str, cells)), name
    assert {family for family, _, _ in rows} == {
        family for pattern in preset_patterns() for family in _families(pattern)
    }


def _families(pattern: str) -> list[str]:
    """A pattern of the help text, written out: what may be left out is there and not there."""
    pattern = pattern.partition(" ")[0].replace(f"{{{','.join(VARIANTS)}}}", "ARM")
    optional = re.search(r"\[(.*?)\]", pattern)
    if optional is None:
        return [pattern]
    return [pattern.replace(optional[0], part) for part in ("", *optional[1].split("|"))]


def _hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("outside", DOCS / "outside.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_site_is_whole(tmp_path: Path) -> None:
    """Every link and anchor leads somewhere, and every page is in the table of contents: MkDocs is strict."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outside/experiments/results/tmaze/tmaze.png").exists()
    assert 'src="outside/experiments/results/tmaze/tmaze.png"' in (tmp_path / "index.html").read_text()
    assert "outside/kernels/rtrl/index.html" in (tmp_path / "rtrl.html").read_text()
    assert (
        '<span class="filename">lights.py</span>' in (tmp_path / "tutorials/own-environment.html").read_text()
    )


@pytest.mark.parametrize("link", ["../nothing.md", "../../elsewhere.md", "../experiments"])
def test_a_link_to_nothing_is_refused(link: str) -> None:
    with pytest.raises(PluginError, match=f"index.md links to {re.escape(link)}, which is no file"):
        _hook().targets(DOCS / "index.md", f"[here]({link})")


def test_code_has_no_links() -> None:
    text = "`a[0](b)` [x](rtrl.md)\n```python\nc[1](d)\n```\n    e[2](f)\n[web](https://a.b) [top](#top)\n"
    assert _hook().targets(DOCS / "index.md", text) == {"rtrl.md": DOCS / "rtrl.md"}
