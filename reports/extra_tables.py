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


def breakdown(results: Iterable[Results]) -> pd.DataFrame:
    """flops_full by part of the model, in G, one column per case."""
    columns = {}
    for result in results:
        parts: dict[str, float] = {}
        for path, flops in result.by_label.get(BY_MODULE, {}).items():
            name = ".".join(path.split(".")[:2]) or "(loop)"
            parts[name] = parts.get(name, 0) + flops / 1e9
        columns[result.case.label] = parts
    return pd.DataFrame(columns).fillna(0.0).map(lambda v: rounded(v, 3))


ONLY_CSV = (
    "clips/s low", "clips/s high", "speed-up low", "speed-up high", "rounds", "samples", "outliers",
)  # fmt: skip
"""Columns of :func:`further` that only the CSV file has."""


def further(results: Sequence[Results]) -> pd.DataFrame:
    """Cases that are in no table of the paper."""
    return pd.DataFrame(map(_line, results))


def _line(r: Results) -> dict[str, str]:
    speed = r.estimates.get("clips_per_s")
    memory = next((m for m in _INFERENCE_MEMORY if m in r.values), _INFERENCE_MEMORY[-1])
    clips = _text(r, "clips_per_s", lambda v: rounded(v, 2))
    cells = {
        "case": r.case.label,
        "batch": str(r.case.batch),
        "device": r.case.device,
        "precision": r.case.dtype,
        "input": r.case.motion,
        "Param (M)": _text(r, "param_count", millions),
        "flops_paper (G)": _text(r, "flops_paper", giga),
        "flops_full (G)": _text(r, "flops_full", giga),
        "clips/s": clips if speed is None else f"{clips} {spread(speed)}",
        "speed-up": "not measured" if r.speed is None else factor(r.speed),
        "ratio": _text(r, "prune_recover_ratio", lambda v: rounded(v, 4)),
        "training memory, estimated (GiB)": _text(r, "training_peak_estimated_bytes", gib),
        "inference memory (GiB)": _text(r, memory, gib),
        "remark": "; ".join(sorted(set(r.reasons.values()))),
    }
    counts = (str(n) if r.samples else "" for n in (r.rounds, r.samples, r.outliers))
    return cells | dict(zip(ONLY_CSV, (*ends(speed), *ends(r.speed), *counts), strict=True))


def batches(results: Mapping[Case, Results]) -> dict[Case, Results]:
    """The cases that were timed at more than one batch size."""
    timed = {case: result for case, result in results.items() if "latency_s" in result.values}
    sizes = Counter(replace(case, batch=1) for case in timed)
    chosen = {case: timed[case] for case in timed if sizes[replace(case, batch=1)] > 1}
    order = sorted(chosen, key=lambda case: (case.label.split("-batch")[0], case.batch))
    return {case: chosen[case] for case in order}
