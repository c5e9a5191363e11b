"""The calibration of the regression gate as a table and a power curve."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

from bench.gate.trials import Calibration, Trial
from bench.records.errors import UsageError
from bench.records.units import rounded
from bench.timing.statistics import proportion_bounds
from reports.markdown import pipe_table

Setting = tuple[str, float | None, float]


def write(calibration: Calibration, out: Path) -> str:
    """Write ``gate_calibration.md`` and its power curve into a folder.

    Returns:
        The report as markdown.

    Raises:
        UsageError: if the folder cannot be written.
    """
    picture = out / "gate_power.png"
    report = _text(calibration, picture.name)
    try:
        out.mkdir(parents=True, exist_ok=True)
        draw_power([*calibration.simulated, *calibration.real], picture)
        (out / "gate_calibration.md").write_text(report, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write the report to {out}: {error.strerror}") from None
    return report


def _text(calibration: Calibration, picture: str) -> str:
    rules, environment = calibration.rules, calibration.environment
    lines = [
        "# Calibration of the regression gate",
        "",
        "Written by `python -m bench calibrate-gate`. How often the gate ends with exit status 1 "
        "(regressed) or 3 (inconclusive), with 95% Clopper-Pearson bounds. Without a slowdown, "
        "1 is a false alarm.",
        "",
        f"Rules: chance of a false alarm per suite {rules.suite_alarm:.1%} nominal, noise band "
        f"{rules.band:.1%}, resolution {rules.resolution:.0%}, at least {rules.processes} "
        f"processes per side.",
        "",
        f"![power curve]({picture})",
        "",
        "## Simulated",
        "",
        "Four cases, ten pairs of processes (unless --pairs is set) with eight rounds; noise of 2% "
        "between rounds, correlated by 0.3, 3% of them disturbed by up to half, and a machine that "
        "slows down by 10% over the run. The spread is the standard deviation between processes of "
        "one program. A slowdown applies to all cases, as an injection into every forward pass "
        "does, or to one case alone.",
        "",
        _table(calibration.simulated),
        "",
        "## Real",
        "",
    ]
    if calibration.real:
        facts = ", ".join(
            str(environment[name]) for name in ("cpu", "gpu", "system") if environment.get(name)
        )
        versions = ", ".join(f"{n} {environment[n]}" for n in ("python", "torch", "cores"))
        lines += [
            f"One commit against itself on {facts}; {versions}; commit "
            f"{environment.get('commit', 'unknown')}. A slowdown is a busy wait after every "
            f"forward pass of the head.",
            "",
            _table(calibration.real),
        ]
    else:
        lines.append("No real runs yet: `python -m bench calibrate-gate --real 12`.")
    return "\n".join(lines) + "\n"


_HEADINGS = (
    "spread", "slowdown", "of", "suites", "regressed", "95% bounds", "inconclusive", "95% bounds",
    "widest interval (median)",
)  # fmt: skip


def _table(trials: Iterable[Trial]) -> str:
    rows = []
    for (kind, spread, slowdown), group in _grouped(trials).items():
        n = len(group)
        cells = [
            "measured" if spread is None else f"{spread:.1%}",
            f"{slowdown:.0%}" if slowdown else "none (A/A)",
            {"real": "all cases"}.get(kind, kind) if slowdown else "–",
            str(n),
        ]
        for status in (1, 3):
            hits = sum(trial.status == status for trial in group)
            low, high = proportion_bounds(hits, n)
            cells += [f"{hits} ({_percent(hits / n)})", f"{_percent(low)} to {_percent(high)}"]
        width = median(trial.half_width for trial in group)
        cells.append(f"± {_percent(width)}" if math.isfinite(width) else "none")
        rows.append(cells)
    return pipe_table(_HEADINGS, rows)


def _percent(share: float) -> str:
    return f"{rounded(100 * share, 1)}%"


def _grouped(trials: Iterable[Trial]) -> dict[Setting, list[Trial]]:
    groups: dict[Setting, list[Trial]] = defaultdict(list)
    for trial in trials:
        groups[trial.kind, trial.spread, trial.slowdown].append(trial)
    return dict(groups)


def draw_power(trials: Sequence[Trial], path: Path) -> None:
    """Draw the share of suites in which a slowdown is detected, by its size, with 95% bounds.

    Raises:
        OSError: if the file cannot be written.
    """
    curves: dict[str, dict[float, list[Trial]]] = defaultdict(dict)
    for (kind, spread, slowdown), group in _grouped(trials).items():
        name = "real" if spread is None else f"spread {spread:.1%}, {kind}"
        curves[name][slowdown] = group
        if kind == "all cases" and not slowdown:  # no slowdown is the start of both curves
            curves[f"spread {spread:.1%}, one case"][slowdown] = group
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        x, y, below, above = [], [], [], []
        for slowdown, group in sorted(points.items()):
            hits = sum(trial.status == 1 for trial in group)
            low, high = proportion_bounds(hits, len(group))
            x.append(100 * slowdown)
            y.append(100 * hits / len(group))
            below.append(max(y[-1] - 100 * low, 0))
            above.append(max(100 * high - y[-1], 0))
        style = "-" if name.endswith("all cases") else "--" if name.endswith("one case") else "-k"
        width = 2.0 if name == "real" else 1.2
        axes.errorbar(
            x, y, yerr=(below, above), fmt=style, marker="o", ms=3, lw=width, capsize=2, label=name
        )
    axes.set(xlabel="slowdown (%)", ylabel="suites called regressed (%)", ylim=(-2, 102))
    axes.axhline(95, color="0.7", lw=0.8, ls=":")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120, metadata={"Software": None})
