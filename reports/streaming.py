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

_LEGEND = """A pose is available when the window that contains it is full and lifted. *Delay* is \
the first part, which no computer can shorten: the frames that arrive after a pose's own, with \
seq2frame half a window, with seq2seq up to hop − 1. *Latency* is the second: wall time from the \
arrival of the newest of these frames to the pose, on frames that wait for the pipeline (compute) \
and on frames that arrive as from a camera (with the wait in the queue). *Frame in to pose out* is \
delay / fps + latency, pose by pose, of the camera's frames. A pose is late when its latency is \
more than hop / fps; a pipeline keeps up if at most 1% of its frames are late or dropped. Frames \
are dropped when more than a second (or a hop) of them waits. p99 is over poses, and a pass gives \
hop of them: of fewer than 100 passes it is no more than the maximum (marked ≥). With *delay 0* \
seq2frame repeats the newest frame in place of the future: nothing waits, and the poses are less \
accurate; this table does not measure by how much. Models have random weights, on which the time \
does not depend."""

_Round = dict[str, Record]
"""Metric to record of one pipeline in one round."""


@dataclass
class _Stream:
    """One pipeline and its rounds: frames that wait for it, and frames at a camera's pace."""

    case: Case
    protocol: Mapping[str, Any]
    free: list[_Round] = field(default_factory=list)
    paced: list[_Round] = field(default_factory=list)

    @property
    def fps(self) -> float:
        """Of the camera."""
        return float(self.protocol["fps"])

    def delays(self) -> Array:
        """Delay per pose, in frames."""
        return _joined(self.free or self.paced, DELAY)

    def totals(self, rounds: Sequence[_Round]) -> Array:
        """Seconds from frame in to pose out, per pose."""
        return _joined(rounds, LATENCY) + _joined(rounds, DELAY) / self.fps

    def shares(self) -> tuple[float, float] | None:
        """Shares of the camera's frames that were late, and that were dropped."""
        rounds = [(r[LATE].values, r[LATENCY].protocol["frames"]) for r in self.paced if LATE in r]
        frames = sum(n for _, n in rounds)
        if not frames:
            return None
        late, dropped = (sum(shares[i] * n for shares, n in rounds) / frames for i in (0, 1))
        return late, dropped

    def keeps_up(self) -> bool:
        """Whether few enough frames are late or dropped."""
        shares = self.shares()
        return shares is not None and sum(shares) <= LATE_ALLOWED


def _joined(rounds: Sequence[_Round], metric: str) -> Array:
    """Values of all rounds."""
    return np.array([value for r in rounds for value in r[metric].values], dtype=np.float64)


def _passes(rounds: Sequence[_Round]) -> int:
    return sum(int(r[LATENCY].protocol["passes"]) for r in rounds)


def section(records: Sequence[Record], folder: Path) -> list[str]:
    """The section's parts in markdown, its CSV and picture in a folder; nothing without records.

    Args:
        records: of any metric.
        folder: where ``streaming.csv`` and ``streaming.png`` are written; it exists.
    """
    streams = _collect(records)
    if not streams:
        return []
    lines = pd.DataFrame([_line(stream) for stream in streams])
    table = with_csv(lines, folder, "streaming.csv", texts=False)
    return ["## Streaming latency", _LEGEND, *table, _draw(streams, folder)]


def _collect(records: Sequence[Record]) -> list[_Stream]:
    """Pipelines in the order in which they were first measured."""
    rounds: dict[Any, _Round] = defaultdict(dict)
    for r in records:
        if r.metric in METRICS and r.status == "ok":
            rounds[r.case, r.group, r.part][r.metric] = r
    streams: dict[Any, _Stream] = {}
    for one in rounds.values():
        if LATENCY not in one or DELAY not in one:  # a crash lost one of them
            continue
        case, protocol = one[LATENCY].case, one[LATENCY].protocol
        key = (case, *(protocol[name] for name in ("hop", "delay", "fps")))
        stream = streams.setdefault(key, _Stream(case, protocol))
        (stream.paced if protocol["paced"] else stream.free).append(one)
    return list(streams.values())


def _line(stream: _Stream) -> dict[str, str]:
    """One row of the table."""
    delays, fps = stream.delays(), stream.fps
    free, paced = _passes(stream.free), _passes(stream.paced)
    totals, shares = stream.totals(stream.paced), stream.shares()
    most = f", {_ms(float(totals.max()))}" if len(totals) else ""
    late, dropped = (
        ("not measured",) * 2 if shares is None else (f"{rounded(100 * s, 1)}%" for s in shares)
    )
    return {
        "case": stream.case.label,
        "device": stream.case.device,
        "pipeline": stream.case.pipeline,
        "hop": str(stream.protocol["hop"]),
        "delay, frames (median, most)": f"{np.median(delays):g}, {delays.max():g}",
        "delay, ms": f"{_ms(np.median(delays) / fps)}, {_ms(delays.max() / fps)}",
        "compute, ms (median, p99)": _pair(_joined(stream.free, LATENCY), free),
        "latency with a camera, ms (median, p99)": _pair(_joined(stream.paced, LATENCY), paced),
        f"frame in to pose out at {fps:g} fps, ms (median, p99, most)": _pair(totals, paced) + most,
        "late": late,
        "dropped": dropped,
        "keeps up": "not measured" if shares is None else "yes" if stream.keeps_up() else "no",
        "passes": f"{free} + {paced}",
    }


def quantile(values: Array, share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    return float(np.quantile(values, share, method="inverted_cdf"))


def _pair(values: Array, passes: int) -> str:
    if not len(values):
        return "not measured"
    mark = "≥ " if passes < _FEW else ""
    return f"{_ms(float(np.median(values)))}, {mark}{_ms(quantile(values, 0.99))}"


def _ms(seconds: float) -> str:
    return rounded(1e3 * float(seconds), 1 if seconds < 0.1 else 0)


def _draw(streams: Sequence[_Stream], folder: Path) -> str:
    """Median to 99th percentile of the time from frame in to pose out, and the delay in it."""
    figure, axis = plt.subplots(figsize=(8.5, 1.4 + 0.34 * len(streams)))
    names = [strategies_of(stream.case) for stream in streams]
    colours = palette(pd.Series(names))
    for place, (stream, name) in enumerate(zip(streams, names, strict=True)):
        totals = stream.totals(stream.paced or stream.free)
        middle, worst = float(np.median(totals)), quantile(totals, 0.99)
        delay = float(np.median(stream.delays())) / stream.fps
        filled = colours[name] if stream.keeps_up() else "white"
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
        "with the camera, a line to the 99th percentile, and a cross at the delay alone."
    )
    return picture("streaming.png", caption)


def _place(stream: _Stream) -> str:
    case = stream.case
    kind = "hop" if case.pipeline == "seq2seq" else "delay"
    setting = f"{kind} {stream.protocol[kind]}"
    return f"{case.host}, F {case.frames}, {case.pipeline}, {setting}"
