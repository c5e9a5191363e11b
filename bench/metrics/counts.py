"""Parameters and FLOPs, exact, without running the model on data."""

from __future__ import annotations

import torch

from bench.metrics import flop_counters
from bench.metrics.base import Reading
from bench.models import build
from bench.models.context import Context
from bench.records.case import Case


def measure(case: Case, context: Context) -> list[Reading]:
    """Count a batch of one in both conventions, and confirm it with three other counters.

    Raises:
        UncountedOperation, CountersDisagree: see ``bench.metrics.flop_counters``.
    """
    model, x = build.blank_model(case.build_arguments())
    count = flop_counters.count(model, x)
    confirmed = flop_counters.cross_check(model, x, count)
    names = {"torch": torch.__version__.split("+")[0]}
    protocol = {"counter": "h2ot", "confirmed_by": sorted(confirmed), "batch": 1, **names}
    modules = sorted(count.modules.items())
    calls = sorted(count.calls.items())

    def flops(metric: str, items: list[tuple[str, int]]) -> Reading:
        labels = tuple(name for name, _ in items)
        values = tuple(value for _, value in items)
        return Reading(metric=metric, unit="flop", values=values, labels=labels, protocol=protocol)

    return [
        Reading(
            metric="param_count",
            unit="1",
            values=(sum(p.numel() for p in model.parameters()),),
            protocol=protocol,
        ),
        flops("flops_paper", [("all", count.flops_paper)]),
        flops("flops_full", [("all", count.flops_full)]),
        flops("flops_full_by_kind", sorted(count.full.items())),
        flops("flops_full_by_section", sorted(count.sections.items())),
        flops("flops_full_by_module", modules),
        Reading(
            metric="operator_calls",
            unit="1",
            values=tuple(value for _, value in calls),
            labels=tuple(name for name, _ in calls),
            protocol=protocol,
        ),
    ]
