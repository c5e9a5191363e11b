"""Take what the paper's figures show, beside the sweep and into the same store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from bench.metrics import runner
from bench.metrics.kept_frames import FIGURES, Figure
from bench.models.context import Context
from bench.records import session


def take_figures(
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
        threads: CPU threads, 0 for PyTorch's choice; as of the sweep whose store it is, since
            records of another number of threads are not kept beside it.
        figures: those to take.
        quiet: show no progress.

    Raises:
        bench.records.errors.StoreError: if the store cannot be used.
    """
    if threads:
        torch.set_num_threads(threads)
    with session.opened(path) as (store, stamp):
        for figure in figures.values():
            cases = [
                replace(case, motion=context.motion.name, threads=threads) for case in figure.cases
            ]
            runner.measure(figure.metric, cases, store, context, stamp, quiet)
