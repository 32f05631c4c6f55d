"""How many examples each test of this folder draws: 60 in `make test`, more by FUZZ_EXAMPLES."""

from __future__ import annotations

import os

from hypothesis import settings

FUZZ = settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")), deadline=None)
