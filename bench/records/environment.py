"""Where a measurement was taken: machine, versions, code."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from bench.records.record import Record

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("torch", "numpy", "fvcore", "thop")
# What decides how memory is had on a CPU, and with it speed; told where it is set.
_MEMORY = (
    "THP_MEM_ALLOC_ENABLE", "LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_ARENA_MAX",
)  # fmt: skip
# Code whose change makes earlier measurements those of another program.
_MEASURED = ("h2ot_core", "bench")


@cache
def environment(threads: int) -> dict[str, Any]:
    """Describe this machine, its software and the code under test.

    Args:
        threads: CPU threads that PyTorch uses in the measuring process.

    Returns:
        Plain values: system, cpu, cores, memory_bytes, gpu, driver, threads, python, the versions
        of packages, h2ot's among them, settings of memory that the process was given, code (a hash
        of it), commit and dirty. ``fingerprint`` is equal for measurements that may be put side by
        side; it holds the code's hash instead of its version, commit and dirty flag, which may
        change without it.
    """
    facts: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "threads": threads,
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        **_gpu(),
        **{name: os.environ[name] for name in _MEMORY if os.environ.get(name)},
        "code": _code_hash(),
    }
    text = repr(sorted(facts.items()))
    facts["fingerprint"] = hashlib.sha256(text.encode()).hexdigest()[:12]
    facts["h2ot"] = _version("h2ot")
    facts.update(_git())
    return facts


def _version(package: str) -> str:
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


def _code_hash() -> str:
    digest = hashlib.sha256()
    for package in _MEASURED:
        files = sorted((_ROOT / package).rglob("*"))
        if not files:  # a wrong root would give one name to all code
            raise RuntimeError(f"no files of {package} in {_ROOT}")
        for file in files:
            if file.suffix in (".py", ".csv"):
                digest.update(str(file.relative_to(_ROOT)).encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _git() -> dict[str, Any]:
    """Commit of the checkout and whether it has local changes; empty outside a checkout."""

    def ask(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        if Path(ask("rev-parse", "--show-toplevel")).resolve() != _ROOT:
            return {"commit": "", "dirty": None}
        return {
            "commit": ask("rev-parse", "HEAD")[:12],
            "dirty": bool(ask("status", "--porcelain")),
        }
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "", "dirty": None}


# What may differ: base and head are different code, or there would be nothing to compare.
_CODE = {"code", "commit", "dirty", "fingerprint", "h2ot"}


def differences(records: Sequence[Record]) -> list[str]:
    """In what the environments of some records differ, such as ``torch is 2.12.0 or 2.13.0``."""
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
