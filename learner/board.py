"""The board of weights: an actor in Ray that every worker asks. It imports no torch, and starts at once."""

from __future__ import annotations

from typing import Any


class Board:
    """Holds a reference to the newest snapshot, which lives in the object store, so that a node fetches each
    version once however many actors it has.

    Ray starts it anew if its process dies: empty, until the next publication.
    """

    def __init__(self) -> None:
        self._version = -1
        self._reference: list[Any] = []

    def post(self, version: int, reference: list[Any]) -> None:
        self._version, self._reference = version, reference

    def newest(self, newer_than: int) -> list[Any]:
        return self._reference if self._version > newer_than else []
