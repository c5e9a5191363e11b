"""Measure the energy per frame of some cases, into the common store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.metrics import runner
from bench.metrics.energy import ENERGY
from bench.models.context import Context
from bench.records import session
from bench.records.case import Case


def run(cases: Sequence[Case], path: Path, context: Context, *, quiet: bool = False) -> list[str]:
    """Measure what the store at ``path`` lacks; can be interrupted at any time and called again.

    Returns:
        Why cases have no value, each reason once.

    Raises:
        bench.records.errors.StoreError: if the store cannot be used.
    """
    with session.opened(path, cases) as (store, stamp):
        runner.measure(ENERGY, cases, store, context, stamp, quiet)
        own = [r for r in store.records if r.metric in ENERGY.readings and r.case in set(cases)]
    return list(dict.fromkeys(f"{r.status}: {r.reason}" for r in own if r.status != "ok"))
