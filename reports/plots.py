"""The report's pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.paper import host_title, rows
from bench.records.case import Case
from reports.markdown import GIB
from reports.results import Results

_NAMES = {"none": "no pruning", "TPC+TRA": "TPC + TRA (HoT)", "TPS+TRI": "TPS + TRI (H2OT)"}
# Colours that people with any colour vision can tell apart; the two published methods stand out.
_COLOURS = {
    "no pruning": "#222222",
    "TPC + TRA (HoT)": "#d55e00",
    "TPA + TRA": "#cc79a7",
    "TPMo + TRA": "#009e73",
    "TPS + TRA": "#e6a817",
    "TPS + TRI (H2OT)": "#0072b2",
    "TPC": "#f4a582",
    "TPS": "#92c5de",
}


def draw(results: Mapping[Case, Results], folder: Path, title: str) -> list[tuple[str, str]]:
    """Draw the plots for which there are results.

    Returns:
        File name and caption of each picture, in order.
    """
    sns.set_theme(context="notebook", style="whitegrid", font_scale=0.95)
    plt.rcParams["figure.dpi"] = 120
    table = _frame(results)
    pictures = []
    if "clips_per_s" in table:
        table = table[table["clips_per_s"].notna()].copy()
        if "flops_full" in table:
            pictures.append(_flops_and_speed(table, folder, title))
        if table["speedup"].notna().sum() > 1:
            pictures.append(_speedups(results, folder, title))
        if "prune_recover_ratio" in table and (table["prune_recover_ratio"] > 0).any():
            pictures.append(_ratios(table, folder, title))
    return pictures


def _frame(results: Mapping[Case, Results]) -> pd.DataFrame:
    """One line per case, one column per metric."""
    return pd.DataFrame(
        {
            "label": case.label,
            "model": host_title(case.host),
            "strategies": strategies_of(case),
            "frames": case.frames,
            "batch": case.batch,
            "speedup": result.speedup,
            **result.values,
        }
        for case, result in results.items()
    )


def strategies_of(case: Case) -> str:
    """The strategies of a case, for a legend."""
    name = "+".join(filter(None, (case.prune, case.recover))).upper() or "none"
    return _NAMES.get(name, name.replace("TPMO", "TPMo").replace("+", " + "))


def palette(names: pd.Series) -> dict[str, str]:
    """Strategy to colour, in the order of the legend."""
    others = [name for name in dict.fromkeys(names) if name not in _COLOURS]
    spare = sns.color_palette("husl", len(others)).as_hex()
    every = {**_COLOURS, **dict(zip(others, spare, strict=True))}
    return {name: colour for name, colour in every.items() if name in set(names)}


def save(figure: Figure, folder: Path, name: str, **more: Any) -> None:
    """Write a picture and close it."""
    figure.savefig(folder / name, bbox_inches="tight", **more)
    plt.close(figure)


def log_axis(axis: Axis) -> None:
    """Plain numbers at 1, 2 and 5 times the powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_formatter(NullFormatter())


def side_legend(axis: Axes, **more: Any) -> None:
    """A legend on the right of an axis."""
    axis.legend(title=None, fontsize="small", bbox_to_anchor=(1.01, 1), loc="upper left", **more)


def _flops_and_speed(table: pd.DataFrame, folder: Path, title: str) -> tuple[str, str]:
    data = table.assign(gflops=table["flops_full"] / 1e9)
    figure, axis = plt.subplots(figsize=(8.5, 5.6))
    colours = palette(data["strategies"])
    sns.scatterplot(
        data=data, x="gflops", y="clips_per_s", hue="strategies", hue_order=list(colours),
        palette=colours, style="model", s=85, ax=axis,
    )  # fmt: skip
    axis.set(xscale="log", yscale="log")
    for model, points in data.groupby("model"):
        base = points[
            (points["strategies"] == _NAMES["none"]) & (points["frames"] == points["frames"].max())
        ]
        if len(base) and len(points) > 1:
            work = float(base["gflops"].iloc[0] * base["clips_per_s"].iloc[0])
            ends = [points["gflops"].min() * 0.9, points["gflops"].max() * 1.1]
            axis.plot(ends, [work / g for g in ends], ls="--", lw=1, color="0.55", zorder=0)
            axis.annotate(str(model), (ends[0], work / ends[0]), fontsize="small", color="0.35",
                          ha="left", va="bottom", xytext=(6, 2),
                          textcoords="offset points")  # fmt: skip
    axis.set(xlabel="flops_full per clip (G)", ylabel="clips per second", title=title)
    log_axis(axis.xaxis)
    log_axis(axis.yaxis)
    side_legend(axis)
    save(figure, folder, "flops_speed.png")
    return (
        "flops_speed.png",
        "Speed against FLOPs (flops_full). On a host's dashed line a configuration does as many "
        "FLOPs per second as that host without pruning.",
    )


_BAR = ("low", "high")


def _speedups(results: Mapping[Case, Results], folder: Path, title: str) -> tuple[str, str]:
    lines: list[tuple[Any, ...]] = []
    for case, result in results.items():
        base = results.get(case.baseline)
        if result.speed is None or base is None or case == case.baseline:
            continue
        if "flops_full" in base.values and "flops_full" in result.values:
            implied = base.values["flops_full"] / result.values["flops_full"]
            speed, source = result.speed, f"{host_title(case.host)}, here"
            lines.append((implied, speed.value, strategies_of(case), source, speed.low, speed.high))
    first, *others = rows(4)
    for row in others:
        implied = (first.value("flops_g") or 0) / (row.value("flops_g") or 1)
        gained = (row.value("fps_per_frame") or 0) / (first.value("fps_per_frame") or 1)
        printed_case = row.case()
        if printed_case is not None:
            source = "MixSTE, paper's Table 4 (RTX 3090)"
            lines.append((implied, gained, strategies_of(printed_case), source, None, None))
    data = pd.DataFrame(lines, columns=["implied", "gained", "strategies", "source", *_BAR])
    data = data.drop_duplicates().astype(dict.fromkeys(_BAR, float))
    figure, axis = plt.subplots(figsize=(8.5, 5.6))
    sns.scatterplot(
        data=data, x="implied", y="gained", hue="strategies", style="source", s=85,
        hue_order=list(palette(data["strategies"])), palette=palette(data["strategies"]),
        ax=axis,
    )  # fmt: skip
    bars = data.dropna(subset=list(_BAR))
    if len(bars):
        reach = [bars["gained"] - bars["low"], bars["high"] - bars["gained"]]
        axis.errorbar(bars["implied"], bars["gained"], yerr=[r.clip(lower=0) for r in reach],
                      fmt="none", ecolor="0.35", elinewidth=1, capsize=2.5, zorder=1)  # fmt: skip
    high = float(data[["implied", "gained", "high"]].max().max()) * 1.04
    axis.plot([1, high], [1, high], ls="--", lw=1.2, color="0.45")
    axis.set(
        xlabel="speed-up that the FLOPs imply", ylabel="speed-up measured", title=title,
        xlim=(1, high), ylim=(0.95, high),
    )  # fmt: skip
    side_legend(axis)
    save(figure, folder, "speedup.png")
    return (
        "speedup.png",
        "Measured against FLOPs-implied speed-up over the unpruned host. On the dashed line every "
        "saved FLOP saves its time. Bars are 95% intervals of the ratio. The paper's points are of "
        "another machine and in the paper's FLOPs convention; ours in flops_full.",
    )


def _ratios(table: pd.DataFrame, folder: Path, title: str) -> tuple[str, str]:
    data = table[table["prune_recover_ratio"] > 0].sort_values("prune_recover_ratio")
    labels = [
        " ".join([f"{strategies} ", model, *(p for p in label.split("-")[1:] if _tells(p))])
        for strategies, model, label in data[["strategies", "model", "label"]].to_numpy()
    ]
    figure, axis = plt.subplots(figsize=(8.5, 1.2 + 0.3 * len(data)))
    prune, recover = 100 * data["prune_share"], 100 * data["recover_share"]
    colours = sns.color_palette("colorblind")
    axis.barh(labels, prune, color=colours[0], label="pruning")
    axis.barh(labels, recover, left=prune, color=colours[1], label="recovering")
    for place, total in enumerate(prune + recover):
        axis.text(total, place, f" {total:.2f}%", va="center", fontsize="small")
    axis.set(xlabel="share of the forward pass (%)", title=title)
    axis.margins(x=0.12)
    axis.grid(axis="y", visible=False)
    axis.legend(loc="lower right")
    save(figure, folder, "ratio.png")
    return "ratio.png", "Share of inference time spent on pruning and on recovering."


def _tells(part: str) -> bool:
    """Whether a part of a case's label differs between the bars: r, b or seq2frame."""
    return part[0] in "rb" or part == "seq2frame"


def draw_batches(results: Mapping[Case, Results], folder: Path, title: str) -> tuple[str, str]:
    """Speed and memory against clips per forward pass; for cases at several batch sizes."""
    table = _frame(results)
    table["scheme"] = table["model"] + ", " + table["strategies"]
    memory = [
        name
        for name in ("inference_allocated_peak_bytes", "inference_process_peak_bytes")
        if name in table
    ][:1]
    figure, axes = plt.subplots(1, 1 + len(memory), figsize=(5.5 * (1 + len(memory)), 4.6))
    axes = list(axes) if memory else [axes]
    sns.lineplot(data=table, x="batch", y="clips_per_s", hue="scheme", marker="o", ax=axes[0])
    axes[0].set(xscale="log", yscale="log", xlabel="clips per forward pass",
                ylabel="clips per second", title=title)  # fmt: skip
    if memory:
        table["GiB"] = table[memory[0]] / GIB
        sns.lineplot(data=table, x="batch", y="GiB", hue="scheme", marker="o", ax=axes[1],
                     legend=False)  # fmt: skip
        kind = "allocated" if "allocated" in memory[0] else "process"
        axes[1].set(xscale="log", yscale="log", xlabel="clips per forward pass",
                    ylabel=f"peak memory, {kind} (GiB)")  # fmt: skip
    sizes = sorted(set(table["batch"]))
    for axis in axes:
        axis.set_xticks(sizes, [str(n) for n in sizes])
        axis.xaxis.set_minor_formatter(NullFormatter())
    axes[0].legend(title=None, fontsize="x-small")
    save(figure, folder, "batch_size.png")
    return "batch_size.png", "Speed and inference memory against clips per forward pass."
