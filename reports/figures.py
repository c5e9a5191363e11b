"""The paper's Figures 7 and 10: which frames are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import cos, prod, radians, sin
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from bench.data.skeleton import PARENTS
from bench.paper import host_title
from bench.records.case import Case
from bench.records.record import Record
from reports.plots import save

Array = npt.NDArray[np.float64]
Groups = dict[str, dict[str, Record]]

_BLUE, _RED, _GREY, _BLACK = "#0072b2", "#d62728", "#a9a9a9", "#1a1a1a"
_PRUNERS = {"tpc": "TPC", "tpa": "TPA", "tpmo": "TPMo", "tps": "TPS"}  # in the paper's order
_PANELS = {p: f"({letter}) {_PRUNERS[p]}" for p, letter in zip(_PRUNERS, "abcd", strict=True)}
_POSES = ("skeletons_2d_px", "skeletons_3d_m", "skeletons_kept")
METRICS = ("selected_frames", *_POSES)


def draw_figures(records: Sequence[Record], folder: Path) -> list[tuple[str, str]]:
    """Draw the figures for which there are records, once per motion and schedule.

    Args:
        records: of any metric; of equal ones the last counts.
        folder: where the pictures are written; it exists.

    Returns:
        File name and caption of each picture, in order; empty without such records.
    """
    frames = _group(records, ("selected_frames",), lambda r: r.case.prune or "")
    poses = _group(records, _POSES, lambda r: r.metric)
    pictures = []
    with sns.axes_style("ticks"), sns.plotting_context("notebook", font_scale=0.9):
        complete = [readings for readings in poses.values() if len(readings) == len(_POSES)]
        for draw, stem, groups in (
            (_figure_7, "figure_7", list(frames.values())),
            (_figure_10, "figure_10", complete),
        ):
            for number, group in enumerate(groups, 1):
                name = f"{stem}.png" if number == 1 else f"{stem}_{number}.png"
                pictures.append(draw(group, folder, name))
    return pictures


def _group(
    records: Sequence[Record], metrics: Sequence[str], role: Callable[[Record], str]
) -> Groups:
    """The records of each picture, by their role in it."""
    groups: Groups = {}
    for record in records:
        if record.metric in metrics and record.status == "ok":
            case = record.case
            same = repr((case.motion, case.host, case.frames, case.r, case.b, case.options))
            groups.setdefault(same, {})[role(record)] = record
    return groups


def _setting(case: Case) -> str:
    """``MixSTE, F = 243, r = 81, b = 3``."""
    r, b = (", ".join(map(str, values)) for values in (case.r, case.b))
    if len(case.r) > 1:
        r, b = f"[{r}]", f"[{b}]"
    return f"{host_title(case.host)}, F = {case.frames}, r = {r}, b = {b}"


def _source(case: Case) -> str:
    """The motion's name in words."""
    kind, _, rest = case.motion.partition(":")
    if kind == "generated":
        return f"generated motion (seed {rest.partition(':')[0]})"
    return f"motion file {rest.rpartition(':')[0] or rest}"


def _spaced(action: str) -> str:
    return action.replace("_", " ")


# Figure 7


def _weights(trained: str) -> str:
    """The weights behind the choices, where they are a trained supernet's."""
    return f"; weights: {trained}" if trained.startswith("trunk") else ""


def _figure_7(panels: Mapping[str, Record], folder: Path, name: str) -> tuple[str, str]:
    order = [p for p in _PRUNERS if p in panels] + [p for p in panels if p not in _PRUNERS]
    figure, axes = plt.subplots(
        2, len(order), figsize=(3.9 * len(order) + 0.5, 6.4), squeeze=False, sharex=True,
        sharey="row", height_ratios=(1.5, 1), layout="constrained",
    )  # fmt: skip
    for place, prune in enumerate(order):
        top, bottom = axes[0, place], axes[1, place]
        _panel(top, bottom, _kept(panels[prune]))
        top.set_title(_PANELS.get(prune, prune), fontsize=14)
    axes[0, 0].set_ylabel("sample")
    axes[1, 0].set_ylabel("times kept (dashed: mean)")
    first = panels[order[0]]
    about = first.protocol
    figure.suptitle(
        f"{_setting(first.case)}; {about['windows']} windows of one clip, each shifted by one frame"
        f"\n{_source(first.case)}: {_spaced(about['action'])}, clip {about['clip']}, camera "
        f"{about['camera']}{_weights(about['trained'])}",
        fontsize=11.5,
    )
    random = [p for p in order if panels[p].protocol["trained"].startswith("no:")]
    names = " and ".join(_PRUNERS.get(p, p) for p in random)
    choices = "choices" if len(random) > 1 else "choice"
    are = "are those" if len(random) > 1 else "is that"
    remark = f"weights not trained: the {choices} of {names} {are} of random weights"
    if random:
        figure.supxlabel(remark, fontsize=11.5, color=_RED)
    save(figure, folder, name, dpi=200, facecolor="white")
    caption = (
        f"Figure 7 of the paper: frames that each pruner keeps (blue) in {about['windows']} "
        f"windows of {about['frames']}, each one frame after the one before, and how often each "
        f"position in the window is kept. {about['description']}"
    )
    return name, f"{caption} {remark[0].upper()}{remark[1:]}." if random else caption


def _kept(record: Record) -> npt.NDArray[np.bool_]:
    """Which frames are kept; (windows, frames)."""
    about = record.protocol
    rows = np.array(record.values, dtype=np.int64).reshape(about["windows"], about["keep"])
    kept = np.zeros((about["windows"], about["frames"]), dtype=np.bool_)
    kept[np.arange(len(rows))[:, None], rows] = True
    return kept


def _panel(top: Axes, bottom: Axes, kept: npt.NDArray[np.bool_]) -> None:
    windows, frames = kept.shape
    top.imshow(
        kept, cmap=ListedColormap(["white", _BLUE]), aspect="auto", interpolation="nearest",
        vmin=0, vmax=1, extent=(-0.5, frames - 0.5, windows - 0.5, -0.5),
    )  # fmt: skip
    bottom.bar(np.arange(frames), kept.sum(axis=0), width=1.0, color=_BLUE, linewidth=0)
    bottom.axhline(kept.sum() / frames, color=_BLACK, lw=0.9, ls=(0, (4, 3)))
    bottom.set(xlabel="frame index", ylim=(0, windows * 1.04), xlim=(-0.5, frames - 0.5))
    # Begin, middle and end, towards which a choice could be biased.
    bottom.set_xticks([0, (frames - 1) // 4, (frames - 1) // 2, 3 * (frames - 1) // 4, frames - 1])
    top.tick_params(labelbottom=False)


# Figure 10


def _figure_10(readings: Mapping[str, Record], folder: Path, name: str) -> tuple[str, str]:
    flat, deep, kept = (_shaped(readings[metric]) for metric in _POSES)
    first = readings[_POSES[0]]
    about, case = first.protocol, first.case
    sequences = about["sequences"]
    columns = len(about["excerpt"])
    figure, axes = plt.subplots(
        2 * len(sequences), 1, figsize=(columns + 1.6, 3.15 * len(sequences) + 1.2),
        squeeze=False, layout="constrained",
    )  # fmt: skip
    figure.get_layout_engine().set(h_pad=0.06, hspace=0.0)  # type: ignore[union-attr,call-arg]
    for i, sequence in enumerate(sequences):
        upper, lower = axes[2 * i, 0], axes[2 * i + 1, 0]
        red = kept[i] > 0
        _row(upper, _upright(flat[i]), [_RED if k else _GREY for k in red], 2.0)
        _row(lower, _turned(deep[i]), [_BLACK] * columns, 1.6)
        for place in np.flatnonzero(red):
            lower.add_patch(_box(int(place)))
        upper.set_ylabel("2D", rotation=0, ha="right", va="center", labelpad=8)
        lower.set_ylabel("3D", rotation=0, ha="right", va="center", labelpad=8)
        upper.set_title(
            f"{_spaced(sequence['action'])}  (clip {sequence['clip']}, camera "
            f"{sequence['camera']}, from frame {sequence['start']})",
            loc="left", fontsize=12,
        )  # fmt: skip
        lower.set_xticks(range(columns), [str(frame) for frame in about["excerpt"]], fontsize=9)
        for label, is_kept in zip(lower.get_xticklabels(), red, strict=True):
            label.set_color(_RED if is_kept else "0.45")
    axes[-1, 0].set_xlabel("frame of the window")
    strategies = " + ".join(p.upper() for p in (case.prune, case.recover) if p)
    truth = "3D: ground truth (the weights are not trained)"
    figure.suptitle(
        f"{_setting(case)}, {strategies}: {about['keep']} of {about['frames']} frames are kept; "
        f"{columns} evenly spread ones are shown\n{_source(case)}",
        fontsize=12,
    )
    marks = [
        Line2D([], [], color=_RED, lw=2.2, label="2D of a kept frame (detected)"),
        Line2D([], [], color=_GREY, lw=2.2, label="2D of a pruned frame (detected)"),
        Line2D([], [], color=_BLACK, lw=2.2, label=truth),
        Rectangle((0, 0), 1, 1, fill=False, edgecolor=_RED, lw=1.6, label="kept frame"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=4, frameon=False, fontsize=11)
    save(figure, folder, name, dpi=130, facecolor="white")
    return (
        name,
        f"Figure 10 of the paper: frames kept in {len(sequences)} sequences. 2D poses of kept "
        f"frames are red, of pruned ones grey; {truth}, seen from {_TURN}° beside the camera, kept "
        f"frames boxed in red. {about['description']}",
    )


_CELL = 1.45  # height of a skeleton's cell over its width
_FILL = 0.84  # share of the cell
_TURN, _TILT = 35, 10  # degrees, so that depth shows


def _shaped(record: Record) -> Array:
    shape = tuple(record.protocol["shape"])
    if prod(shape) != len(record.values):
        raise ValueError(f"{record.metric} of {record.case.label}: not of shape {shape}")
    return np.array(record.values, dtype=np.float64).reshape(shape)


def _upright(poses: Array) -> Array:
    """Image coordinates (F, J, 2), whose y points down, for drawing."""
    return poses * np.array([1.0, -1.0])


def _turned(poses: Array) -> Array:
    """Camera coordinates (F, J, 3) as seen from beside and above the camera; (F, J, 2)."""
    x, down, depth = np.moveaxis(poses, -1, 0)
    across = cos(radians(_TURN)) * x + sin(radians(_TURN)) * depth
    away = cos(radians(_TURN)) * depth - sin(radians(_TURN)) * x
    up = sin(radians(_TILT)) * away - cos(radians(_TILT)) * down
    return np.stack([across, up], axis=-1)


def _row(axis: Axes, poses: Array, colours: Sequence[str], width: float) -> None:
    """Draw skeletons (F, J, 2) side by side at one scale, each in the middle of its cell."""
    low, high = poses.min(axis=1), poses.max(axis=1)
    size = (high - low).max(axis=0)
    scale = _FILL * min(1.0 / max(size[0], 1e-9), _CELL / max(size[1], 1e-9))
    middle = (low + high) / 2
    bones = [(child, parent) for child, parent in enumerate(PARENTS) if parent >= 0]
    for place, pose in enumerate((poses - middle[:, None]) * scale):
        points = pose + np.array([place, 0.0])
        lines: list[Any] = [points[list(bone)] for bone in bones]
        axis.add_collection(
            LineCollection(lines, colors=colours[place], linewidths=width, capstyle="round")
        )
    axis.set(
        xlim=(-0.55, len(poses) - 0.45), ylim=(-_CELL / 2 - 0.02, _CELL / 2 + 0.02),
        aspect="equal", xticks=[], yticks=[],
    )  # fmt: skip
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _box(place: int) -> Rectangle:
    return Rectangle(
        (place - 0.46, -_CELL / 2), 0.92, _CELL, fill=False, edgecolor=_RED, linewidth=1.5
    )
