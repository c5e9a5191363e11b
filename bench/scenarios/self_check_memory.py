"""In a fresh process: allocate a known amount and read it back as the memory metrics do."""

from __future__ import annotations

from typing import Any

from bench.metrics import memory
from bench.records.case import Case
from bench.workers import isolated

BYTES = 2**30


def worker(case: Case) -> dict[str, Any]:
    """By how many bytes each reading grew; those of CUDA only on that device."""
    import torch

    from bench.timing import clock

    device = torch.device(case.device)
    torch.ones(1, device=device)  # what the first tensor allocates besides is not counted
    reset = memory.forget_peak()
    before = _readings(device)
    allocation = torch.ones(BYTES // 4, dtype=torch.float32, device=device)
    clock.synchronise(device)
    after = _readings(device)
    assert allocation.nbytes == BYTES
    return {"reset": reset, "grown": {name: after[name] - before[name] for name in before}}


def _readings(device: Any) -> dict[str, int]:
    import torch

    if device.type == "cpu":
        return {"process": memory.peak()}
    return {
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
        "device process": memory.device_process_bytes(),
    }


if __name__ == "__main__":
    isolated.answer(worker)
