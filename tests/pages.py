"""Pages with blocks of code and commands, and how a test runs these."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(r"^```(python|diff|sh)(?: path=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    kind: str
    path: str
    """Of a new file"""
    text: str

    def added(self) -> Counter[str]:
        """Lines that are new, by top folder."""
        if self.kind == "python":
            return Counter({self.path.partition("/")[0]: len(self.text.splitlines())})
        folder, lines = "", Counter()
        for line in self.text.splitlines():
            if line.startswith("+++ b/"):
                folder = line.removeprefix("+++ b/").partition("/")[0]
            elif line.startswith("+"):
                lines[folder] += 1
        return lines


def sections(page: str) -> dict[str, str]:
    return {part.partition("\n")[0]: part for part in page.split("\n## ")[1:]}


def blocks(section: str) -> list[Block]:
    return [Block(*match) for match in BLOCK.findall(section)]


# Runs commands of the page in one process, since importing torch takes longer than they do.
DRIVER = """
import shlex, sys
import pytest
import launch
for command in sys.stdin.read().splitlines():
    python, *words = shlex.split(command)
    assert python == ".venv/bin/python", command
    if words[:2] == ["-m", "pytest"]:
        code = pytest.main(["-p", "no:cacheprovider", *words[2:]])
    else:
        assert words[0] == "launch.py", command
        code = launch.main(words[1:])
    print(f"exit code {int(code)} of: {command}", flush=True)
"""


def run(tree: Path, commands: list[str], *more: Path) -> tuple[list[int], str]:
    """Exit codes, and all that was printed. What is imported lies in `tree`, or in `more`."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input="\n".join(commands),
        cwd=tree,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (tree, *more))), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    codes = [int(code) for code in re.findall(r"^exit code (\d+) of: ", done.stdout, re.MULTILINE)]
    assert done.returncode == 0 and len(codes) == len(commands), done.stdout
    return codes, done.stdout
