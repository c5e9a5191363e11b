"""Energy per frame in the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import pandas as pd

from bench.records.record import Record
from bench.records.units import rounded
from reports.markdown import with_csv

METRICS = ("energy_per_frame_j",)

_LEGEND = """Joules per output frame from a hardware counter, minus the idle power measured just \
before; the median of the windows, with minimum and maximum. *Updates* is the number of changes of \
the counter in the window with fewest; fewer than ten are refused."""


def section(records: Sequence[Record], folder: Path) -> list[str]:
    """The section "Energy" with ``energy.csv`` in the folder; nothing without such values."""
    lines = []
    for r in records:
        if r.metric in METRICS and r.status == "ok":
            idle = median(r.protocol["idle_w"])
            spread = f"{rounded(1e3 * min(r.values), 2)} to {rounded(1e3 * max(r.values), 2)}"
            lines.append(
                {
                    "case": r.case.label,
                    "device": r.case.device,
                    "precision": r.case.dtype,
                    "mJ per output frame": rounded(1e3 * median(r.values), 2),
                    "windows": f"{len(r.values)}: {spread}",
                    "idle (W)": rounded(idle, 1),
                    "counter": r.protocol["counter"],
                    "updates": str(min(r.protocol["updates"])),
                }
            )
    if not lines:
        return []
    table = with_csv(pd.DataFrame(lines), folder, "energy.csv", texts=False)
    return ["## Energy", _LEGEND, *table]
