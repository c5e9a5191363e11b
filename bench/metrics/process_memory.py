"""Peak memory of a process that does nothing but one forward pass."""

from __future__ import annotations

from typing import Any

from bench.case import Case
from bench.metrics import isolated
from bench.metrics.base import Context, NotApplicable, Reading


def measure(case: Case, context: Context) -> list[Reading]:
    """Run the case once in a process of its own and read that process's peaks.

    Raises:
        NotApplicable: if the case's device is not there.
        MemoryError, RuntimeError: as :func:`bench.metrics.isolated.call`.
    """
    peaks = isolated.call("bench.metrics.process_memory", case)
    protocol = {"batch": case.batch, "process": "fresh", "scope": peaks.pop("scope")}
    return [
        Reading(metric=metric, unit="B", values=(value,), protocol=protocol)
        for metric, value in peaks.items()
    ]


def worker(case: Case) -> dict[str, Any]:
    """In the fresh process: one forward pass, and what it took."""
    import torch

    import h2ot_core
    from bench import timing

    if case.device == "cuda" and not torch.cuda.is_available():
        raise NotApplicable("no CUDA device")
    if case.threads:
        torch.set_num_threads(case.threads)
    model = h2ot_core.build(**case.build_arguments()).eval()
    model = model.to(case.device, getattr(torch, case.dtype))
    host = model.host
    x = torch.zeros(case.batch, host.frames, host.joints, host.channels)
    x = x.to(case.device, getattr(torch, case.dtype))
    scope = "forward pass" if isolated.forget_peak() else "whole process"
    with torch.inference_mode():
        model(x)
    peaks: dict[str, Any] = {"inference_process_peak_bytes": isolated.peak(), "scope": scope}
    if case.device == "cuda":
        timing.synchronise(x.device)
        peaks["inference_allocated_peak_bytes"] = torch.cuda.max_memory_allocated()
        peaks["inference_reserved_peak_bytes"] = torch.cuda.max_memory_reserved()
        peaks["inference_device_process_bytes"] = isolated.device_process_bytes()
    return peaks


if __name__ == "__main__":
    isolated.answer(worker)
