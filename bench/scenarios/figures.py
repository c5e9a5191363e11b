"""Measure what the paper's figures show, into the common store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

from bench.metrics import runner
from bench.metrics.kept_frames import FIGURES, Figure
from bench.models.context import Context
from bench.records import session


def run(
    path: Path,
    context: Context,
    *,
    threads: int = 0,
    figures: Mapping[str, Figure] = FIGURES,
    quiet: bool = False,
) -> None:
    """Measure what the store at ``path`` lacks; can be interrupted at any time and called again.

    Args:
        path: of the record file.
        context: gives the motion.
        threads: CPU threads, 0 for PyTorch's choice; the same as of the other records in the store,
            which keeps records of one number of threads.
        figures: those to measure.
        quiet: show no progress.

    Raises:
        bench.records.errors.StoreError: if the store cannot be used.
    """
    cases = {
        name: [replace(case, motion=context.motion.name, threads=threads) for case in figure.cases]
        for name, figure in figures.items()
    }
    with session.opened(path, chain.from_iterable(cases.values())) as (store, stamp):
        for name, figure in figures.items():
            runner.measure(figure.metric, cases[name], store, context, stamp, quiet)
