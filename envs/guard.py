"""An environment's own code, run in a process that has other work to do.

What it raises, `sys.exit` too, becomes an error that names it. What it sets for the whole process (working
directory, output streams, torch's defaults, ...) holds while its code runs and no longer: each side finds the
process as it left it. All environments of a process share theirs. Environments run in one thread.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np

from envs.spec import EnvError, EnvFaultError

P = ParamSpec("P")
R = TypeVar("R")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_theirs: dict[str, Any] = {}
"""What the environments have set otherwise than it was, by name."""
_inside = False
_reports: list[str] = []
"""Written once the output streams are ours again."""


@contextmanager
def env_code(
    env_id: str, doing: str, error: type[Exception] = EnvFaultError, *, often: bool = False
) -> Iterator[None]:
    """Around calls into the environment `env_id`; `doing` is what they are for, in words.

    Whatever is raised inside leaves as an `error` that holds the traceback. But for EnvError and
    EnvFaultError, which say all that is to be said, and for what was meant for the process: Ctrl-C, and Ray's
    own end of it.

    `often`, for steps: only what is read in a microsecond is looked at, and what the environments have set
    before. Signal handlers, NumPy's errors, torch's device and threads are what a constructor sets.
    """
    with _their_process(often):
        try:
            yield
        except (EnvError, EnvFaultError):
            raise
        except BaseException as cause:
            if _meant_for_the_process(cause):
                raise
            text = "".join(traceback.format_exception(cause)).rstrip()
            raise error(f"{env_id}: {doing} raised {cause!r}\n{text}") from None


def _meant_for_the_process(error: BaseException) -> bool:
    if isinstance(error, KeyboardInterrupt):  # with a handler of ours, Ctrl-C raises nothing
        return signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, GeneratorExit) or hasattr(error, "ray_terminate_msg")


@contextmanager
def _their_process(often: bool) -> Iterator[None]:
    global _inside
    if _inside:
        yield
        return
    settings = _settings()
    ours = {
        name: read() for name, (read, _) in settings.items() if not often or name in _QUICK or name in _theirs
    }
    handlers = () if often else tuple((number, signal.getsignal(number)) for number in SIGNALS)
    _inside = True
    try:
        _apply(_theirs)
        yield
    finally:
        _inside = False
        _theirs.clear()
        for name, value in ours.items():
            if (found := settings[name][0]()) != value:
                _theirs[name] = found
        _apply({name: ours[name] for name in _theirs})
        for number, handler in handlers:
            if signal.getsignal(number) != handler:  # not given back: signals are for the whole process
                signal.signal(number, handler)
        _write_reports()


def _apply(values: dict[str, Any]) -> None:
    settings = _settings()
    for name, value in values.items():
        settings[name][1](value)


_QUICK = {"working directory", "sys.stdout", "sys.stderr", "torch's dtype", "torch's gradients"}
_Setting = tuple[Callable[[], Any], Callable[[Any], Any]]


def _settings() -> dict[str, _Setting]:
    """How each is read and written. Of torch only where it is loaded: environments may do without it."""
    torch: Any = sys.modules.get("torch")
    return _PLAIN if torch is None or not hasattr(torch, "get_default_device") else _with_torch(torch)


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # somebody has removed it; there is no way back
        return None


def _change_directory(path: str | None) -> None:
    if path is not None:
        with suppress(FileNotFoundError):  # gone with the environment whose folder it was
            os.chdir(path)


_PLAIN: dict[str, _Setting] = {
    "working directory": (_working_directory, _change_directory),
    "sys.stdout": (lambda: sys.stdout, lambda stream: setattr(sys, "stdout", stream)),
    "sys.stderr": (lambda: sys.stderr, lambda stream: setattr(sys, "stderr", stream)),
    "NumPy's errors": (np.geterr, lambda kinds: np.seterr(**kinds)),
}


@functools.cache
def _with_torch(torch: Any) -> dict[str, _Setting]:
    def set_device(device: Any) -> None:
        torch.set_default_device(None if device.type == "cpu" else device)  # None: no mode is left on

    return _PLAIN | {
        "torch's dtype": (torch.get_default_dtype, torch.set_default_dtype),
        "torch's gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
        "torch's threads": (torch.get_num_threads, torch.set_num_threads),
        "torch's device": (torch.get_default_device, set_device),
    }


class _Named(Protocol):
    @property
    def id(self) -> str: ...


C = TypeVar("C", bound=_Named)


def makes_env(function: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], R]:
    """For functions of an EnvConfig: what an environment raises while it is made leaves as an EnvError."""

    @functools.wraps(function)
    def guarded(config: C, /, *args: P.args, **options: P.kwargs) -> R:
        with env_code(config.id, "making it", EnvError):
            return function(config, *args, **options)

    return guarded


class _Closes(Protocol):
    def close(self) -> object: ...


def close_env(env_id: str, env: _Closes) -> None:
    """Closes it. What it raises is reported, and decides nothing."""
    try:
        with env_code(env_id, "close()"):
            env.close()
    except (EnvError, EnvFaultError) as error:
        _reports.append(f"{error}\n(it is closed; nothing depends on this)")
        _write_reports()


def _write_reports() -> None:
    while _reports and not _inside:
        logging.getLogger(__name__).warning("%s", _reports.pop(0))
