"""Speed and drift of a model in every runtime, in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import h2ot_core
from bench.data.windows import MotionSource
from bench.metrics import METRICS, runner
from bench.metrics.base import excuse
from bench.models import inputs as given
from bench.models.build import measured_model
from bench.models.context import Context
from bench.models.torch_private import recompiling
from bench.models.weights import Weights
from bench.records import session
from bench.records.case import Case
from bench.records.errors import UsageError
from bench.records.files import text_digest
from bench.records.record import Record
from bench.records.store import Store
from bench.scenarios.runtimes import RUNTIMES
from bench.scenarios.runtimes.base import NOT_FINITE, Call, Unavailable
from bench.timing import clock
from bench.timing.clock import trial
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
        rounds: each times every runtime once.
        weights: a file that fits every case; without one weights are drawn by the rule of
            ``bench.models.inputs.weights``.
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
        return f"{name}@{text_digest(text, 8)}"


def run(job: Job, path: Path, *, quiet: bool = False) -> None:
    """Measure what the store at ``path`` lacks; can be interrupted and called again.

    Raises:
        UsageError: if a case is not float32, a runtime is unknown, or the device is not there.
        bench.records.errors.StoreError: if the store cannot be used.
        h2ot_core.CheckpointError: if the weights do not fit.
    """
    for name in job.names:
        if name not in RUNTIMES:
            raise UsageError(f"no runtime {name!r}; there are {', '.join(RUNTIMES)}")
    for case in job.cases:
        if case.dtype != "float32":
            raise UsageError(f"runtimes start from float32 models, got dtype {case.dtype!r}")
        session.require_device(case.device)
    with session.opened(path, job.cases) as (store, stamp):
        # The report compares the speed-up of pruning with what the FLOPs imply.
        context = Context(job.motion)
        runner.measure(METRICS["counts"], job.cases, store, context, stamp, quiet)
        with session.progress("runtimes", len(job.together), quiet) as tick:
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

    # Earlier compilations count against the limit of recompiling, and so do those here, one per
    # case and format.
    torch.compiler.reset()
    with recompiling(len(cases) * len(job.names)):
        _rounds(job, {case: _prepare_case(job, case, keep) for case in cases}, keep)


def _prepare_case(job: Job, case: Case, keep: Keep) -> _Ready:
    """Prepare the runtimes of a case, and store the drift of their outputs from the reference."""
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
            call, elapsed_s = _prepare(name, model, inputs[0])
            poses = [_poses(call, x) for x in inputs]
            if not all(bool(y.isfinite().all()) for y in poses):
                raise Unavailable(NOT_FINITE)
        except Exception as error:  # the other runtimes go on, and the record has the reason
            keep(case, DRIFT, name, unit="", values=(), **excuse(error))
            if name == REFERENCE:
                _skip_all(job, case, keep)
                return _Ready({}, inputs)
            continue
        calls[name] = call
        if name == REFERENCE:
            reference = poses
            scale = scale or _scale(case, job.motion, poses)
        drift = drift_mm(poses, reference, scale or 1.0)
        protocol = {
            "prepare_s": elapsed_s, "inputs": len(inputs) * case.batch, "scale": scale,
            "weights": job.weights.name if job.weights else "drawn by name, poses scaled",
            "runtime": RUNTIMES[name].title,
        }  # fmt: skip
        fields = {"unit": "mm", "protocol": protocol}
        keep(case, DRIFT, name, values=drift, labels=("mean", "max"), **fields)
        if job.weights is not None:
            error_mm = _error_mm(model, job.motion, case.batch, poses)
            keep(case, ERROR, name, values=(error_mm,), **fields)
    return _Ready(calls, inputs)


def _skip_all(job: Job, case: Case, keep: Keep) -> None:
    """Store that a case lacks the reference for the comparison."""
    missing = Unavailable(f"{REFERENCE} did not run, with which it is compared")
    for name in job.names:
        if name != REFERENCE:
            keep(case, DRIFT, name, unit="", values=(), **excuse(missing))


def _prepare(name: str, model: h2ot_core.Hourglass, example: Tensor) -> tuple[Call, float]:
    """A runtime's call, and the seconds of preparing it."""
    runtime = RUNTIMES[name]
    reason = runtime.available(example.device.type)
    if reason:
        raise Unavailable(reason)
    prepared: list[Call] = []
    elapsed_s = clock.time_call(
        lambda: prepared.append(runtime.prepare(model, example)), example.device
    )
    return prepared[0], elapsed_s


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
                    seconds = trial(lambda call=call, x=x: call(x), x.device)  # type: ignore[misc]
            except Exception as error:  # such as memory that other processes use now
                keep(case, LATENCY, name, part, unit="s", values=(), **excuse(error))
                visits = [one for one in visits if one != (case, name)]
                continue
            keep(case, LATENCY, name, part, unit="s", values=tuple(seconds), protocol=protocol)


def _model(job: Job, case: Case) -> tuple[h2ot_core.Hourglass, float | None]:
    """The model, and the factor from its output to metres; None where it is estimated."""
    model = measured_model(case, weights=job.weights or "rule")
    return model, 1.0 if job.weights is not None else None


def _poses(call: Call, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return call(x).double().cpu()


def _error_mm(
    model: h2ot_core.Hourglass, motion: MotionSource, size: int, poses: Sequence[Tensor]
) -> float:
    """MPJPE of poses (B, F or 1, J, 3) in metres, relative to the root, each window once; mm."""
    windows = dict.fromkeys(
        w for turn in given.windows(motion, model.config.frames, size) for w in turn
    )
    targets = torch.stack([torch.from_numpy(w.target.copy()) for w in windows])
    if model.centre is not None:
        targets = targets[:, model.centre : model.centre + 1]
    predicted = torch.cat(list(poses))[: len(windows)]  # few windows are repeated
    predicted = predicted - predicted[..., :1, :]
    return _MM * float(mpjpe(predicted, targets.to(predicted)))


def _scale(case: Case, motion: MotionSource, poses: Sequence[Tensor]) -> float:
    """The factor that gives untrained output the spread of real poses: millimetres to scale."""
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
