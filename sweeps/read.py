"""`SPACE.yaml` from disk: plain data, read strictly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from configs.schema import ConfigError
from configs.serial import build
from sweeps.space import Space


class _Loader(yaml.SafeLoader):
    """Plain data, of which no key may stand twice; and 1e-3 is a number, as it is everywhere else."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, name in enumerate(names):
            if not isinstance(name, str) or name in names[:index]:
                what = "stands twice" if isinstance(name, str) else "is no name"
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} {what}", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+.0123456789")
)


def read_space(path: Path) -> Space:
    """The sweep that a file describes. Raises ConfigError, which names the file, for what is wrong in it."""
    try:
        data = yaml.load(path.read_bytes(), _Loader)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no YAML: {error}") from error
    try:
        return build(Space, data, "sweep")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
