"""Peak memory of a process that does nothing but one forward pass.

Four numbers are called memory, on a GPU each larger than the one before; :data:`KINDS` defines
them. On a CPU there is one, of the process. The device's is what a GPU must have; the allocated one
shows best what a change of the model does.
"""

from __future__ import annotations

from typing import Any

from bench.metrics import memory
from bench.metrics.base import Reading
from bench.models.context import Context
from bench.records.case import Case
from bench.workers import isolated

KINDS = {
    "inference_allocated_peak_bytes": "tensors, as PyTorch's allocator counts them on the GPU",
    "inference_reserved_peak_bytes": "what PyTorch's allocator holds of the GPU, free blocks too",
    "inference_process_peak_bytes": "resident memory of the process on the CPU's side",
    "inference_device_peak_bytes": "what the process takes of the GPU, context and kernels too",
}
"""By metric, what is in the number. All but the process's are of cases on a GPU alone."""


def measure(case: Case, context: Context) -> list[Reading]:
    """Run the case once in a process of its own and read that process's peaks.

    Raises:
        bench.records.status.Failure: as :func:`bench.workers.isolated.call`.
    """
    peaks = isolated.call("bench.metrics.process_memory", case)
    protocol = {"batch": case.batch, "process": "fresh", "scope": peaks.pop("scope")}
    device = {"device_source": peaks.pop("device_source", "")}
    return [
        Reading(
            metric=metric,
            unit="B",
            values=(value,),
            protocol={
                **protocol,
                **(device if "device" in metric else {}),
                "memory": KINDS[metric],
            },
        )
        for metric, value in peaks.items()
    ]


def worker(case: Case) -> dict[str, Any]:
    """In the fresh process: the peaks of one forward pass."""
    import torch

    from bench.models.build import measured_model
    from bench.timing import clock

    before = memory.device_used_bytes() if case.device == "cuda" else 0
    model = measured_model(case)
    host = model.host
    x = torch.zeros(case.batch, host.frames, host.joints, host.channels)
    x = x.to(case.device, getattr(torch, case.dtype))
    scope = "forward pass" if memory.forget_peak() else "whole process"
    with torch.inference_mode():
        model(x)
    peaks: dict[str, Any] = {"inference_process_peak_bytes": memory.peak(), "scope": scope}
    if case.device == "cuda":
        clock.synchronise(x.device)
        peaks["inference_allocated_peak_bytes"] = torch.cuda.max_memory_allocated()
        peaks["inference_reserved_peak_bytes"] = torch.cuda.max_memory_reserved()
        # The allocator returns nothing within one pass, so that the present use is the peak.
        own = memory.device_process_bytes()
        peaks["inference_device_peak_bytes"] = own or memory.device_used_bytes() - before
        peaks["device_source"] = (
            "NVML, this process" if own else "NVML, whole device less what was used before"
        )
    return peaks


if __name__ == "__main__":
    isolated.answer(worker)
