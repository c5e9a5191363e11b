"""Measured time of every timed row over its lower bound on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.records import roofline_bound
from bench.records.record import Record
from bench.records.units import giga, rounded
from reports.markdown import with_csv

METRICS = roofline_bound.METRICS
_TEXT = """The lower bound of a row is the larger of two times: its arithmetic (`flops_full`) at \
this machine's highest rate of a matrix product, and the bytes that its operators read and write \
at the machine's bandwidth. Every operator counts its inputs and outputs once, so the bound is \
that of separate operators; fused operators or a cache can be faster where memory limits."""


def section(records: Sequence[Record], folder: Path) -> list[str]:
    """The section's parts in markdown, and its CSV in a folder; nothing without rates.

    Args:
        records: all records.
        folder: where ``roofline.csv`` is written.
    """
    rates = roofline_bound.rates(records)
    if not rates:
        return []
    units = {roofline_bound.FLOPS: "FLOP/s", roofline_bound.BANDWIDTH: "byte/s"}
    lines = [
        f"- {case.device}, {case.dtype}: {giga(rate, 1)} G{units[metric]}"
        for case, metric, rate in rates
    ]
    parts = ["## Times the limit", _TEXT, "\n".join(lines)]
    rows = [row for row in roofline_bound.limits(records) if row.bound_s is not None]
    if rows:
        parts += with_csv(_table(rows), folder, "roofline.csv", texts=False)
    return parts


def _table(rows: Sequence[roofline_bound.Limit]) -> pd.DataFrame:
    def milli(seconds: float | None) -> str:
        return "" if seconds is None else rounded(1e3 * seconds, 2)

    return pd.DataFrame(
        {
            "configuration": row.case.label,
            "device": row.case.device,
            "precision": row.case.dtype,
            "measured (ms)": milli(row.measured_s),
            "flops_full (G)": giga(row.flops or 0),
            "moved (GB)": giga(row.moved_bytes or 0),
            "arithmetic (ms)": milli(row.compute_s),
            "memory (ms)": milli(row.memory_s),
            "ruled by": row.ruled_by,
            "times the limit": rounded(row.times or 0, 2),
        }
        for row in rows
    )
