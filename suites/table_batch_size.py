"""Batch size: baseline and default scheme of every host at 1 to 64 clips per forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from bench.paper import main_cases
from bench.records.case import Case

SIZES = (1, 2, 4, 8, 16, 32, 64)


@pytest.mark.parametrize("batch", SIZES)
@pytest.mark.parametrize(
    "case", [case for case in main_cases() if case.prune != "tpc"], ids=lambda case: case.label
)
def test_batch(case: Case, batch: int, replay: Callable[[Case], None]) -> None:
    """One host and scheme at one batch size; select with -k, large ones are slow on a CPU."""
    replay(replace(case, batch=batch))
