"""Peaks of memory: of this process, and of a device as NVML sees it."""

from __future__ import annotations

import os
import sys
from pathlib import Path


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


def device_used_bytes() -> int:
    """Memory of the first GPU in use by anyone, in bytes, as NVML says."""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)


def device_process_bytes() -> int:
    """Memory that NVML attributes to this process, context included.

    0 where it does not know the process, as in a container with process ids of its own.
    """
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return next((int(p.usedGpuMemory or 0) for p in processes if p.pid == os.getpid()), 0)
