"""Peak memory of a process that does nothing but one forward pass."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.case import Case
from bench.metrics.base import Context, NotApplicable, Reading

_TIMEOUT_S = 600


def measure(case: Case, context: Context) -> list[Reading]:
    """Run the case once in a process of its own and read that process's peaks.

    Raises:
        NotApplicable: if the case's device is not there.
        MemoryError: if the process was killed for want of memory.
        RuntimeError: with the process's last line, if it failed otherwise.
    """
    command = [sys.executable, "-m", "bench.metrics.process_memory"]
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command,
        input=json.dumps(case.to_json()),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    if done.returncode in (-9, 137):
        raise MemoryError("the measuring process was killed, probably for want of memory")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        if "NotApplicable" in last:
            raise NotApplicable(last.partition(": ")[2])
        if "OutOfMemoryError" in last:
            raise MemoryError(last)
        raise RuntimeError(last)
    peaks = json.loads(done.stdout.splitlines()[-1])
    scope = peaks.pop("scope")
    return [
        Reading(
            metric=metric,
            unit="B",
            values=(value,),
            protocol={"batch": case.batch, "process": "fresh", "scope": scope},
        )
        for metric, value in peaks.items()
    ]


def _worker(case: Case) -> dict[str, Any]:
    """In the fresh process: one forward pass, and what it took."""
    import torch

    import h2ot_core

    if case.device == "cuda" and not torch.cuda.is_available():
        raise NotApplicable("no CUDA device")
    if case.threads:
        torch.set_num_threads(case.threads)
    model = h2ot_core.build(**case.build_arguments()).eval()
    model = model.to(case.device, getattr(torch, case.dtype))
    host = model.host
    x = torch.zeros(case.batch, host.frames, host.joints, host.channels)
    x = x.to(case.device, getattr(torch, case.dtype))
    scope = "forward pass" if _forget_peak() else "whole process"
    with torch.inference_mode():
        model(x)
    peaks: dict[str, Any] = {"inference_process_peak_bytes": _peak(), "scope": scope}
    if case.device == "cuda":
        torch.cuda.synchronize()
        peaks["inference_allocated_peak_bytes"] = torch.cuda.max_memory_allocated()
        peaks["inference_reserved_peak_bytes"] = torch.cuda.max_memory_reserved()
        peaks["inference_device_process_bytes"] = _device_process_bytes()
    return peaks


def _forget_peak() -> bool:
    """Reset the kernel's high-water mark, so that building the model does not count."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak() -> int:
    """Highest resident memory of this process, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _device_process_bytes() -> int:
    """Memory that NVML attributes to this process, context included."""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return next((int(p.usedGpuMemory or 0) for p in processes if p.pid == os.getpid()), 0)


if __name__ == "__main__":
    print(json.dumps(_worker(Case.from_json(json.load(sys.stdin)))))  # noqa: T201
