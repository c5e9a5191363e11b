"""Table 2: pruning and recovering strategies."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.records.case import Case
from suites import table_rows


@pytest.mark.parametrize("case", table_rows(2))
def test_row(case: Case, replay: Callable[[Case], None]) -> None:
    """One printed row, timed with all others in turn."""
    replay(case)
