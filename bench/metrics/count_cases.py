"""Counts of many cases, on all cores."""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import psutil

from bench.models import build
from bench.records.case import Case

_MANY = 8  # cases from which on starting processes pays off


@dataclass(frozen=True)
class Counted:
    """Parameters, and FLOPs of one clip in both conventions."""

    parameters: int
    flops_paper: int
    flops_full: int


def count_all(cases: Iterable[Case]) -> Mapping[Case, Counted]:
    """Count every case once; each pair of strategies is cross-checked once.

    Raises:
        UncountedOperation, CountersDisagree: see ``bench.metrics.flop_counters``.
    """
    similar: dict[Any, list[Case]] = defaultdict(list)
    for case in dict.fromkeys(cases):
        kind = (case.host, case.prune, case.recover, case.pipeline, case.options)
        similar[kind].append(case)
    # The largest first, so that no core is left with one when the others are done.
    groups = sorted(similar.values(), key=len, reverse=True)
    workers = min(len(groups), psutil.cpu_count(logical=False) or 1)
    if workers == 1 or sum(map(len, groups)) < _MANY:
        counted = [_count(group) for group in groups]
    else:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            counted = list(pool.map(_count, groups))
    return dict(zip(chain(*groups), chain(*counted), strict=True))


def _count(cases: Sequence[Case]) -> list[Counted]:
    """Cases that differ only in their schedules; the first is cross-checked."""
    from bench.metrics import flop_counters

    counted: list[Counted] = []
    for case in cases:
        model, x = build.blank_model(case.build_arguments())
        count = flop_counters.count(model, x)
        if not counted:
            flop_counters.cross_check(model, x, count)
        parameters = sum(p.numel() for p in model.parameters())
        counted.append(Counted(parameters, count.flops_paper, count.flops_full))
    return counted
