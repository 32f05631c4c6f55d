"""A hook of MkDocs: what pages link to outside of docs/ comes into the site, at outside/ and its own path.

Pages are written to be read in the repository, where `../experiments/results/tmaze/summary.md` is a good
link. A Markdown file becomes a page, whose own links are followed as well; other files are copied.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
CODE = r"^(`{3,}).*?^\1|`[^`\n]*`|^ {4}.*?$"
LINK = re.compile(rf"(?ms){CODE}|(?<=\]\()(?!\w+:|#)(?P<path>[^)\s#]+)")
"""The path of a link or an image, which is no address and no anchor of the same page; or code, with none."""
FILE = re.compile(r"(?m)^(```\w+) path=(\S+)$")
"""The head of a block that is a whole file: its path becomes a title."""


def uri_of(path: Path) -> str:
    """Of a file of the repository, within the site."""
    inside = path.is_relative_to(DOCS)
    return path.relative_to(DOCS).as_posix() if inside else f"outside/{path.relative_to(ROOT).as_posix()}"


def path_of(uri: str) -> Path:
    outside = uri.removeprefix("outside/")
    return DOCS / uri if outside == uri else ROOT / outside


def targets(path: Path, text: str) -> dict[str, Path]:
    """Links of a page to their files. Raises PluginError for one that leads to no file of the repository."""
    found = {}
    for link in filter(None, (match["path"] for match in LINK.finditer(text))):
        target = (path.parent / link).resolve()
        if not target.is_relative_to(ROOT) or not target.is_file():
            raise PluginError(f"{path.relative_to(ROOT)} links to {link}, which is no file of the repository")
        found[link] = target
    return found


def on_files(files: Files, *, config: Any) -> Files:
    waiting = [path_of(file.src_uri) for file in files if file.is_documentation_page()]
    while waiting:
        path = waiting.pop()
        for target in targets(path, path.read_text(encoding="utf-8")).values():
            uri = uri_of(target)
            if files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(target)))
                waiting += [target] * (target.suffix == ".md")
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    here = page.file.src_uri
    links = targets(path_of(here), markdown)
    folder = posixpath.dirname(here) or "."

    def moved(match: re.Match[str]) -> str:
        path = match["path"]
        return match[0] if path is None else posixpath.relpath(uri_of(links[path]), folder)

    return FILE.sub(r'\1 title="\2"', LINK.sub(moved, markdown))
