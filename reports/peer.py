"""This implementation beside checkouts of published ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import pandas as pd

from bench.record import Record
from bench.statistics import interleaved_ratio
from bench.units import rounded

LATENCY = "peer_latency_s"
DIFFERENCE = "peer_output_difference"
METRICS = (LATENCY, DIFFERENCE)
_TEXT = """Both programs have the same weights and the same windows and are timed in turn, each in \
a process of its own. A ratio above 1 means that this implementation is faster; its interval is of \
95%, where there are six turns or more. The difference is the largest between the outputs as a \
share of the largest output; programs whose outputs differ are not timed."""


def section(records: Sequence[Record], folder: Path) -> list[str]:
    """The section's parts in markdown, and its CSV in a folder; nothing without such records.

    Args:
        records: all records.
        folder: where ``peers.csv`` is written.
    """
    found = [r for r in records if r.metric == DIFFERENCE and r.status == "ok"]
    if not found:
        return []
    timed = [r for r in records if r.metric == LATENCY and r.status == "ok"]
    sheet = pd.DataFrame(
        _line(one, [r for r in timed if (r.case, r.group) == (one.case, one.group)])
        for one in found
    )
    sheet.to_csv(folder / "peers.csv", index=False)
    parts = ["## Beside published code", _TEXT, sheet.to_markdown(index=False)]
    return [*parts, "[peers.csv](peers.csv)"]


def _line(difference: Record, turns: Sequence[Record]) -> dict[str, str]:
    apart = dict(zip(difference.labels, difference.values, strict=True))
    kind = "float64" if "float64" in apart else "float32"
    line = {
        "published code": difference.protocol["peer"],
        "revision": difference.protocol["revision"],
        "configuration": difference.case.label,
        "device": difference.case.device,
        "precision": difference.case.dtype,
        "difference": f"{apart[kind]:.1e} ({kind})",
    }
    sides = {side: [_median(turn, side) for turn in turns] for side in ("peer", "ours")}
    if not turns:
        return {**line, "theirs (ms)": "", "ours (ms)": "", "theirs / ours": "not timed"}
    ratio = interleaved_ratio(sides["ours"], sides["peer"])
    text = rounded(ratio.value, 2)
    if ratio.low is not None and ratio.high is not None:
        text += f" ({rounded(ratio.low, 2)} to {rounded(ratio.high, 2)})"
    return {
        **line,
        "theirs (ms)": rounded(1e3 * median(sides["peer"]), 2),
        "ours (ms)": rounded(1e3 * median(sides["ours"]), 2),
        "theirs / ours": text,
    }


def _median(turn: Record, side: str) -> float:
    return median(v for v, label in zip(turn.values, turn.labels, strict=True) if label == side)
