"""The accuracy sections: the error of one trained supernet under each configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from bench.paper import PaperRow, about, frame_rates, rows, tables_of
from bench.records.case import Case
from bench.records.record import Record
from bench.records.units import giga, rounded
from reports.markdown import picture, with_csv
from reports.paired import difference, ordering
from reports.plots import palette, save, side_legend, strategies_of
from reports.results import Results, collect

ERROR, VELOCITY, NOISE = "trunk_mpjpe_mm", "trunk_mpjve_mm", "trunk_frame_noise_px"
MEAN_POSE = "mean_pose_mpjpe_mm"
SCRATCH = "scratch_mpjpe_mm"
METRICS = (ERROR, VELOCITY, NOISE, MEAN_POSE, SCRATCH)
_SIZES = ("depth", "heads", "mlp_hidden", "width")


@dataclass(frozen=True)
class Accuracy:
    """Results of one accuracy session.

    Attributes:
        records: by plain configuration (without the supernet's sizes) and metric.
        results: counts and speed of the supernet's own configurations, by plain configuration.
        rates: Table 9's records by downsampling step, then "none" or "h2ot".
        about: protocol of the records of the tables.
        sizes: of the supernet.
    """

    records: Mapping[tuple[Case, str], Record]
    results: Mapping[Case, Results]
    rates: Mapping[int, Mapping[str, Record]]
    about: Mapping[str, Any]
    sizes: Mapping[str, Any]

    def values(self, case: Case | None, metric: str = ERROR) -> tuple[float, ...] | None:
        """Values per view of a configuration of the paper."""
        record = self.records.get((case, metric)) if case is not None else None
        return record.values if record is not None else None

    @property
    def name(self) -> str:
        """Data and weights in a few words, for the heading of a column."""
        return (
            f"{self.about['dataset']}, supernet of width {self.sizes['width']} trained for "
            f"{self.about['steps']} steps"
        )


def divide(records: Iterable[Record]) -> tuple[list[Record], list[Record]]:
    """Records that belong to an accuracy session, and all others."""
    records = list(records)
    trained = {r.case for r in records if r.metric in (ERROR, NOISE, VELOCITY)}

    def belongs(r: Record) -> bool:
        if r.metric == "selected_frames":
            return False  # Figure 7 of the supernet stays with the figures
        return r.case in trained or r.metric in (MEAN_POSE, SCRATCH)

    return [r for r in records if belongs(r)], [r for r in records if not belongs(r)]


def collect_accuracy(records: Sequence[Record]) -> Accuracy | None:
    """The latest weights' session with most views; None without one."""
    errors = [r for r in records if r.metric == ERROR and r.status == "ok"]
    main = [r for r in errors if "@" not in r.case.motion]
    if not main:
        return None
    weights = main[-1].protocol["weights"]
    same = [r for r in main if r.protocol["weights"] == weights]
    best = max(same, key=lambda r: len(r.values))
    group, motion = best.group, best.case.motion
    sizes = {item for item in best.case.options if item[0] in _SIZES}
    chosen = [
        r for r in records if r.group == group and r.case.motion == motion and r.status == "ok"
    ]
    about = {**best.protocol, "dataset": _dataset(motion)}
    # The store may also have full-size hosts, trained from scratch on the same motion.
    own = [r for r in records if r.case.motion == motion and sizes <= set(r.case.options)]
    rates: dict[int, dict[str, Record]] = {}
    for r in errors:
        if "@" in r.case.motion and r.protocol["weights"] == weights:
            rates.setdefault(r.protocol["step"], {})["h2ot" if r.case.prune else "none"] = r
    return Accuracy(
        {(_plain(r.case), r.metric): r for r in chosen},
        {_plain(case): result for case, result in collect(own).items()},
        dict(sorted(rates.items())),
        about,
        dict(sorted(sizes)),
    )


def _plain(case: Case) -> Case:
    """The configuration as the paper's tables name it."""
    options = tuple(item for item in case.options if item[0] not in _SIZES)
    return Case(
        host=case.host, frames=case.frames, prune=case.prune, recover=case.recover,
        r=case.r, b=case.b, pipeline=case.pipeline, options=options,
    )  # fmt: skip


def _dataset(motion: str) -> str:
    kind, _, rest = motion.partition(":")
    return f"generated motion (seed {rest})" if kind == "generated" else rest.rpartition(":")[0]


def sections(records: Sequence[Record], folder: Path) -> list[str]:
    """All sections on accuracy; writes their files into the folder."""
    session = collect_accuracy(records)
    parts = []
    if session is not None:
        parts += ["## Accuracy of one supernet under every schedule", _about(session, records)]
        parts += [text for text in [unlearned(session)] if text]
        for number in tables_of("mixste", "seq2seq"):
            parts += _table(number, session, folder)
        parts += _rates(session, folder)
        table, _ = with_csv(by_action(session), folder, "accuracy_actions.csv")
        parts.append(f"### Accuracy: by action\n\n{table}")
        parts.append(picture(*_plot(session, folder)))
    return parts + _scratch(records, folder)


def _about(session: Accuracy, records: Sequence[Record]) -> str:
    about = session.about
    clips = len(set(about["clips"]))
    mean = [r for r in records if r.metric == MEAN_POSE and r.status == "ok"]
    sizes = ", ".join(f"{name} {value}" for name, value in session.sizes.items())
    facts = {
        "Data": about["description"],
        "2D joints": about["detector"],
        "Weights": f"one supernet ({sizes}; file sha256 {about['weights']}), trained for "
        f"{about['steps']} steps on {about['learned_from']}, seed {about['seed']}; every row is a "
        f"subnet of it, none is trained by itself",
        "Views": f"{about['views']} views of {about['frames']} frames from {clips} clips of the "
        f"test split, each frame counted once; flip averaged, predicted root zeroed",
    }
    if mean:
        value = rounded(fmean(mean[-1].values), 1)
        facts["Mean pose"] = (
            f"always predicting the training set's mean pose has an error of {value} mm"
        )
    lines = "\n".join(f"- {name}: {text}" for name, text in facts.items())
    return (
        f"{lines}\n\nThe errors are of this data, these weights and a modelled detector; the "
        "paper's are of Human3.6M, CPN and full-size models trained row by row. The values are not "
        "compared with the paper's; only the order of the rows is. Differences are computed view "
        "by view, with 95% bootstrap intervals over source clips; *detectable* is the smallest "
        "true difference that this sample would detect in 4 of 5 cases at 5%. For the order, "
        "intervals hold for all pairs of a table at once."
    )


_UNLEARNED = 1.5
"""Least ratio of HoT's error to the baseline's at which the report calls TRA not learned."""


def unlearned(session: Accuracy) -> str:
    """A warning where TRA is not learned in the supernet; empty otherwise."""
    hot, plain = session.values(MAIN["HoT"]), session.values(MAIN["no pruning"])
    if not hot or not plain or fmean(hot) < _UNLEARNED * fmean(plain):
        return ""
    times = rounded(fmean(hot) / fmean(plain), 1)
    return (
        f"**TRA is not learned in these weights.** HoT's error is {times} times the baseline's: "
        "under this budget the cross attention of TRA has not learned to distinguish frames. "
        "Differences between rows with TRA are due to this training, not to TRA, TPC, TPA or TPMo; "
        "only rows without pruning and rows with TRI can be compared with one another."
    )


def _table(number: int, session: Accuracy, folder: Path) -> list[str]:
    printed = rows(number)
    base = session.values(MAIN["no pruning"]) or session.values(printed[0].case())
    lines = []
    by_case: dict[Case, tuple[float, tuple[float, ...]]] = {}
    for row in printed:
        case = row.case()
        values = session.values(case)
        if case is not None and values is not None and base is not None:
            by_case.setdefault(case, (float(row.cells["mpjpe_mm"]), values))
            lines.append(_line(row, case, values, base, session))
    if not lines:
        return []
    order = ordering(
        [paper for paper, _ in by_case.values()],
        [values for _, values in by_case.values()],
        session.about["clips"],
    )
    sentence = (
        f"Of the {order.holds + order.reversed + order.open} pairs of configurations that the "
        f"paper's Table {number} orders, {order.holds} have the same order here, "
        f"{order.reversed} the opposite one and {order.open} cannot be distinguished: the paper's "
        f"ordering **{order.verdict}**."
    )
    table, link = with_csv(pd.DataFrame(lines), folder, f"accuracy_table_{number}.csv")
    title = f"### Accuracy: {about(number)['title']} (Table {number})"
    return [title, table, sentence, link]


def _line(
    row: PaperRow, case: Case, values: Sequence[float], base: Sequence[float], session: Accuracy
) -> dict[str, str]:
    gap = difference(values, base, session.about["clips"])
    result = session.results.get(case)
    has = result.values if result is not None else {}
    same = values is base
    return {
        "row": str(row.number),
        "pruning + recovering": strategies_of(case),
        "F": str(case.frames),
        "r": ", ".join(map(str, case.r)) or "–",
        "b": ", ".join(map(str, case.b)) or "–",
        "flops_full (G)": giga(has["flops_full"], 2) if "flops_full" in has else "not measured",
        "clips/s": rounded(has["clips_per_s"], 1) if "clips_per_s" in has else "not measured",
        "MPJPE (mm)": rounded(fmean(values), 2),
        "to the baseline (mm) [95%]": "–" if same else str(gap),
        "detectable (mm)": "–" if same else rounded(gap.detectable, 2),
        "MPJVE (mm/frame)": _mean(session.values(case, VELOCITY)),
        "FN (px)": _mean(session.values(case, NOISE)),
        "paper, Human3.6M (mm)": row.cells["mpjpe_mm"],
    }


def _mean(values: Sequence[float] | None, digits: int = 2) -> str:
    return rounded(fmean(values), digits) if values else "not measured"


def _rates(session: Accuracy, folder: Path) -> list[str]:
    """Table 9: the same segments of motion at four frame rates."""
    complete = {d: pair for d, pair in session.rates.items() if len(pair) == 2}
    if not complete:
        return []
    printed = frame_rates()
    lines = []
    for step, pair in complete.items():
        none, pruned = pair["none"], pair["h2ot"]
        gap = difference(pruned.values, none.values, none.protocol["clips"])
        paper = printed.get(rounded(50 / step, 1))
        lines.append(
            {
                "frame rate (Hz)": rounded(50 / step, 1),
                "no pruning (mm)": rounded(fmean(none.values), 2),
                "H2OT (mm)": rounded(fmean(pruned.values), 2),
                "difference (mm) [95%]": str(gap),
                "detectable (mm)": rounded(gap.detectable, 2),
                "paper, Human3.6M, retrained (mm)": " / ".join(paper) if paper else "–",
            }
        )
    first = next(iter(complete.values()))["none"]
    return [
        "### Accuracy: frame rates (Table 9)",
        f"{first.protocol['description']} {len(first.values)} views of the test split, the same "
        "segments at each rate; one supernet, not retrained for a rate.",
        *with_csv(pd.DataFrame(lines), folder, "accuracy_table_9.csv"),
    ]


MAIN = {
    "no pruning": Case(host="mixste", frames=243),
    "HoT": Case(host="mixste", frames=243, prune="tpc", recover="tra", r=(81,), b=(3,)),
    "H2OT": Case(host="mixste", frames=243, prune="tps", recover="tri", r=(121, 81), b=(0, 3)),
}


def by_action(session: Accuracy) -> pd.DataFrame:
    """MPJPE in millimetres of the main configurations, one line per action."""
    actions = session.about["actions"]
    lines = []
    for action in [*dict.fromkeys(actions), "all"]:
        chosen = [i for i, a in enumerate(actions) if action in (a, "all")]
        line = {"action": action.replace("_", " "), "views": str(len(chosen))}
        for name, case in MAIN.items():
            values = session.values(case)
            line[f"{name} (mm)"] = _mean([values[i] for i in chosen] if values else None, 1)
        lines.append(line)
    return pd.DataFrame(lines)


def _plot(session: Accuracy, folder: Path) -> tuple[str, str]:
    lines = []
    for (case, metric), record in session.records.items():
        result = session.results.get(case)
        if metric != ERROR or result is None:
            continue
        lines.append(
            {
                "strategies": strategies_of(case),
                "MPJPE": fmean(record.values),
                "flops": result.values.get("flops_full", float("nan")) / 1e9,
                "speed": result.values.get("clips_per_s", float("nan")),
                "frames": f"F = {case.frames}",
            }
        )
    data = pd.DataFrame(lines)
    timed = bool(data["speed"].notna().any())
    figure, axes = plt.subplots(
        1, 1 + timed, figsize=(5.2 * (1 + timed) + 1.2, 4.8), squeeze=False, sharey=True,
        layout="constrained",
    )  # fmt: skip
    colours = palette(data["strategies"])
    panels = [("flops", "flops_full per clip (G)"), ("speed", "clips per second")]
    for axis, (x, label) in zip(axes[0], panels, strict=False):
        sns.scatterplot(
            data=data, x=x, y="MPJPE", hue="strategies", hue_order=list(colours), palette=colours,
            style="frames", s=80, ax=axis, legend=axis is axes[0][-1],
        )  # fmt: skip
        axis.set(xlabel=label, ylabel="MPJPE (mm)")
    side_legend(axes[0][-1])
    figure.suptitle(session.name, fontsize=11)
    save(figure, folder, "accuracy.png")
    return (
        "accuracy.png",
        f"Error against FLOPs and against measured speed of the supernet's own configurations "
        f"({session.name}); not comparable with the paper's errors on Human3.6M.",
    )


def _scratch(records: Sequence[Record], folder: Path) -> list[str]:
    """Full-size hosts trained from scratch."""
    own = [r for r in records if r.metric == SCRATCH and r.status == "ok"]
    if not own:
        return []
    group = own[-1].group
    own = [r for r in own if r.group == group]
    lines = []
    for case in dict.fromkeys(r.case for r in own):
        mine = {r.part: r for r in own if r.case == case}
        bases = {r.part: r for r in own if r.case == case.baseline}
        both = sorted(set(mine) & set(bases))
        line = {
            "configuration": f"{case.host} {strategies_of(case)}",
            "seeds": str(len(mine)),
            "MPJPE (mm), per seed": ", ".join(rounded(fmean(r.values), 1) for r in mine.values()),
        }
        if both and case != case.baseline:
            ours = [v for s in both for v in mine[s].values]
            base = [v for s in both for v in bases[s].values]
            clips = [c for s in both for c in mine[s].protocol["clips"]]
            gap = difference(ours, base, clips)
            line["to the baseline (mm) [95%]"] = str(gap)
            line["detectable (mm)"] = rounded(gap.detectable, 2)
        lines.append(line)
    about, where = own[-1].protocol, own[-1].environment
    machine = where.get("gpu") or where.get("cpu", "")
    return [
        "## Full-size hosts trained from scratch",
        f"{about['description']} Budget of every row: {about['budget']}; {machine}. "
        f"{about['views']} views of the test split, flip averaged, predicted root zeroed. "
        "Intervals are over clips and do not include the spread between seeds.",
        *with_csv(pd.DataFrame(lines).fillna("–"), folder, "accuracy_scratch.csv"),
    ]


def fill(session: Accuracy | None, column: str, case: Case | None) -> str:
    """Text for a cell of the paper's tables; empty without a value."""
    metric = {"mpjpe_mm": ERROR, "frame_noise": NOISE}.get(column)
    if session is None or metric is None or case is None:
        return ""
    values = session.values(case, metric)
    return "" if values is None else _mean(values)
