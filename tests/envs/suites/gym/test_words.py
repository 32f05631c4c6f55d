from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from envs.suites.gym.words import hash_words

ROOT = Path(__file__).resolve().parents[4]
INSTRUCTION = "pick up the red balloon"


def test_words_are_numbered_in_order_and_filled_up_with_none() -> None:
    hashed = hash_words(INSTRUCTION, buckets=1000, length=8)
    assert hashed.shape == (8,) and hashed.dtype == np.int64
    assert (hashed[:5] >= 1).all() and (hashed <= 1000).all() and (hashed[5:] == 0).all()
    alone = [hash_words(word, length=1)[0] for word in INSTRUCTION.split()]
    assert hashed[:5].tolist() == alone and len(set(alone)) == 5


def test_white_space_does_not_count_and_case_does() -> None:
    np.testing.assert_array_equal(hash_words("  pick\tup\n the red   balloon "), hash_words(INSTRUCTION))
    assert hash_words("Red")[0] != hash_words("red")[0]
    assert not hash_words("").any() and not hash_words(" \n").any()


def test_a_long_text_keeps_its_first_words() -> None:
    np.testing.assert_array_equal(hash_words(INSTRUCTION, length=2), hash_words(INSTRUCTION)[:2])


def test_every_number_is_used_about_as_often() -> None:
    hashed = hash_words(" ".join(f"word{i}" for i in range(8000)), buckets=80, length=8000)
    counts = np.bincount(hashed, minlength=81)
    assert counts[0] == 0 and len(counts) == 81
    assert counts[1:].min() > 50 and counts[1:].max() < 150  # 100 +- 10 expected


def test_it_is_the_same_in_every_process_and_for_ever() -> None:
    # CRC-32 of both words, as gzip writes it
    assert hash_words("red balloon", length=3).tolist() == [1 + 0xFA615F8F % 1000, 1 + 0x643B3B90 % 1000, 0]
    code = f"from envs.suites.gym.words import hash_words; print(hash_words({INSTRUCTION!r}).tolist())"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert printed == {str(hash_words(INSTRUCTION).tolist())}


def test_one_bucket_tells_words_from_none() -> None:
    assert hash_words("a b", buckets=1, length=3).tolist() == [1, 1, 0]


@pytest.mark.parametrize(("buckets", "length", "name"), [(0, 16, "buckets"), (1000, 0, "length")])
def test_bad_sizes(buckets: int, length: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} = 0: needs at least 1"):
        hash_words(INSTRUCTION, buckets, length)
