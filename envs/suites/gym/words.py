"""Texts as numbers: their words, hashed into buckets.

As in IMPALA (arXiv 1802.01561, figure 3), which looks up an embedding for each hashed word of an instruction
and feeds them to an LSTM whose last output joins the core's input.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from envs.spec import VOCABULARY


def hash_words(text: str, buckets: int = VOCABULARY, length: int = 16) -> NDArray[np.int64]:
    """The first `length` words of `text` (split at white space) as numbers 1 to `buckets`; 0 is no word.

    Returns int64 [length]. The hash is CRC-32 of the word's UTF-8 bytes: the same in every process, on
    every machine, which Python's own hash of a str is not. Raises ValueError for buckets or length < 1.
    """
    for name, value in (("buckets", buckets), ("length", length)):
        if value < 1:
            raise ValueError(f"{name} = {value}: needs at least 1")
    hashed = np.zeros(length, np.int64)
    for index, word in enumerate(text.split()[:length]):
        hashed[index] = 1 + zlib.crc32(word.encode()) % buckets
    return hashed
