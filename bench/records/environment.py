"""The environment of a measurement: machine, versions, code."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from bench.records import git
from bench.records.files import folder_digest, text_digest
from bench.records.record import Record

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("torch", "numpy", "fvcore", "thop")
# Settings of the allocator on a CPU, which decide speed; recorded where they are set.
_MEMORY = (
    "THP_MEM_ALLOC_ENABLE", "LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_ARENA_MAX",
)  # fmt: skip
# Packages whose change makes earlier measurements incomparable.
_MEASURED = ("h2ot_core", "bench")


@cache
def environment(threads: int) -> dict[str, Any]:
    """Describe this machine, its software and the code under test.

    Args:
        threads: CPU threads that PyTorch uses in the measuring process.

    Returns:
        Plain values: system, cpu, cores, memory_bytes, gpu, driver, threads, python, the versions
        of packages, h2ot's among them, settings of the allocator, code (a hash
        of it), commit and dirty. ``fingerprint`` is equal for measurements that may be compared;
        it holds the code's hash instead of its version, commit and dirty flag, which may
        change without it.
    """
    facts: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "threads": threads,
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        **_gpu(),
        **{name: os.environ[name] for name in _MEMORY if os.environ.get(name)},
        "code": folder_digest(*(_ROOT / name for name in _MEASURED), suffixes=(".py", ".csv")),
    }
    facts["fingerprint"] = text_digest(repr(sorted(facts.items())))
    facts["h2ot"] = version("h2ot")
    facts["commit"], facts["dirty"] = git.commit(_ROOT) or ("", None)
    return facts


def version(package: str) -> str:
    """The version of an installed package, or "absent"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpu() -> dict[str, Any]:
    """Name and driver of the first GPU, through NVML; empty values without one."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # NVML reports a missing driver in several ways, all meaning no GPU
        return {"gpu": "", "driver": ""}
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        name, driver = pynvml.nvmlDeviceGetName(handle), pynvml.nvmlSystemGetDriverVersion()
        return {"gpu": str(name), "driver": str(driver)}
    except pynvml.NVMLError:
        return {"gpu": "", "driver": ""}
    finally:
        pynvml.nvmlShutdown()


# Ignored: base and head are different code.
_CODE = {"code", "commit", "dirty", "fingerprint", "h2ot"}


def differences(records: Sequence[Record]) -> list[str]:
    """How the environments of records differ, such as ``torch is 2.12.0 or 2.13.0``."""
    names = {name for record in records for name in record.environment} - _CODE
    values: dict[str, dict[str, Any]] = {name: {} for name in names}
    for record in records:
        for name in names:
            value = record.environment.get(name, "unknown")
            values[name][repr(value)] = value
    return [
        f"{name} is {' or '.join(str(v) or 'none' for v in found.values())}"
        for name, found in sorted(values.items())
        if len(found) > 1
    ]
