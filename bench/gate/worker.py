"""In a fresh process: measure what one ``h2ot_core`` does. Started by the gate alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import h2ot_core
from bench.models import build
from bench.records.case import Case
from bench.records.record import Record
from bench.records.status import excuse
from bench.timing import clock
from bench.workers.process import serve

SEED = 0  # of the input, the same for every process


class Measured:
    """One revision's library; :meth:`begin` comes first."""

    def begin(self, root: str, slowdown: float = 0.0) -> dict[str, Any]:
        """Check which library this process has imported.

        Args:
            root: the folder that holds the library.
            slowdown: share by which every timed forward pass is made slower.

        Raises:
            RuntimeError: if the library of another folder was imported.
        """
        found = Path(h2ot_core.__file__).resolve().parents[1]
        if found != Path(root).resolve():
            raise RuntimeError(f"h2ot_core was found in {found}, not in {root}")
        self.slowdown = slowdown
        self.passes: dict[str, Callable[[], float]] = {}
        return {}

    def counts(self, case: dict[str, Any]) -> dict[str, Any]:
        """Parameters, FLOPs and operator calls, as records."""
        return {"records": [record.to_json() for record in _counts(Case.from_json(case))]}

    def memory(self, case: dict[str, Any]) -> dict[str, Any]:
        """Estimated training memory, as records."""
        return {"records": [record.to_json() for record in _memory(Case.from_json(case))]}

    def time(self, case: dict[str, Any], passes: int) -> dict[str, Any]:
        """Seconds of some forward passes of a model that is built at the case's first request."""
        read = Case.from_json(case)
        if read.key not in self.passes:
            self.passes[read.key] = _timed_pass(read, self.slowdown)
        return {"seconds": [self.passes[read.key]() for _ in range(passes)]}


def _counts(case: Case) -> list[Record]:
    from bench.metrics import flop_counters

    names = {"param_count": "1", "flops_paper": "flop", "flops_full": "flop", "operator_calls": "1"}
    try:
        model, x = build.blank_model(case.build_arguments())
        count = flop_counters.count(model, x)
    except Exception as error:  # whatever it is, the other cases are counted
        reason = excuse(error)
        return [Record(case=case, metric=name, unit="", values=(), **reason) for name in names]
    parameters = sum(p.numel() for p in model.parameters())
    calls = sorted(count.calls.items())
    values: tuple[tuple[float, ...], ...] = (
        (parameters,), (count.flops_paper,), (count.flops_full,), tuple(n for _, n in calls),
    )  # fmt: skip
    return [
        Record(
            case=case, metric=name, unit=unit, values=value,
            labels=tuple(label for label, _ in calls) if name == "operator_calls" else (),
        )
        for (name, unit), value in zip(names.items(), values, strict=True)
    ]  # fmt: skip


def _memory(case: Case) -> list[Record]:
    from bench.metrics import training_memory

    try:
        readings = training_memory.peak(case)
    except Exception as error:  # as above
        name = "training_peak_estimated_bytes"
        return [Record(case=case, metric=name, unit="", values=(), **excuse(error))]
    return [
        Record(
            case=case, metric=reading.metric, unit=reading.unit, values=reading.values,
            protocol=reading.protocol,
        )
        for reading in readings
    ]  # fmt: skip


def _timed_pass(case: Case, slowdown: float) -> Callable[[], float]:
    """One timed forward pass, in seconds, of a model built here."""
    if case.threads:
        torch.set_num_threads(case.threads)
    model = build.measured_model(case)
    host = model.host
    generator = torch.Generator().manual_seed(SEED)
    x = torch.rand(case.batch, host.frames, host.joints, host.channels, generator=generator)
    x = (2 * x - 1).to(case.device, getattr(torch, case.dtype))
    if slowdown:
        model.forward = clock.slowed(model.forward, slowdown)  # type: ignore[method-assign]

    def once() -> float:
        with torch.inference_mode():
            return clock.time_call(lambda: model(x), x.device)

    return once


if __name__ == "__main__":
    measured = Measured()
    serve(
        {
            "begin": measured.begin, "counts": measured.counts, "memory": measured.memory,
            "time": measured.time,
        }
    )  # fmt: skip
