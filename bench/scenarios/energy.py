"""Take the energy per frame of some cases, beside the sweep and into the same store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from bench.metrics import runner
from bench.metrics.energy import ENERGY
from bench.models.context import Context
from bench.records import session
from bench.records.case import Case


def take_energy(
    cases: Sequence[Case], path: Path, context: Context, *, quiet: bool = False
) -> list[str]:
    """Measure what the store at ``path`` lacks; can be interrupted at any time and called again.

    Returns:
        Why cases were left without a value, each reason once.

    Raises:
        bench.records.errors.StoreError: if the store cannot be used.
    """
    threads = {case.threads for case in cases} - {0}
    if len(threads) == 1:
        torch.set_num_threads(threads.pop())
    with session.opened(path) as (store, stamp):
        runner.measure(ENERGY, cases, store, context, stamp, quiet)
        mine = [r for r in store.records if r.metric in ENERGY.readings and r.case in set(cases)]
    return list(dict.fromkeys(f"{r.status}: {r.reason}" for r in mine if r.status != "ok"))
