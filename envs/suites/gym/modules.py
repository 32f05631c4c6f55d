"""Modules of the user's own: those that register environments, and those that wrappers come from."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from envs.spec import EnvError

_ROOT = Path(__file__).resolve().parents[3]


def import_module(name: str, setting: str) -> Any:
    """The module `name`, which `setting` asks for. Raises EnvError where it cannot be found.

    A package of the user's that is called like one of ours is hidden by it. Its modules are found all the
    same where ours has none of that name.
    """
    top, *below = name.split(".")
    theirs = hidden_folder(name)
    if theirs is not None and below:
        _join(theirs, [top, *below[:-1]])
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if theirs is not None:
            raise EnvError(f"{setting}: {taken(name, theirs)} ({error})") from error
        raise EnvError(
            f"{setting}: the module {name!r} cannot be imported ({error}); install it, or put its folder on "
            "PYTHONPATH"
        ) from error


def hidden_folder(name: str) -> Path | None:
    """The folder of `sys.path` in which the user has a module of the name of a top-level one of ours."""
    top = name.partition(".")[0]
    if not any((_ROOT / path).exists() for path in (f"{top}.py", f"{top}/__init__.py")):
        return None
    folders = (Path(entry).resolve() for entry in sys.path if entry)
    found = (f for f in folders if (f / top).is_dir() or (f / f"{top}.py").is_file())
    return next((f for f in found if f != _ROOT), None)


def taken(name: str, theirs: Path) -> str:
    top = name.partition(".")[0]
    return (
        f"the name {top!r} is taken by Evertrace's own {top}, which hides the one in {theirs}; "
        "give yours another name, or put it into a package of another name"
    )


def _join(theirs: Path, packages: list[str]) -> None:
    """Lets our packages go on in the user's folders of the same names; ours come first."""
    for depth in range(1, len(packages) + 1):
        module = sys.modules.get(".".join(packages[:depth]))
        folder = str(theirs.joinpath(*packages[:depth]))
        path: list[str] | None = getattr(module, "__path__", None)
        if path is not None and Path(folder).is_dir() and folder not in path:
            path.append(folder)


def attribute(reference: str, setting: str) -> Any:
    """What `module:name` refers to. Raises EnvError where there is no such thing to be called."""
    module, _, name = reference.partition(":")
    found = getattr(import_module(module, setting), name, None)
    if not callable(found):
        raise EnvError(f"{setting}: the module {module!r} has no function {name!r}")
    return found
