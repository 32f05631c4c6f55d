"""The list of planted faults fits the tree; the instrument tells a survivor from a fault that is found."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.faults import MUTANTS
from tests.mutants.mutant import Mutant, MutantError, mutate
from tests.mutants.run import RESULTS, ROOT, main
from tests.test_tree import plant

ROOMS = ("actors", "configs", "envs", "kernels", "learner", "training")

FOUND = Mutant("maths.py", "a sum is a difference", "a + b", "a - b", ("test_maths.py",))
MISSED = Mutant("maths.py", "a product is a sum", "a * b", "a + b", ("test_maths.py",))
ENDLESS = Mutant("maths.py", "a loop never ends", "n -= 1", "n -= 0", ("test_maths.py::test_down",))
UNMADE = Mutant("maths.py", "a name is gone", "def down", "def up", ("test_maths.py",))


def read(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()]


def small_tree(root: Path) -> Path:
    maths = "def add(a, b):\n    return a + b\n\n\ndef double(a, b=2):\n    return a * b\n\n\n"
    maths += "def down(n):\n    while n:\n        n -= 1\n    return n\n"
    tests = "from maths import add, double, down\n\n\ndef test_add():\n    assert add(1, 2) == 3\n\n\n"
    tests += "def test_double():\n    assert double(2) == 4  # 2 + 2 too\n\n\n"
    tests += "def test_down():\n    assert down(3) == 0\n"
    return plant(root, {"maths.py": maths, "test_maths.py": tests})


def test_every_fault_of_the_list_fits_the_tree() -> None:
    misfits = []
    for mutant in MUTANTS:
        try:
            mutate(ROOT, mutant)
        except MutantError as error:
            misfits.append(str(error))
    assert not misfits, "mend these in tests/mutants:\n" + "\n".join(misfits)


def test_the_list_is_long_reaches_every_room_and_says_nothing_twice() -> None:
    assert len(MUTANTS) >= 90 and len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.file.split("/")[0] for mutant in MUTANTS} == set(ROOMS)


def test_every_fault_of_the_list_was_tried_and_found() -> None:
    outcomes = {(row["file"], row["fault"]): row["outcome"] for row in read(RESULTS)}
    expected = {(mutant.file, mutant.fault) for mutant in MUTANTS}
    untried = [f"{file}: {fault}" for file, fault in expected - outcomes.keys()]
    assert not untried, (
        f"try these with `make mutants ARGS='--only ...'`, which writes {RESULTS.name}: {untried}"
    )
    assert outcomes.keys() == expected and set(outcomes.values()) <= {"found", "timeout"}


def test_a_survivor_is_told_from_a_fault_that_is_found(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = small_tree(tmp_path / "tree")
    before = {path: path.read_bytes() for path in root.iterdir()}
    results = tmp_path / "results.jsonl"
    code = main(["--jobs", "2"], root, [FOUND, MISSED, UNMADE], results)
    printed = capfd.readouterr().out
    assert code == 1
    assert "maths.py: a sum is a difference: test_maths.py::test_add (" in printed
    assert printed.count("maths.py: a product is a sum: SURVIVED") == 2  # when tried, and at the end
    assert printed.count("maths.py: a name is gone: BROKEN, pytest ended with ") == 2
    assert "1 of 3 found, 0 of them by the time limit" in printed
    assert [(row["fault"], row["outcome"]) for row in read(results)] == [
        ("a sum is a difference", "found"),
        ("a product is a sum", "survived"),
        ("a name is gone", "broken"),
    ]
    assert {path: path.read_bytes() for path in root.iterdir()} == before, "the tree itself was touched"


def test_a_fault_that_hangs_is_found_by_the_time_limit(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--timeout", "1"], small_tree(tmp_path), [ENDLESS], None) == 0
    printed = capfd.readouterr().out
    assert "maths.py: a loop never ends: time limit (" in printed
    assert "1 of 1 found, 1 of them by the time limit" in printed


def test_a_part_of_the_list_replaces_its_own_results_alone(tmp_path: Path) -> None:
    results, root = tmp_path / "results.jsonl", small_tree(tmp_path / "tree")
    lines = [{"file": m.file, "fault": m.fault, "outcome": "survived"} for m in (FOUND, MISSED, UNMADE)]
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["--only", "difference"], root, [FOUND, MISSED], results) == 0
    found, kept = read(results)  # what is no longer listed is gone
    assert (found["outcome"], found["by"]) == ("found", "test_maths.py::test_add")
    assert kept == lines[1]
    assert main(["--only", "nothing like it"], root, [FOUND], results) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"old": "a / b"}, "'a / b' stands there 0 times"),
        ({"old": "return"}, "'return' stands there 3 times"),
        ({"file": "other.py"}, "no such file"),
        ({"new": "a +"}, "no Python"),
        ({"new": "a + b"}, "changes nothing"),
        ({"tests": ()}, "names no test"),
        ({"tests": ("test_maths.py::test_gone",)}, "no test test_maths.py::test_gone"),
    ],
)
def test_a_fault_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, object], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root, mutant = small_tree(tmp_path), dataclasses.replace(FOUND, **change)
    with pytest.raises(MutantError, match=r"\w+.py: a sum"):
        mutate(root, mutant)
    assert main([], root, [MISSED, mutant], None) == 2
    assert words in capsys.readouterr().err


def test_nothing_is_tried_while_a_test_fails_without_a_fault(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = small_tree(tmp_path)
    (root / "maths.py").write_text((root / "maths.py").read_text().replace("a + b", "a - b - 1"))
    assert main([], root, [MISSED], None) == 2
    told = capfd.readouterr()
    assert "the tests fail without a fault" in told.err and "SURVIVED" not in told.out
