"""Tables that the paper does not have: FLOPs by module, further configurations, batch sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from bench.records.case import Case
from bench.records.units import giga, millions, rounded
from reports.intervals import ends, factor, spread
from reports.markdown import gib
from reports.results import PARTS, Results
from reports.tables import why_not

BY_MODULE = "flops_full_by_module"
_INFERENCE_MEMORY = ("inference_allocated_peak_bytes", "inference_process_peak_bytes")


METRICS = (
    "param_count", "flops_paper", "flops_full", *PARTS, "training_peak_estimated_bytes",
    *_INFERENCE_MEMORY,
)  # fmt: skip
"""What :func:`further` shows."""


def _text(result: Results, metric: str, text: Callable[[float], str]) -> str:
    return text(result.values[metric]) if metric in result.values else why_not(result, metric)


def breakdown(results: Iterable[Results], depth: int = 2) -> pd.DataFrame:
    """flops_full by part of the model, in G, one column per case."""
    columns = {}
    for result in results:
        parts: dict[str, float] = {}
        for path, flops in result.by_label.get(BY_MODULE, {}).items():
            name = ".".join(path.split(".")[:depth]) or "(loop)"
            parts[name] = parts.get(name, 0) + flops / 1e9
        columns[result.case.label] = parts
    return pd.DataFrame(columns).fillna(0.0).map(lambda v: rounded(v, 3))


ONLY_CSV = (
    "clips/s low", "clips/s high", "speed-up low", "speed-up high", "rounds", "samples", "outliers",
)  # fmt: skip
"""Columns of :func:`further` that a markdown table has no room for."""


def further(results: Sequence[Results]) -> pd.DataFrame:
    """Cases that stand in no table of the paper."""
    lines = []
    for r in results:
        line = {"case": r.case.label, "batch": str(r.case.batch), "device": r.case.device}
        line["precision"], line["input"] = r.case.dtype, r.case.motion
        line["Param (M)"] = _text(r, "param_count", millions)
        line["flops_paper (G)"] = _text(r, "flops_paper", giga)
        line["flops_full (G)"] = _text(r, "flops_full", giga)
        speed = r.estimates.get("clips_per_s")
        line["clips/s"] = _text(r, "clips_per_s", lambda v: rounded(v, 2))
        line["clips/s"] += f" {spread(speed)}" if speed is not None else ""
        line["speed-up"] = factor(r.speed) if r.speed is not None else "not measured"
        line["ratio"] = _text(r, "prune_recover_ratio", lambda v: rounded(v, 4))
        line["training memory, estimated (GiB)"] = _text(r, "training_peak_estimated_bytes", gib)
        memory = next((m for m in _INFERENCE_MEMORY if m in r.values), _INFERENCE_MEMORY[-1])
        line["inference memory (GiB)"] = _text(r, memory, gib)
        line["remark"] = "; ".join(sorted(set(r.reasons.values())))
        line["clips/s low"], line["clips/s high"] = ends(speed)
        line["speed-up low"], line["speed-up high"] = ends(r.speed)
        line["rounds"], line["samples"], line["outliers"] = (
            str(n) if r.samples else "" for n in (r.rounds, r.samples, r.outliers)
        )
        lines.append(line)
    return pd.DataFrame(lines)


def batches(results: Mapping[Case, Results]) -> dict[Case, Results]:
    """The cases that were timed at more than one batch size."""
    timed = {case: result for case, result in results.items() if "latency_s" in result.values}
    sizes = Counter(replace(case, batch=1) for case in timed)
    chosen = {case: timed[case] for case in timed if sizes[replace(case, batch=1)] > 1}
    order = sorted(chosen, key=lambda case: (case.label.split("-batch")[0], case.batch))
    return {case: chosen[case] for case in order}
