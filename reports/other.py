"""Measurements that no other section shows, so that a new metric needs no change here."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, median, stdev

import pandas as pd
from scipy import stats

from bench.records.case import Case
from bench.records.record import Record
from bench.timing.statistics import Estimate, median_interval
from reports.intervals import ends

_TEXT = """What the sections above have no cell for; values by label other than a mean, and \
metrics that have a column above for other configurations, are in the file alone. Of several \
rounds, the value is the median of their medians, with its 95% interval from six rounds on; of \
several values of one record, it is their mean, with the 95% interval of Student's t, which \
assumes that they are independent."""
_SETTING = ("group", "batch", "device", "precision", "input")
Key = tuple[Case, str, str, str]


def section(records: Sequence[Record], folder: Path, shown: set[str]) -> list[str]:
    """The section's parts in markdown, and its CSV in a folder; nothing without such records.

    Args:
        records: those that no other section shows.
        folder: where ``other.csv`` is written.
        shown: metrics that another section shows for other cases; these are in the file alone.
    """
    series: dict[Key, list[list[float]]] = {}
    units = {}
    for r in (r for r in records if r.status == "ok"):
        plain = set(r.labels) <= {"all"}
        labels = [""] * len(r.values) if plain else [label or "(loop)" for label in r.labels]
        by_label: dict[str, list[float]] = {}
        for label, value in zip(labels, r.values, strict=True):
            by_label.setdefault(label, []).append(value)
        for label, values in by_label.items():
            series.setdefault((r.case, r.metric, r.group, label), []).append(values)
        units[r.metric] = r.unit
    if not series:
        return []
    table = pd.DataFrame(_line(key, rounds, units[key[1]]) for key, rounds in series.items())
    table.to_csv(folder / "other.csv", index=False)
    new = table[~table["metric"].isin(shown)]
    # An evaluation's mean is over its actions; among counts of operators it is the one so named.
    single = (new["label"] == "") | ((new["label"] == "mean") & (new["unit"] != "1"))
    unlabelled, labelled = new[single], new[~single].groupby("metric", sort=False)
    parts = ["## Other measurements", _TEXT]
    if len(unlabelled):
        constant = [name for name in _SETTING if unlabelled[name].nunique() < 2]
        shown_columns = unlabelled.drop(columns=["label", *constant])
        parts.append(shown_columns.to_markdown(index=False, disable_numparse=True))
    if len(labelled):
        counts = ", ".join(f"`{name}` ({n})" for name, n in labelled["case"].nunique().items())
        parts.append(f"In the file alone, by label (number of configurations): {counts}.")
    return [*parts, "[other.csv](other.csv)"]


def _line(key: Key, rounds: Sequence[Sequence[float]], unit: str) -> dict[str, str]:
    case, metric, group, label = key
    estimate = _estimate(rounds)
    low, high = ends(estimate)
    text = str(int(estimate.value)) if estimate.value.is_integer() else f"{estimate.value:.6g}"
    return {
        "case": case.label, "metric": metric, "label": label, "value": text,
        "unit": unit, "n": str(estimate.n), "low": low, "high": high, "group": group,
        "batch": str(case.batch), "device": case.device, "precision": case.dtype,
        "input": case.motion,
    }  # fmt: skip


def _estimate(rounds: Sequence[Sequence[float]]) -> Estimate:
    """The median over rounds, or the mean of the values of a single one."""
    if len(rounds) > 1:
        return median_interval([median(values) for values in rounds])
    (values,) = rounds
    n, mean = len(values), fmean(values)
    if n < 2:
        return Estimate(value=mean, low=None, high=None, level=0.95, n=n)
    reach = float(stats.t.ppf(0.975, n - 1)) * stdev(values) / sqrt(n)
    return Estimate(value=mean, low=mean - reach, high=mean + reach, level=0.95, n=n)
