"""pytest-benchmark suites: ``python -m pytest suites/table_2_strategies.py``."""

from __future__ import annotations

from typing import Any

import pytest

from bench.paper import rows


def table_rows(number: int) -> list[Any]:
    """The cases of a table's rows, as pytest parameters named by row."""
    printed = ((row, row.case()) for row in rows(number))
    return [
        pytest.param(case, id=f"{row.number}-{case.label}")
        for row, case in printed
        if case is not None
    ]
