"""docs/extending.md does what it says: its blocks are put into a copy of the tree, its commands run there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.pages import Block, blocks, run, sections
from tests.test_architecture import import_faults

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "extending.md"
EXAMPLES = ("An environment", "A recurrent cell", "An objective", "A term of the loss")
NOT_COPIED = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "docs", "results", "runs", "wandb"
)
pytestmark = pytest.mark.slow  # each of two tests starts a process that imports torch


def copy_of_the_tree(where: Path) -> Path:
    shutil.copytree(ROOT, where, ignore=NOT_COPIED)
    return where


def put(tree: Path, chosen: list[Block]) -> None:
    for block in chosen:
        if block.kind == "python":
            assert not (tree / block.path).exists(), f"{block.path} is in the tree by now"
            (tree / block.path).write_text(block.text)
        else:
            command = ["git", "apply", "--unsafe-paths", "-"]
            done = subprocess.run(command, input=block.text, cwd=tree, capture_output=True, text=True)
            assert done.returncode == 0, f"{done.stderr}\n{block.text}"


@pytest.fixture(autouse=True)
def needs_git() -> None:
    if shutil.which("git") is None:
        pytest.skip("the page's diffs are applied by git, which is not installed")


def test_the_examples_are_all_that_has_blocks() -> None:
    found = sections(PAGE.read_text(encoding="utf-8"))
    assert tuple(title for title, section in found.items() if blocks(section)) == EXAMPLES


@pytest.fixture(scope="module")
def examples() -> tuple[list[Block], list[str]]:
    """All blocks of code, and all commands. The four examples do not meet: they go into one tree."""
    found = sections(PAGE.read_text(encoding="utf-8"))
    every = [block for title in EXAMPLES for block in blocks(found[title])]
    commands = [line for block in every if block.kind == "sh" for line in block.text.splitlines()]
    return [block for block in every if block.kind != "sh"], commands


def test_the_examples_work(examples: tuple[list[Block], list[str]], tmp_path: Path) -> None:
    code, commands = examples
    tree = copy_of_the_tree(tmp_path / "tree")
    put(tree, code)
    codes, printed = run(tree, commands)
    assert codes == [0] * len(commands), printed
    assert printed.count("total_steps = 2000 reached") == len(EXAMPLES)
    assert import_faults(tree) == []
    changed = [block.path for block in code if block.path]
    changed += [path for block in code for path in re.findall(r"^\+\+\+ b/(\S+)$", block.text, re.MULTILINE)]
    for check in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *check, "--no-cache", *changed]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_without_the_code_the_tests_of_each_example_fail(
    examples: tuple[list[Block], list[str]], tmp_path: Path
) -> None:
    code, commands = examples
    tree = copy_of_the_tree(tmp_path / "tree")
    put(tree, [block for block in code if set(block.added()) == {"tests"}])
    codes, printed = run(tree, [command for command in commands if "pytest" in command])
    assert codes == [int(pytest.ExitCode.TESTS_FAILED)] * len(EXAMPLES), printed


@pytest.mark.parametrize("title", EXAMPLES)
def test_the_size_is_what_the_page_says(title: str) -> None:
    section = sections(PAGE.read_text(encoding="utf-8"))[title]
    lines = sum((block.added() for block in blocks(section)), Counter())
    words = [f"`{folder}/` {count}" for folder, count in sorted(lines.items())]
    assert f"\nSize in lines: {', '.join(words)}.\n" in section


def test_a_block_that_does_not_fit_is_found(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.py").write_text("one = 1\ntwo = 2\n")
    diff = "--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,3 @@\n {}\n+between = 1.5\n two = 2\n"
    put(tree, [Block("diff", "", diff.format("one = 1"))])
    assert (tree / "a.py").read_text() == "one = 1\nbetween = 1.5\ntwo = 2\n"
    with pytest.raises(AssertionError, match="patch failed"):
        put(tree, [Block("diff", "", diff.format("won = 1"))])
    with pytest.raises(AssertionError, match="is in the tree by now"):
        put(tree, [Block("python", "a.py", "")])
