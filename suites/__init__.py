"""pytest-benchmark suites: ``python -m pytest suites/table_2_strategies.py``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.paper import rows
from bench.records.case import Case


def table_suite(number: int) -> Callable[..., None]:
    """A test of every row of one of the paper's tables; rows are timed interleaved."""
    cases = [
        pytest.param(case, id=f"{row.number}-{case.label}")
        for row in rows(number)
        if (case := row.case()) is not None
    ]

    @pytest.mark.parametrize("case", cases)
    def test_row(case: Case, replay: Callable[[Case], None]) -> None:
        """One printed row."""
        replay(case)

    return test_row
