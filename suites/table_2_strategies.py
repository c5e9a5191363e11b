"""Table 2: pruning and recovering strategies."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.paper import PaperRow, rows


@pytest.mark.parametrize("row", rows(2), ids=lambda row: f"{row.number}-{row.case().label}")
def test_row(row: PaperRow, replay: Callable[[PaperRow], None]) -> None:
    """One printed row, timed with all others in turn."""
    replay(row)
