"""In a fresh process: measure what one ``h2ot_core`` does. Started by the gate alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import h2ot_core
from bench.gate.verdicts import EXACT
from bench.models import build
from bench.records.case import Case
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
        imported = Path(h2ot_core.__file__).resolve().parents[1]
        if imported != Path(root).resolve():
            raise RuntimeError(f"h2ot_core was found in {imported}, not in {root}")
        self.slowdown = slowdown
        self.passes: dict[str, Callable[[], float]] = {}
        return {}

    def measure(self, kind: str, case: dict[str, Any]) -> dict[str, Any]:
        """Records of a case, of kind "counts" or "memory"."""
        from bench.metrics import counts, runner, training_memory

        read = Case.from_json(case)
        if kind == "counts":
            metrics = EXACT[:-1]
            records = runner.records(
                read,
                metrics,
                lambda: [r for r in counts.readings(read, confirm=False) if r.metric in metrics],
            )
        else:
            records = runner.records(read, EXACT[-1:], lambda: training_memory.peak(read))
        return {"records": [record.to_json() for record in records]}

    def time(self, case: dict[str, Any], passes: int) -> dict[str, Any]:
        """Seconds of some forward passes of a model that is built at the case's first request."""
        read = Case.from_json(case)
        if read.key not in self.passes:
            self.passes[read.key] = _timed_pass(read, self.slowdown)
        return {"seconds": [self.passes[read.key]() for _ in range(passes)]}


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
    serve({"begin": measured.begin, "measure": measured.measure, "time": measured.time})
