"""A record file opened for a session of measurements."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bench.records.case import Case
from bench.records.environment import environment
from bench.records.errors import UsageError
from bench.records.progress import progress
from bench.records.store import Store, open_store

__all__ = ["opened", "progress", "require_device", "set_threads"]


@contextmanager
def opened(path: Path, cases: Iterable[Case] = ()) -> Iterator[tuple[Store, dict[str, Any]]]:
    """Open the store at ``path``, with PyTorch on as many CPU threads as all cases ask for.

    Yields:
        The store, and the fields that all records of this process share.

    Raises:
        bench.records.errors.StoreError: if the store cannot be used.
    """
    threads = {case.threads for case in cases} - {0}
    if len(threads) == 1:
        set_threads(threads.pop())
    where = environment(torch.get_num_threads())
    notes: list[str] = []
    with open_store(path, environment=where["fingerprint"], note=notes) as store:
        for note in notes:
            print(f"note: {note}", file=sys.stderr)  # noqa: T201
        yield store, {"session": uuid.uuid4().hex[:12], "environment": where}


def set_threads(threads: int) -> None:
    """Set PyTorch's number of CPU threads; 0 leaves its choice."""
    if threads:
        torch.set_num_threads(threads)


def require_device(device: str, remedy: str = "use --device cpu") -> None:
    """Check that a device is there.

    Args:
        device: "cpu" or "cuda".
        remedy: what to do where there is none, for the message.

    Raises:
        UsageError: if it is "cuda" and PyTorch finds none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"no CUDA device here; {remedy}")
