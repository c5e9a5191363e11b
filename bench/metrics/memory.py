"""Peaks of memory: of this process, and of a device as NVML sees it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any


def forget_peak() -> bool:
    """Reset the kernel's high-water mark, so that what came before does not count."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak() -> int:
    """Highest resident memory of this process since then, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _device() -> tuple[Any, Any]:
    """NVML, and its handle of the first GPU."""
    import pynvml

    pynvml.nvmlInit()
    return pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)


def device_used_bytes() -> int:
    """Memory of the first GPU that all processes use, in bytes, by NVML."""
    nvml, handle = _device()
    return int(nvml.nvmlDeviceGetMemoryInfo(handle).used)


def device_process_bytes() -> int:
    """Memory that NVML attributes to this process, context included.

    0 where NVML does not know the process, as in a container with its own process ids.
    """
    nvml, handle = _device()
    processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return next((int(p.usedGpuMemory or 0) for p in processes if p.pid == os.getpid()), 0)
