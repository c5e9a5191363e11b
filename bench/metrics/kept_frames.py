"""What Figures 7 and 10 of the paper show: the frames that are kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import h2ot_core
from bench.data.readers.motion import MotionError
from bench.data.windows import MotionSource, Window, batch
from bench.metrics.base import Metric, NotApplicable, Reading
from bench.models.build import SEED, measured_model
from bench.models.context import Context
from bench.models.supernet import Supernet
from bench.records.case import Case
from h2ot_core import HOSTS, PRUNERS, Hourglass
from h2ot_core.prune.base import AbstractPruner, Signals

WINDOWS = 140  # of Figure 7, each one frame after the one before
SEQUENCES = 3  # of Figure 10
EXCERPT = 18  # frames drawn of each sequence; with steps of 16 all would be kept ones

_BATCH = 2  # windows per forward pass: more are slower each, since they leave the cache
_STRIDE = 50  # frames between the places at which a stretch is looked for
# The choice of these pruners depends on weights.
_LEARNED = ("keys", "attention")


def selected_frames(case: Case, context: Context) -> list[Reading]:
    """The frames that the last stage keeps in windows shifted by one frame over one clip.

    The weights are the supernet's where there is one, else random, of the case's full size and the
    same for every case; nothing behind the last stage is run. Values are row after row, one row of
    kept frames per window.

    Raises:
        NotApplicable: without a pruner, or if no test clip is long enough.
    """
    stretch = _stretch(case.frames + WINDOWS - 1, context.motion)
    shifted = torch.from_numpy(stretch.input.copy()).unfold(0, case.frames, 1).movedim(-1, 1)
    index = chosen(case, shifted, context.supernet)
    protocol = {
        "windows": len(index),
        "keep": index.shape[1],
        "frames": case.frames,
        "clip": stretch.clip,
        "action": stretch.action,
        "camera": stretch.camera,
        "start": stretch.start,
        "description": context.motion.description,
        "trained": _trained(case, context.supernet),
    }
    values = tuple(index.flatten().tolist())
    return [Reading(metric="selected_frames", unit="frame", values=values, protocol=protocol)]


def skeletons(case: Case, context: Context) -> list[Reading]:
    """Detected 2D and true 3D poses of an excerpt of three sequences, and which are kept.

    The sequences are the liveliest windows of the three liveliest activities. The model's own
    3D poses are meaningless, since its weights are not trained.

    Raises:
        NotApplicable: without a pruner, or if there are not three activities to choose from.
    """
    windows = _lively(case.frames, context.motion)
    index = chosen(case, torch.from_numpy(batch(windows, h2ot_core.HOSTS[case.host].channels)))
    kept = torch.zeros(len(windows), case.frames, dtype=torch.int64).scatter_(1, index, 1)
    excerpt = np.linspace(0, case.frames - 1, min(EXCERPT, case.frames)).round().astype(int)
    protocol = {
        "sequences": [
            {"clip": w.clip, "action": w.action, "camera": w.camera, "start": w.start}
            for w in windows
        ],
        "frames": case.frames,
        "keep": index.shape[1],
        "excerpt": excerpt.tolist(),
        "description": context.motion.description,
        "trained": _trained(case),
    }

    def reading(metric: str, unit: str, values: Any) -> Reading:
        return Reading(
            metric=metric,
            unit=unit,
            values=tuple(values.flatten().tolist()),
            protocol={**protocol, "shape": list(values.shape)},
        )

    return [
        reading("skeletons_2d_px", "px", np.stack([w.detected_px[excerpt] for w in windows])),
        reading("skeletons_3d_m", "m", np.stack([w.target[excerpt] for w in windows])),
        reading("skeletons_kept", "1", kept.numpy()[:, excerpt]),
    ]


def chosen(case: Case, x: Tensor, supernet: Supernet | None = None) -> Tensor:
    """The frames that the last stage keeps of each window.

    Args:
        case: its device and dtype are not used: the choice is made on the CPU in float32.
        x: (B, F, J, C_in), normalised 2D poses.
        supernet: source of the weights; None means random ones.

    Returns:
        (B, r_M) int64, increasing in every row.

    Raises:
        NotApplicable: without a pruner.
    """
    if case.prune is None:
        raise NotApplicable("nothing is pruned")
    narrow: dict[str, Any] = {}
    if supernet is None and not learned(case):  # the input alone matters, at any stage
        small = {"width": 4, "heads": 1, "mlp_hidden": 4}
        narrow = {name: n for name, n in small.items() if name in HOSTS[case.host].sizes}
        narrow["b"] = range(len(case.b))
    here = replace(case, device="cpu", dtype="float32")
    model = measured_model(here, weights=supernet or "initial", **narrow)
    assert model.pruner is not None
    fixed = model.pruner.fixed()
    if fixed is not None:
        return torch.tensor([fixed[-1]]).expand(len(x), -1)
    model.pruner = _Last(model.pruner)
    return torch.cat([_first_part(model, part) for part in x.split(_BATCH)])


def learned(case: Case) -> bool:
    """Whether the frames that a case keeps depend on weights."""
    return case.prune is not None and PRUNERS[case.prune].requires in _LEARNED


def _trained(case: Case, supernet: Supernet | None = None) -> str:
    """The weights, for the protocol."""
    if supernet is not None:
        return f"trunk {supernet.digest}"
    if learned(case):
        return f"no: random weights, torch.manual_seed({SEED})"
    return "no weights needed"


class _Chosen(Exception):
    """Ends a forward pass; carries the frames kept, (B, r_M) or (1, r_M)."""

    def __init__(self, index: Tensor) -> None:
        super().__init__()
        self.index = index


class _Last(AbstractPruner):
    """A pruner whose last choice ends the forward pass."""

    def __init__(self, pruner: AbstractPruner) -> None:
        super().__init__(pruner.schedule, pruner.centre)
        self.pruner = pruner
        self.requires = pruner.requires  # type: ignore[misc]

    def select(self, signals: Signals, stage: int) -> Tensor:
        """Choose as the pruner does."""
        local = self.pruner.select(signals, stage)
        if stage == self.schedule.stages - 1:
            raise _Chosen(signals.index.expand(len(local), -1).gather(1, local))
        return local


def _first_part(model: Hourglass, x: Tensor) -> Tensor:
    """Run a model up to the last choice of its :class:`_Last` pruner."""
    try:
        with torch.inference_mode():
            model.run(x)
    except _Chosen as end:
        return end.index
    raise RuntimeError("the forward pass ended before the last stage")


def _stretch(frames: int, motion: MotionSource) -> Window:
    """The first such stretch of the test clip and camera that have room for most of them."""
    try:
        places = motion.windows(frames, stride=_STRIDE)
    except MotionError as error:
        raise NotApplicable(str(error)) from None
    room = Counter((place.clip, place.camera) for place in places)
    longest = room.most_common(1)[0][0]
    return next(place for place in places if (place.clip, place.camera) == longest)


def _lively(frames: int, motion: MotionSource) -> list[Window]:
    """The window with most motion of each of the activities with most motion."""
    try:
        windows = motion.windows(frames)
    except MotionError as error:
        raise NotApplicable(str(error)) from None
    windows.sort(key=lambda w: -float(np.abs(np.diff(w.target, axis=0)).mean()))
    first: dict[str, Window] = {}
    for window in windows:
        first.setdefault(window.action, window)
    if len(first) < SEQUENCES:
        raise NotApplicable(
            f"{motion.name} has windows of {frames} frames of {len(first)} activities in the test "
            f"split ({', '.join(first)}), and {SEQUENCES} are to be shown"
        )
    return list(first.values())[:SEQUENCES]


@dataclass(frozen=True)
class Figure:
    """A metric that only a figure needs, and the cases it is for."""

    metric: Metric
    cases: tuple[Case, ...]


FIGURES: dict[str, Figure] = {
    "7": Figure(
        Metric("selected frames", ("selected_frames",), selected_frames),
        tuple(
            Case(host="mixste", frames=243, prune=prune, recover="tra", r=(81,), b=(3,))
            for prune in ("tpc", "tpa", "tpmo", "tps")
        ),
    ),
    "10": Figure(
        Metric("skeletons", ("skeletons_2d_px", "skeletons_3d_m", "skeletons_kept"), skeletons),
        (Case(host="mixste", frames=243, prune="tps", recover="tri", r=(121, 81), b=(0, 3)),),
    ),
}
"""By the number of the paper's figure."""
