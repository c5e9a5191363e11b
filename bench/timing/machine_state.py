"""What the machine is doing at a moment: load, clocks, temperature, power. Never fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import psutil
import torch

T = TypeVar("T")

# NVML's bits; a device that reports none of them runs at full speed.
_THROTTLE = {
    0x01: "idle",
    0x02: "application clocks",
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "hardware power brake",
    0x100: "display clocks",
}
_DEVICE = ("sm_clock_mhz", "max_sm_clock_mhz", "throttle", "temperature_c", "power_w")


def state(device: str) -> dict[str, Any]:
    """The state of this machine now; what it does not report is None.

    Args:
        device: "cpu" or "cuda".

    Returns:
        Plain values: ``threads`` of PyTorch, ``load_1m`` (processes that want to run, mean of a
        minute), ``frequency_mhz`` of the CPU, and on CUDA ``sm_clock_mhz``,
        ``max_sm_clock_mhz``, ``throttle`` (names of the reasons), ``temperature_c``,
        ``power_w`` and ``tf32`` (whether float32 products may use it).
    """
    found: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "load_1m": _try(lambda: round(os.getloadavg()[0], 2)),
        "frequency_mhz": _try(lambda: round(psutil.cpu_freq().current, 1)),
    }
    if device == "cuda":
        found |= dict.fromkeys(_DEVICE) | (_try(_nvml) or {})
        found["tf32"] = _try(lambda: bool(torch.backends.cuda.matmul.allow_tf32))
    return found


def throttle_names(bits: int) -> list[str]:
    """Names of the reasons in NVML's bits, unknown ones by number."""
    known = [name for bit, name in _THROTTLE.items() if bits & bit]
    rest = bits & ~sum(_THROTTLE)
    return [*known, *([f"unknown {rest:#x}"] if rest else [])]


def _nvml() -> dict[str, Any]:
    import pynvml

    handle = _handle()
    reasons = getattr(pynvml, "nvmlDeviceGetCurrentClocksEventReasons", None) or (
        pynvml.nvmlDeviceGetCurrentClocksThrottleReasons
    )
    sm = pynvml.NVML_CLOCK_SM
    return {
        "sm_clock_mhz": _try(lambda: pynvml.nvmlDeviceGetClockInfo(handle, sm)),
        "max_sm_clock_mhz": _try(lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, sm)),
        "throttle": _try(lambda: throttle_names(reasons(handle))),
        "temperature_c": _try(
            lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
        ),
        "power_w": _try(lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3),
    }


@cache
def _handle() -> Any:
    """NVML's handle of PyTorch's current device, which NVML may number otherwise."""
    import pynvml

    pynvml.nvmlInit()  # never shut down, since to initialise is slower than all queries
    uuid = _try(lambda: str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid))
    if uuid is not None:
        found = _try(lambda: pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
        if found is not None:
            return found
    return pynvml.nvmlDeviceGetHandleByIndex(0)


def _try(query: Callable[[], T]) -> T | None:
    """The answer of a query, or None where this machine has none."""
    try:
        return query()
    except Exception:  # drivers, containers and systems refuse in different ways
        return None
