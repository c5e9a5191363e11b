"""Speed and drift of a model in every runtime, taken in turn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import h2ot_core
from bench import given, sweep, timing
from bench.case import Case
from bench.data.windows import MotionSource
from bench.errors import UsageError
from bench.metrics import METRICS
from bench.metrics.base import Context, excuse
from bench.models.torch_private import recompiling
from bench.record import Record
from bench.runtimes import RUNTIMES
from bench.runtimes.base import NOT_FINITE, Call, Unavailable
from bench.store import Store
from bench.visits import visit
from bench.weights import Weights, load_weights
from h2ot_core.metrics import mpjpe

LATENCY = "runtime_latency_s"
DRIFT = "runtime_drift_mm"
ERROR = "runtime_mpjpe_mm"
REFERENCE = "eager"
_MM = 1000.0  # poses are in metres


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to measure.

    Attributes:
        cases: float32, all in one setting.
        motion: where the input comes from.
        runtimes: names of RUNTIMES; "eager" is always among them.
        rounds: turns; each visits every runtime once.
        weights: a file that fits every case; without one weights are drawn by the rule of
            ``bench.given.weights``.
    """

    cases: Sequence[Case]
    motion: MotionSource
    runtimes: Sequence[str] = tuple(RUNTIMES)
    rounds: int = 10
    weights: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The runtimes, the reference first."""
        return tuple(dict.fromkeys((REFERENCE, *self.runtimes)))

    @property
    def together(self) -> list[list[Case]]:
        """Cases with one baseline, which are timed in turn."""
        found: dict[Case, list[Case]] = {}
        for case in dict.fromkeys(self.cases):
            found.setdefault(case.baseline, []).append(case)
        return list(found.values())

    @cached_property
    def _weights(self) -> str:
        return Weights.of(self.weights).sha256 if self.weights else "rule"

    def group(self, case: Case, name: str) -> str:
        """The name of a runtime, and of what is timed together with the case."""
        others = sorted(one.key for one in self.cases if one.baseline == case.baseline)
        text = " ".join((*sorted(self.names), self._weights, *others))
        return f"{name}@{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def run(job: Job, path: Path, *, quiet: bool = False) -> None:
    """Measure what the store at ``path`` lacks; can be interrupted and called again.

    Raises:
        UsageError: if a case is not float32, a runtime is unknown, or the device is not there.
        bench.errors.StoreError: if the store cannot be used.
        h2ot_core.CheckpointError: if the weights do not fit.
    """
    for name in job.names:
        if name not in RUNTIMES:
            raise UsageError(f"no runtime {name!r}; there are {', '.join(RUNTIMES)}")
    for case in job.cases:
        if case.dtype != "float32":
            raise UsageError(f"runtimes start from float32 models, got dtype {case.dtype!r}")
        if case.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("no CUDA device here; use --device cpu")
    threads = {case.threads for case in job.cases} - {0}
    if len(threads) == 1:
        torch.set_num_threads(threads.pop())
    with sweep.opened(path) as (store, stamp):
        # What their FLOPs imply stands beside what pruning gains.
        context = Context(job.motion)
        sweep.take(METRICS["counts"], job.cases, store, context, stamp, quiet)
        with sweep.progress("runtimes", len(job.together), quiet) as tick:
            for cases in job.together:
                if not all(_done(job, case, store) for case in cases):
                    _measure(job, cases, store, stamp)
                tick(cases[0].label)


def _done(job: Job, case: Case, store: Store) -> bool:
    given_up = {r.group for r in store.records if r.case == case and r.status != "ok"}
    return all(
        (case, LATENCY, job.group(case, name), part) in store
        for name in job.names
        if job.group(case, name) not in given_up
        for part in range(job.rounds)
    )


@dataclass(frozen=True, eq=False)
class _Ready:
    """A case whose runtimes are prepared."""

    calls: Mapping[str, Call]
    inputs: Sequence[Tensor]


Keep = Callable[..., None]
"""Stores a reading: case, metric, runtime, then fields of a record."""


def _measure(job: Job, cases: Sequence[Case], store: Store, stamp: Mapping[str, Any]) -> None:
    def keep(case: Case, metric: str, name: str, part: int = 0, **found: Any) -> None:
        record = Record(
            case=case, metric=metric, group=job.group(case, name), part=part, **found, **stamp
        )
        store.append([record])

    # What was compiled for other cases would count against the limit of recompiling, and so would
    # what is compiled here, once per case and format.
    torch.compiler.reset()
    with recompiling(len(cases) * len(job.names)):
        _rounds(job, {case: _made_ready(job, case, keep) for case in cases}, keep)


def _made_ready(job: Job, case: Case, keep: Keep) -> _Ready:
    """Prepare the runtimes of a case, and tell how far their outputs are from the reference's."""
    model, scale = _model(job, case)
    inputs = [
        x.to(case.device)
        for name, x in sorted(given.inputs(model, job.motion, case.batch).items())
        if name != "noise"
    ]
    calls: dict[str, Call] = {}
    reference: list[Tensor] = []
    for name in job.names:
        try:
            call, took_s = _prepared(name, model, inputs[0])
            poses = [_poses(call, x) for x in inputs]
            if not all(bool(y.isfinite().all()) for y in poses):
                raise Unavailable(NOT_FINITE)
        except Exception as error:  # the other runtimes go on, and the row says why
            keep(case, DRIFT, name, unit="", values=(), **excuse(error))
            if name == REFERENCE:
                _leave(job, case, keep)
                return _Ready({}, inputs)
            continue
        calls[name] = call
        if name == REFERENCE:
            reference = poses
            scale = scale or _scale(case, job.motion, poses)
        drift = drift_mm(poses, reference, scale or 1.0)
        protocol = {
            "prepare_s": took_s, "inputs": len(inputs) * case.batch, "scale": scale,
            "weights": job.weights.name if job.weights else "drawn by name, poses scaled",
            "runtime": RUNTIMES[name].title,
        }  # fmt: skip
        told = {"unit": "mm", "protocol": protocol}
        keep(case, DRIFT, name, values=drift, labels=("mean", "max"), **told)
        if job.weights is not None:
            error_mm = _error_mm(model, job.motion, case.batch, poses)
            keep(case, ERROR, name, values=(error_mm,), **told)
    return _Ready(calls, inputs)


def _leave(job: Job, case: Case, keep: Keep) -> None:
    """Note that a case has nothing to be compared with."""
    missing = Unavailable(f"{REFERENCE} did not run, with which it is compared")
    for name in job.names:
        if name != REFERENCE:
            keep(case, DRIFT, name, unit="", values=(), **excuse(missing))


def _prepared(name: str, model: h2ot_core.Hourglass, example: Tensor) -> tuple[Call, float]:
    """A runtime's call, and the seconds that it took to make it."""
    runtime = RUNTIMES[name]
    reason = runtime.available(example.device.type)
    if reason:
        raise Unavailable(reason)
    made: list[Call] = []
    took_s = timing.time_call(lambda: made.append(runtime.prepare(model, example)), example.device)
    return made[0], took_s


def _rounds(job: Job, ready: Mapping[Case, _Ready], keep: Keep) -> None:
    """Every runtime of every case once per turn, forwards and backwards by turns."""
    protocol = {"order": "forwards and backwards by turns", "clock": "wall, synchronised"}
    visits = [(case, name) for case, one in ready.items() for name in one.calls]
    for part in range(job.rounds):
        for case, name in visits[:: 1 if part % 2 == 0 else -1]:
            call, inputs = ready[case].calls[name], ready[case].inputs
            x = inputs[part % len(inputs)]
            try:
                with torch.inference_mode():
                    seconds = visit(lambda call=call, x=x: call(x), x.device)  # type: ignore[misc]
            except Exception as error:  # such as memory that others take by now
                keep(case, LATENCY, name, part, unit="s", values=(), **excuse(error))
                visits = [one for one in visits if one != (case, name)]
                continue
            keep(case, LATENCY, name, part, unit="s", values=tuple(seconds), protocol=protocol)


def _model(job: Job, case: Case) -> tuple[h2ot_core.Hourglass, float | None]:
    """The model, and the factor from its output to metres; None where that is to be found."""
    model = h2ot_core.build(**case.build_arguments()).eval()
    if job.weights is not None:
        load_weights(model, job.weights)
    else:
        h2ot_core.load_published(model, given.weights(model))
    model.check_finite = case.device == "cpu"
    return model.to(case.device), 1.0 if job.weights is not None else None


def _poses(call: Call, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return call(x).double().cpu()


def _error_mm(
    model: h2ot_core.Hourglass, motion: MotionSource, size: int, poses: Sequence[Tensor]
) -> float:
    """MPJPE of poses (B, F or 1, J, 3) in metres, relative to the root, each window once; mm."""
    windows = dict.fromkeys(w for turn in given.windows(model, motion, size) for w in turn)
    targets = torch.stack([torch.from_numpy(w.target.copy()) for w in windows])
    if model.centre is not None:
        targets = targets[:, model.centre : model.centre + 1]
    predicted = torch.cat(list(poses))[: len(windows)]  # where there are few, they begin again
    predicted = predicted - predicted[..., :1, :]
    return _MM * float(mpjpe(predicted, targets.to(predicted)))


def _scale(case: Case, motion: MotionSource, poses: Sequence[Tensor]) -> float:
    """What gives untrained output the spread of real poses, so that drift in mm means something."""
    windows = motion.windows(case.frames, limit=len(poses) * case.batch)
    real = torch.stack([torch.from_numpy(window.target.copy()) for window in windows]).double()
    return float(real.std() / torch.cat(list(poses)).std())


def drift_mm(
    poses: Sequence[Tensor], reference: Sequence[Tensor], scale: float
) -> tuple[float, float]:
    """Distances of joints from where the reference puts them.

    Args:
        poses, reference: (B, F, J, 3) each.
        scale: from their unit to metres.

    Returns:
        Mean and maximum over batches, frames and joints, in millimetres.
    """
    apart = torch.cat(list(poses)) - torch.cat(list(reference))
    distances = apart.norm(dim=-1) * scale * _MM
    return float(distances.mean()), float(distances.max())
