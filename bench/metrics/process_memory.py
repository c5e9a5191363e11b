"""Peak memory of a process that does nothing but one forward pass.

Four numbers go by the name of memory, each larger than the one before on a GPU; :data:`KINDS` says
what each holds. On a CPU there is one, of the process. A minimum for a GPU is the device's; what a
change of the model does shows best in what is allocated.
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
    """In the fresh process: one forward pass, and what it took."""
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
        # The allocator gives nothing back in one pass, so what is held now is the peak.
        held = memory.device_process_bytes()
        whole = memory.device_used_bytes() - before
        peaks["inference_device_peak_bytes"] = held or whole
        peaks["device_source"] = (
            "NVML, this process" if held else "NVML, whole device less what was used before"
        )
    return peaks


if __name__ == "__main__":
    isolated.answer(worker)
