"""This implementation compared with checkouts of published ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import pandas as pd

from bench.records.record import Record
from bench.records.units import rounded
from bench.timing.statistics import interleaved_ratio
from reports.intervals import from_to
from reports.markdown import gib, with_csv

LATENCY = "peer_latency_s"
DIFFERENCE = "peer_output_difference"
STEP = "peer_training_step_s"
MEMORY = "peer_training_peak_estimated_bytes"
ALLOCATED = "peer_training_peak_allocated_bytes"
METRICS = (LATENCY, DIFFERENCE, STEP, MEMORY, ALLOCATED)
_RUNTIME = "runtime, mean"
_MEMORY = {
    MEMORY: "memory of a step, theirs / ours (GiB)",
    ALLOCATED: "allocated for a step, theirs / ours (GiB)",
}
_TEXT = """Both programs have the same weights and windows and are timed in turn, each in its own \
process. A ratio above 1 means that this implementation is faster; its 95% interval needs six \
rounds. The difference is the largest between the outputs as a share of the largest output, in \
eager mode; the next column is the difference between our runtime and our eager mode. Programs \
with different outputs are not timed. Training steps are forward, loss, backward and AdamW in \
float32; their memory is estimated from the tensors of autograd and the optimiser, and on a GPU \
also measured by its allocator."""


def section(records: Sequence[Record], folder: Path) -> list[str]:
    """The section's parts in markdown, and its CSV in a folder; nothing without such records.

    Args:
        records: all records.
        folder: where ``peers.csv`` is written.
    """
    compared = [r for r in records if r.metric == DIFFERENCE and r.status == "ok"]
    if not compared:
        return []
    timed = [r for r in records if r.metric in METRICS and r.status == "ok"]
    table = pd.DataFrame(
        _line(one, [r for r in timed if (r.case, r.group) == (one.case, one.group)])
        for one in compared
    )
    return ["## Beside published code", _TEXT, *with_csv(table, folder, "peers.csv")]


def _line(difference: Record, timed: Sequence[Record]) -> dict[str, str]:
    rounds = [r for r in timed if r.metric in (LATENCY, STEP)]
    memory = {column: "" for column in _MEMORY.values()} | {
        _MEMORY[r.metric]: " / ".join(gib(bytes_by_side[side]) for side in ("peer", "ours"))
        for r in timed
        if r.metric in _MEMORY
        for bytes_by_side in [dict(zip(r.labels, r.values, strict=True))]
    }
    apart = dict(zip(difference.labels, difference.values, strict=True))
    kind = "float64" if "float64" in apart else "float32"
    line = {
        "published code": difference.protocol["peer"],
        "revision": difference.protocol["revision"],
        "configuration": difference.case.label,
        "device": difference.case.device,
        "batch": str(difference.case.batch),
        "work": "training step" if difference.protocol["mode"] == "training" else "forward pass",
        "precision": difference.case.dtype,
        "our runtime": difference.protocol.get("runtime", "eager"),
        "difference": f"{apart[kind]:.1e} ({kind})",
        "our runtime's, mean": f"{apart[_RUNTIME]:.1e}" if _RUNTIME in apart else "",
    }
    sides = {side: [_median(r, side) for r in rounds] for side in ("peer", "ours")}
    times = {"theirs (ms)": "", "ours (ms)": "", "theirs / ours": "not timed"}
    if rounds:
        times = {
            "theirs (ms)": rounded(1e3 * median(sides["peer"]), 2),
            "ours (ms)": rounded(1e3 * median(sides["ours"]), 2),
            "theirs / ours": from_to(interleaved_ratio(sides["ours"], sides["peer"])),
        }
    return {**line, **times, **memory}


def _median(record: Record, side: str) -> float:
    pairs = zip(record.values, record.labels, strict=True)
    return median(value for value, label in pairs if label == side)
