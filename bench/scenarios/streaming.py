"""Streaming latency: frame in to pose out, of pipelines that lift a video as it comes.

Two readings per pose: ``stream_delay_frames``, the frames that came in after the pose's own before
it went out, which the pipeline's windows prescribe, and ``stream_latency_s``, the wall time from
when the newest of these frames was there until the pose was. Delay / fps + latency is what a user
waits. Unpaced, the next frame is there when the one before is done with, and the latency is that of
computing. Paced, frames come as from a camera, whether the pipeline is done or not; the latency
then holds the waiting in the queue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import h2ot_core
from bench.data.windows import MotionSource, View
from bench.metrics.base import excuse
from bench.models.build import measured_model
from bench.models.context import Context
from bench.models.resolve import resolve
from bench.records import session
from bench.records.case import Case
from bench.records.errors import UsageError
from bench.records.record import Record
from bench.records.store import Store
from bench.scenarios.stream_driver import Run, paced, queue_frames, unpaced

READINGS = {"stream_latency_s": "s", "stream_delay_frames": "frame", "stream_late_share": "1"}
HOP_SHARES = (1, 3, 9)  # of a window: F, F / 3, F / 9
_WARMUP = {"cpu": 1, "cuda": 5}
_SCHEMES = {"seq2frame": ("none", "tpc", "tpm"), "seq2seq": ("none", "hot", "h2ot")}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A pipeline: a case and how its windows follow the stream.

    Attributes:
        case: its pipeline is that of the stream.
        hop, delay: as of :class:`h2ot_core.Stream`.
    """

    case: Case
    hop: int = 1
    delay: int | None = None

    @property
    def label(self) -> str:
        """For people: ``mixste-f243-hop81``."""
        delay = "" if self.delay is None else f"-delay{self.delay}"
        return f"{self.case.label}-hop{self.hop}{delay}"

    def group(self, fps: float | None) -> str:
        """Sets its records apart from those of the same case in another stream."""
        full = "full" if self.case.pipeline == "seq2frame" else "0"
        delay = full if self.delay is None else str(self.delay)
        pace = "unpaced" if fps is None else f"{fps:g}fps"
        return f"stream-hop{self.hop}-delay{delay}-{pace}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure of which rows.

    Attributes:
        rows: all on one device, with one number of threads.
        fps: frames per second of the paced run; also what delays are converted with.
        paced: whether there is a paced run beside the unpaced one.
        seconds: of video that a row is fed per round, paced; the unpaced run of a round ends after
            half that time. More where the windows need more.
        rounds: of all rows, forwards and backwards by turns.
    """

    rows: tuple[Row, ...]
    fps: float = 50.0
    paced: bool = True
    seconds: float = 3.0
    rounds: int = 2

    def __post_init__(self) -> None:
        if self.fps <= 0 or self.seconds <= 0 or self.rounds < 1 or not self.rows:
            raise UsageError(
                f"fps and seconds must be above 0 and there must be rounds and rows, got "
                f"{self.fps}, {self.seconds}, {self.rounds} rounds and {len(self.rows)} rows"
            )


def default_rows(
    host: str = "mixste",
    frames: int | None = None,
    options: Mapping[str, Any] | None = None,
    hops: Sequence[int] | None = None,
) -> list[Row]:
    """The table: no pruning, HoT / TPC and H2OT / TPM of a host, in every kind of stream.

    Seq2frame with all of its future context, with none (of H2OT alone: the work is the same), and
    seq2seq at some hops; what a host cannot do is left out.

    Args:
        host, frames, options: of :func:`h2ot_core.build`; frames None means the host's usual ones.
        hops: of seq2seq; None means F, F / 3 and F / 9.

    Raises:
        h2ot_core.ConfigError: for a host or options that are not known.
    """
    sizes = {**(options or {}), **({} if frames is None else {"frames": frames})}
    found: list[Row] = []
    for pipeline in _pipelines(host, sizes):
        cases = [_case(host, scheme, pipeline, sizes) for scheme in _SCHEMES[pipeline]]
        if pipeline == "seq2frame":
            found += [*(Row(case=case) for case in cases), Row(case=cases[-1], delay=0)]
        else:
            for hop in _hops(cases[0], hops):
                found += [Row(case=case, hop=hop) for case in cases]
    return found


def rows_of(cases: Sequence[Case], hops: Sequence[int] | None = None) -> list[Row]:
    """Given configurations in every kind of stream of their pipeline; hops as above."""
    found: list[Row] = []
    for case in dict.fromkeys(cases):
        if case.pipeline == "seq2frame":
            found += [Row(case=case), Row(case=case, delay=0)]
        else:
            found += [Row(case=case, hop=hop) for hop in _hops(case, hops)]
    return found


def _hops(case: Case, hops: Sequence[int] | None) -> list[int]:
    return list(dict.fromkeys(hops or (max(1, case.frames // n) for n in HOP_SHARES)))


def _pipelines(host: str, sizes: Mapping[str, Any]) -> list[str]:
    """Pipelines that a host has."""
    found = []
    for pipeline in _SCHEMES:
        try:
            _case(host, "none", pipeline, sizes)
        except h2ot_core.ConfigError:
            continue
        found.append(pipeline)
    # Where neither works the arguments are at fault, and building says so.
    return found or list(_SCHEMES)


def _case(host: str, scheme: str, pipeline: str, sizes: Mapping[str, Any]) -> Case:
    return resolve({"host": host, "scheme": scheme, "pipeline": pipeline, **sizes})


def run(plan: Plan, path: Path, context: Context, *, quiet: bool = False) -> None:
    """Measure what the store at ``path`` lacks; can be interrupted at any time and called again.

    Raises:
        bench.records.errors.StoreError: if the store cannot be used.
        bench.records.errors.UsageError: if the device is not there, or the motion is too short.
    """
    devices = {(row.case.device, row.case.threads) for row in plan.rows}
    if len(devices) != 1:
        raise UsageError(f"rows of one table must share device and threads, got {devices}")
    device, _ = devices.pop()
    session.require_device(device)
    video = _Video(context.motion)
    models: dict[Case, h2ot_core.Hourglass] = {}
    with session.opened(path, [row.case for row in plan.rows]) as (store, stamp):
        todo = [trial for trial in _trials(plan) if trial.missing(store)]
        with session.progress("streams", len(todo), quiet) as tick:
            for trial in todo:
                if not trial.given_up(store.records):
                    store.append(trial.records(models, video, plan, stamp))
                tick(trial.row.label)


@dataclass(frozen=True)
class _Trial:
    """One row in one round, at one pace; ``fps`` None is unpaced."""

    row: Row
    part: int
    fps: float | None

    @property
    def group(self) -> str:
        return self.row.group(self.fps)

    def missing(self, store: Store) -> bool:
        return any(
            (self.row.case, metric, self.group, self.part) not in store for metric in self.metrics()
        )

    def metrics(self) -> list[str]:
        """Nothing can be late where the next frame waits."""
        return [m for m in READINGS if self.fps is not None or m != "stream_late_share"]

    def given_up(self, records: Sequence[Record]) -> bool:
        """Whether the row failed before; it is not tried again."""
        return any(
            r.case == self.row.case and r.group == self.group and r.status != "ok" for r in records
        )

    def records(
        self, models: dict[Case, h2ot_core.Hourglass], video: _Video, plan: Plan,
        stamp: Mapping[str, Any],
    ) -> list[Record]:  # fmt: skip
        """Measure, or state why not."""
        own = {"case": self.row.case, "group": self.group, "part": self.part, **stamp}
        try:
            frames = video.frames(self.row.case)
            stream, run = self._run(models, frames, plan)
        except UsageError:  # the input's fault, so no row can be measured
            raise
        except (
            Exception
        ) as error:  # whatever it is, the others go on and the records have the reason
            models.pop(self.row.case, None)
            return [
                Record(metric=m, unit=READINGS[m], values=(), **excuse(error), **own)
                for m in self.metrics()
            ]
        protocol = {
            "hop": stream.hop,
            "delay": stream.delay,
            "fps": plan.fps,
            "paced": self.fps is not None,
            "queue_frames": queue_frames(stream.hop, plan.fps),
            "frames": run.due,
            "passes": run.passes,
            "warmup": _WARMUP[self.row.case.device],
            "clock": "wall, synchronised; frame from the CPU, pose on the device",
            "mode": "eager, without flip",
            "clip": video.name,
            "description": video.description,
        }
        values = {
            "stream_latency_s": tuple(run.latencies_s),
            "stream_delay_frames": tuple(run.delays),
            "stream_late_share": (run.late / run.due, run.dropped / run.due),
        }
        labels = {"stream_late_share": ("late", "dropped")}
        return [
            Record(
                metric=m, unit=READINGS[m], values=values[m], labels=labels.get(m, ()),
                protocol=protocol, **own,
            )
            for m in self.metrics()
        ]  # fmt: skip

    def _run(
        self, models: dict[Case, h2ot_core.Hourglass], frames: Tensor, plan: Plan
    ) -> tuple[h2ot_core.Stream, Run]:
        case = self.row.case
        new = case not in models
        if new:
            models[case] = measured_model(case)
        model = models[case]
        stream = h2ot_core.Stream(
            model, pipeline=case.pipeline, hop=self.row.hop, delay=self.row.delay
        )
        device = next(model.parameters()).device
        if new:
            for _ in range(_WARMUP[case.device]):
                stream.push(frames[0])
                stream.finish()
        if self.fps is None:
            return stream, unpaced(stream, frames, device, seconds=plan.seconds / 2)
        return stream, paced(stream, frames, device, fps=self.fps, seconds=plan.seconds)


def _trials(plan: Plan) -> Iterator[_Trial]:
    """In measuring order: forwards and backwards by turns, unpaced before paced."""
    for part in range(plan.rounds):
        for row in plan.rows if part % 2 == 0 else reversed(plan.rows):
            yield _Trial(row, part, None)
            if plan.paced:
                yield _Trial(row, part, plan.fps)


class _Video:
    """A real motion sequence: the longest clip of the test split that a camera sees whole."""

    def __init__(self, motion: MotionSource) -> None:
        self._motion = motion
        self._view: View | None = None

    @property
    def name(self) -> str:
        return f"{self._chosen().clip.name}, camera {self._chosen().camera.id}"

    @property
    def description(self) -> str:
        return self._motion.description

    def _chosen(self) -> View:
        if self._view is None:
            whole = [view for view in self._motion.views() if bool(view.usable.all())]
            if not whole:
                raise UsageError(
                    f"no camera sees any clip of {self._motion.name} whole; name another --motion"
                )
            self._view = max(whole, key=lambda view: len(view.input))
        return self._view

    def frames(self, case: Case) -> Tensor:
        """(T, J, C_in), normalised, the confidence 1 where the host takes one."""
        x = torch.from_numpy(self._chosen().input.copy())
        channels = h2ot_core.HOSTS[case.host].channels
        return torch.cat([x, x.new_ones(*x.shape[:-1], channels - x.shape[-1])], dim=-1)


def settled(rows: Sequence[Row], **setting: Any) -> tuple[Row, ...]:
    """The rows with fields of their cases replaced, such as motion and device; each once."""
    return tuple(dict.fromkeys(replace(r, case=replace(r.case, **setting)) for r in rows))
