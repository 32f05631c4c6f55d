"""One planted fault, and the tree with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mutant:
    file: str
    fault: str
    """In words: what is wrong then."""
    old: str
    """Stands in `file` exactly once."""
    new: str
    tests: tuple[str, ...]
    """Test files, `file::test` or `file::test[case]`."""

    @property
    def name(self) -> str:
        return f"{self.file}: {self.fault}"


def in_file(file: str, tests: str, *faults: tuple[str, str, str]) -> list[Mutant]:
    """Faults of one file: (fault, old, new). `tests`: apart by blanks, below tests/."""
    paths = tuple(f"tests/{test}" for test in tests.split())
    return [Mutant(file, fault, old, new, paths) for fault, old, new in faults]


class MutantError(ValueError):
    """A fault that does not fit the tree."""


def mutate(root: Path, mutant: Mutant) -> str:
    """The text of the file with the fault in it. Raises MutantError, naming the fault, unless it fits."""
    path = root / mutant.file
    if not path.is_file():
        raise MutantError(f"{mutant.name}: there is no such file")
    text = path.read_text(encoding="utf-8")
    if (times := text.count(mutant.old)) != 1:
        raise MutantError(f"{mutant.name}: {mutant.old!r} stands there {times} times, not once")
    planted = text.replace(mutant.old, mutant.new)
    try:
        compile(planted, mutant.file, "exec")
    except SyntaxError as error:
        raise MutantError(f"{mutant.name}: the fault is no Python ({error})") from error
    if not mutant.tests or mutant.old == mutant.new:
        raise MutantError(f"{mutant.name}: changes nothing, or names no test")
    for test in mutant.tests:
        file, _, name = test.partition("::")
        defined = f"def {name.partition('[')[0]}(" if name else ""
        if not (root / file).is_file() or defined not in (root / file).read_text(encoding="utf-8"):
            raise MutantError(f"{mutant.name}: there is no test {test}")
    return planted
