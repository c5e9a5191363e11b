"""Streaming latency in the report: a table, its CSV and a picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.lines import Line2D

from bench.records.case import Case
from bench.records.record import Record
from bench.records.units import rounded
from reports.markdown import picture, with_csv
from reports.plots import log_axis, palette, save, side_legend, strategies_of

Array = npt.NDArray[np.float64]

METRICS = LATENCY, DELAY, LATE = "stream_latency_s", "stream_delay_frames", "stream_late_share"
LATE_ALLOWED = 0.01  # a pipeline keeps up that is late for at most so many of its poses
_FEW = 100  # passes below which the 99th percentile is the worst

_LEGEND = """A pose goes out when the window that it stands in is full and lifted. *Delay* is the \
first part, which no computer can shorten: the frames that come in after a pose's own, with \
seq2frame half a window, with seq2seq up to hop − 1. *Latency* is the second: wall time from when \
the newest of these frames is there until the pose is, on frames that wait for the pipeline \
(compute) and on frames that come as from a camera (with the wait in the queue). *Frame in to pose \
out* is delay / fps + latency, pose by pose, of the camera's frames. A pose is late when its \
latency is more than hop / fps; a pipeline keeps up if at most 1% of its frames are late or \
dropped, which happens when more than a second (or a hop) of them waits. p99 is over poses, and a \
pass gives hop of them: of fewer than 100 passes it is no more than the worst seen (marked ≥). \
With *delay 0* seq2frame takes copies of the newest frame for the future: nothing waits, and the \
poses are less exact; how much, this table does not say. Models have random weights, which the \
time does not depend on."""


@dataclass
class _Stream:
    """One pipeline: its poses with and without a camera's pace; paced ones by fps."""

    case: Case
    protocol: Mapping[str, Any]
    free: list[tuple[Array, Array]] = field(default_factory=list)
    paced: list[tuple[Array, Array]] = field(default_factory=list)
    shares: list[tuple[float, float, int]] = field(default_factory=list)
    passes: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})


def section(records: Sequence[Record], folder: Path) -> list[str]:
    """The section "Streaming latency".

    Args:
        records: of any metric.
        folder: takes ``streaming.csv`` and the pictures; it exists.

    Returns:
        Paragraphs of markdown; none without such records.
    """
    streams = _collect(records)
    if not streams:
        return []
    lines = pd.DataFrame([_line(stream) for stream in streams])
    table = with_csv(lines, folder, "streaming.csv", texts=False)
    return ["## Streaming latency", _LEGEND, *table, _draw(streams, folder)]


def _collect(records: Sequence[Record]) -> list[_Stream]:
    """Pipelines in the order in which they were first measured."""
    found: dict[Any, dict[str, Record]] = defaultdict(dict)
    for r in records:
        if r.metric in METRICS and r.status == "ok":
            found[r.case, r.group, r.part][r.metric] = r
    streams: dict[Any, _Stream] = {}
    for readings in found.values():
        if LATENCY not in readings or DELAY not in readings:  # a crash lost one of them
            continue
        latency, delay = readings[LATENCY], readings[DELAY]
        told = latency.protocol
        key = (latency.case, *(told[name] for name in ("hop", "delay", "fps")))
        stream = streams.setdefault(key, _Stream(latency.case, told))
        pair = (np.array(latency.values), np.array(delay.values, dtype=np.float64))
        stream.passes[bool(told["paced"])] += int(told["passes"])
        if not told["paced"]:
            stream.free.append(pair)
            continue
        stream.paced.append(pair)
        if LATE in readings:
            late, dropped = readings[LATE].values
            stream.shares.append((late, dropped, int(told["frames"])))
    return list(streams.values())


def _line(stream: _Stream) -> dict[str, str]:
    """One row of the table."""
    told, case = stream.protocol, stream.case
    delays = np.concatenate([d for _, d in (stream.free or stream.paced)])
    fps = float(told["fps"])
    compute = np.concatenate([x for x, _ in stream.free]) if stream.free else None
    waits = np.concatenate([x for x, _ in stream.paced]) if stream.paced else None
    line = {
        "case": case.label,
        "device": case.device,
        "pipeline": case.pipeline,
        "hop": str(told["hop"]),
        "delay, frames (median, most)": f"{np.median(delays):g}, {delays.max():g}",
        "delay, ms": f"{_ms(np.median(delays) / fps)}, {_ms(delays.max() / fps)}",
        "compute, ms (median, p99)": _pair(compute, stream.passes[False]),
        "latency with a camera, ms (median, p99)": _pair(waits, stream.passes[True]),
    }
    totals = _totals(stream)
    name = f"frame in to pose out at {fps:g} fps, ms (median, p99, most)"
    line[name] = _pair(totals, stream.passes[True])
    if totals is not None:
        line[name] += f", {_ms(float(totals.max()))}"
    late, dropped = _shares(stream)
    line["late"], line["dropped"] = _percent(late), _percent(dropped)
    line["keeps up"] = _keeps_up(stream)
    line["passes"] = f"{stream.passes[False]} + {stream.passes[True]}"
    return line


def _totals(stream: _Stream) -> Array | None:
    """Seconds from frame in to pose out, per pose, with a camera."""
    if not stream.paced:
        return None
    fps = float(stream.protocol["fps"])
    return np.concatenate([latency + delay / fps for latency, delay in stream.paced])


def _shares(stream: _Stream) -> tuple[float | None, float | None]:
    """Share of the frames that were late, and that were dropped."""
    frames = sum(n for _, _, n in stream.shares)
    if not frames:
        return None, None
    late, dropped = (sum(share[i] * share[2] for share in stream.shares) for i in (0, 1))
    return late / frames, dropped / frames


def _keeps_up(stream: _Stream) -> str:
    late, dropped = _shares(stream)
    if late is None or dropped is None:
        return "not measured"
    return "yes" if late + dropped <= LATE_ALLOWED else "no"


def quantile(values: Array, share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    return float(np.quantile(values, share, method="inverted_cdf"))


def _pair(values: Array | None, passes: int) -> str:
    if values is None:
        return "not measured"
    mark = "≥ " if passes < _FEW else ""
    return f"{_ms(float(np.median(values)))}, {mark}{_ms(quantile(values, 0.99))}"


def _ms(seconds: float) -> str:
    return rounded(1e3 * float(seconds), 1 if seconds < 0.1 else 0)


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{rounded(100 * share, 1)}%"


def _draw(streams: Sequence[_Stream], folder: Path) -> str:
    """Median to 99th percentile of the whole wait, and within it the delay."""
    figure, axis = plt.subplots(figsize=(8.5, 1.4 + 0.34 * len(streams)))
    names = [strategies_of(stream.case) for stream in streams]
    colours = palette(pd.Series(names))
    for place, (stream, name) in enumerate(zip(streams, names, strict=True)):
        totals = _totals(stream)
        fps = float(stream.protocol["fps"])
        if totals is None:
            totals = np.concatenate([x + d / fps for x, d in stream.free])
        middle, worst = float(np.median(totals)), quantile(totals, 0.99)
        delay = float(np.median(np.concatenate([d for _, d in stream.free or stream.paced]))) / fps
        filled = colours[name] if _keeps_up(stream) == "yes" else "white"
        axis.plot([1e3 * middle, 1e3 * worst], [place] * 2, color=colours[name], lw=2)
        axis.plot(1e3 * middle, place, "o", mec=colours[name], mfc=filled, ms=8)
        axis.plot(1e3 * worst, place, "|", color=colours[name], ms=12)
        if delay > 0:
            axis.plot(1e3 * delay, place, "x", color="0.5", ms=6)
    axis.set_yticks(range(len(streams)), [_place(stream) for stream in streams])
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="frame in to pose out (ms)")
    log_axis(axis.xaxis)
    axis.grid(axis="y", visible=False)
    marks = [Line2D([], [], color=c, marker="o", lw=2, label=n) for n, c in colours.items()]
    marks.append(Line2D([], [], color="0.5", marker="x", lw=0, label="delay alone"))
    side_legend(axis, handles=marks)
    save(figure, folder, "streaming.png")
    caption = (
        "From frame in to pose out: a circle at the median, filled where the pipeline keeps up "
        "with the camera, a line to the 99th percentile, and a cross at what the windows prescribe."
    )
    return picture("streaming.png", caption)


def _place(stream: _Stream) -> str:
    told, case = stream.protocol, stream.case
    setting = f"hop {told['hop']}" if case.pipeline == "seq2seq" else f"delay {told['delay']}"
    return f"{case.host}, F {case.frames}, {case.pipeline}, {setting}"
