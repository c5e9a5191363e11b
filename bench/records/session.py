"""A record file opened for a session of measurements, and its progress line."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bench.records.environment import environment
from bench.records.store import Store, open_store


@contextmanager
def opened(path: Path) -> Iterator[tuple[Store, dict[str, Any]]]:
    """The store at ``path``, and the fields that all records of this process share.

    Raises:
        bench.records.errors.StoreError: if the store cannot be used.
    """
    where = environment(torch.get_num_threads())
    notes: list[str] = []
    with open_store(path, environment=where["fingerprint"], note=notes) as store:
        for note in notes:
            print(f"note: {note}", file=sys.stderr)  # noqa: T201
        yield store, {"session": uuid.uuid4().hex[:12], "environment": where}


@contextmanager
def progress(
    title: str, total: int, quiet: bool, unit: str = "case"
) -> Iterator[Callable[..., None]]:
    """A progress line with the time left; silent when there is nothing to do."""
    interval = 0.5 if sys.stderr.isatty() else 10.0
    with tqdm(
        total=total, desc=title, disable=quiet or not total, mininterval=interval, file=sys.stderr,
        dynamic_ncols=True, unit=unit,
    ) as bar:  # fmt: skip

        def tick(label: str, done: float = 1) -> None:
            bar.set_postfix_str(label, refresh=False)
            bar.update(done)

        yield tick
