"""Parameters and FLOPs, exact, without running the model on data."""

from __future__ import annotations

from collections.abc import Mapping

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
    return readings(case, confirm=True)


def readings(case: Case, *, confirm: bool) -> list[Reading]:
    """As :func:`measure`, without the other counters unless ``confirm``."""
    model, x = build.blank_model(case.build_arguments())
    count = flop_counters.count(model, x)
    confirmed = flop_counters.cross_check(model, x, count) if confirm else {}
    protocol = {
        "counter": "h2ot",
        "confirmed_by": sorted(confirmed),
        "batch": 1,
        "torch": torch.__version__.split("+")[0],
    }

    def reading(metric: str, unit: str, counts: Mapping[str, int]) -> Reading:
        labels, values = tuple(sorted(counts)), tuple(counts[name] for name in sorted(counts))
        return Reading(metric=metric, unit=unit, values=values, labels=labels, protocol=protocol)

    parameters = (sum(p.numel() for p in model.parameters()),)
    return [
        Reading(metric="param_count", unit="1", values=parameters, protocol=protocol),
        reading("flops_paper", "flop", {"all": count.flops_paper}),
        reading("flops_full", "flop", {"all": count.flops_full}),
        reading("flops_full_by_kind", "flop", count.full),
        reading("flops_full_by_section", "flop", count.sections),
        reading("flops_full_by_module", "flop", count.modules),
        reading("operator_calls", "1", count.calls),
    ]
