"""Lift every sequence of a data set and measure the errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.data.sequences import DataError, DataSet, MotionSequence, Split, downsampled
from bench.evaluation.protocol import Layout, Protocol, lay_out
from bench.evaluation.result import Evaluation, SequenceErrors
from bench.records.errors import UsageError
from bench.records.progress import progress as progress_line
from h2ot_core import Hourglass, metrics
from h2ot_core.video import lift_windows

_PER_FRAME: dict[str, Callable[..., Tensor]] = {
    "mpjpe_mm": partial(metrics.mpjpe, reduce=False),
    "p_mpjpe_mm": partial(metrics.p_mpjpe, reduce=False),
    "n_mpjpe_mm": partial(metrics.n_mpjpe, reduce=False),
}


def default_protocol(model: Hourglass, dataset: DataSet, **changes: Any) -> Protocol:
    """The published protocol of a data set for a model.

    Args:
        model: its pipeline decides between windows side by side and one per frame.
        dataset: its `windows` are those of a seq2seq model; a seq2frame model takes "centre".
        **changes: fields of :class:`bench.evaluation.Protocol` to set; None leaves one as it is.

    Raises:
        UsageError: for a wrong value.
    """
    fields = {name: value for name, value in changes.items() if value is not None}
    published = "centre" if model.config.pipeline == "seq2frame" else dataset.windows
    return Protocol(**{"windows": published, **fields})


def evaluate(
    model: Hourglass,
    dataset: DataSet,
    protocol: Protocol | None = None,
    *,
    split: Split = "test",
    limit: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Lift every sequence of a split and measure the errors.

    Sequences are lifted one after the other, their windows in common batches. A model of three
    input channels gets the data's confidence, or 1 where there is none; one of two drops it.

    Args:
        model: with weights, on its device; put in evaluation mode meanwhile.
        dataset: where the sequences come from.
        protocol: None means :func:`default_protocol`.
        split: "train" or "test".
        limit: most sequences to evaluate, evenly spread over the split; None means all.
        progress: whether to show a progress line on the standard error stream.

    Returns:
        Errors per sequence and action.

    Raises:
        UsageError: if model, data and protocol do not go together, the device is out of memory,
            or the model puts out NaN or infinity.
        DataError: if the data cannot be used, or no frame counts.
    """
    protocol = protocol if protocol is not None else default_protocol(model, dataset)
    if split in dataset.unmeasured:
        raise UsageError(
            f"the {split} split of {dataset.name} has no millimetres to measure errors "
            f"against; use the other split"
        )
    sequences = [downsampled(s, protocol.downsample) for s in _limited(dataset, split, limit)]
    _check(model, dataset, sequences, protocol)
    size = model.schedule.frames
    plan = [(sequence, lay_out(protocol.windows, sequence.valid, size)) for sequence in sequences]
    plan = [(sequence, layout) for sequence, layout in plan if (layout.source >= 0).any()]
    if not plan:
        raise DataError(f"no frame of the {split} split of {dataset.name} counts; all are invalid")
    per_frame = dict(_PER_FRAME)
    if dataset.pck_joints:
        for name, metric in (("pck_percent", metrics.pck), ("auc_percent", metrics.auc)):
            per_frame[name] = partial(metric, joints=dataset.pck_joints, reduce=False)
    lifted = _lifted(model, dataset, plan, protocol, progress)
    errors = tuple(
        _errors(sequence, layout, poses, protocol, dataset.root, per_frame)
        for (sequence, layout), poses in zip(plan, lifted, strict=True)
    )
    present = dict.fromkeys(sequence.action for sequence in errors)
    order = [action for action in dataset.actions if action in present]
    order += [action for action in present if action not in order]
    return Evaluation(
        dataset=dataset.name,
        description=dataset.description,
        detector=dataset.detector,
        split=split,
        pck_joints=dataset.pck_joints,
        protocol=protocol,
        confidence=_confidence(model, sequences),
        sequences=errors,
        order=tuple(order),
        # The names may be those of another split, as of 3DHP's test sequences.
        missing=tuple(a for a in dataset.actions if a not in present)
        if present.keys() & set(dataset.actions)
        else (),
        limit=limit,
        notes=tuple(dataset.notes),
    )


def _limited(dataset: DataSet, split: Split, limit: int | None) -> list[MotionSequence]:
    sequences = list(dataset.sequences(split))
    if limit is None or limit >= len(sequences):
        return sequences
    if limit < 1:
        raise UsageError(f"limit must be at least 1, got {limit}")
    return [sequences[i * len(sequences) // limit] for i in range(limit)]


def _check(
    model: Hourglass, dataset: DataSet, sequences: Sequence[MotionSequence], protocol: Protocol
) -> None:
    host, config = model.host, model.config
    if config.pipeline == "seq2frame" and protocol.windows != "centre":
        raise UsageError(
            f"this {config.host} model puts out the centre frame alone (seq2frame), so windows "
            f"{protocol.windows!r} do not fit; leave windows out or give 'centre'"
        )
    if host.channels not in (2, 3):
        raise UsageError(
            f"{config.host} takes {host.channels} channels per joint; data have 2, or 3 with the "
            f"detector's confidence"
        )
    if protocol.flip and len(dataset.left) != len(dataset.right):
        raise DataError(
            f"{dataset.name} names {len(dataset.left)} left and {len(dataset.right)} right joints; "
            f"a mirror needs pairs"
        )
    for sequence in sequences:
        if sequence.input.shape[1] != host.joints:
            raise UsageError(
                f"this {config.host} model has {host.joints} joints, but sequence "
                f"{sequence.name!r} of {dataset.name} has {sequence.input.shape[1]}; build it with "
                f"joints = {sequence.input.shape[1]}, or give other data"
            )
        for what, values in (("2D input", sequence.input), ("3D truth", sequence.truth_mm)):
            if not np.isfinite(values).all():
                frame, joint = (int(i) for i in np.argwhere(~np.isfinite(values))[0][:2])
                raise DataError(
                    f"the {what} of sequence {sequence.name!r} of {dataset.name} is NaN or "
                    f"infinite, first at frame {frame}, joint {joint}; interpolate or leave "
                    "out such frames"
                )


def _confidence(model: Hourglass, sequences: Sequence[MotionSequence]) -> str:
    in_data = {sequence.input.shape[2] for sequence in sequences} == {3}
    if model.host.channels == 3:
        return "as in the data" if in_data else "1 throughout"
    return "dropped" if in_data else "none"


# --- lifting -----------------------------------------------------------------------------------

_Plan = Sequence[tuple[MotionSequence, Layout]]


def _lifted(
    model: Hourglass, dataset: DataSet, plan: _Plan, protocol: Protocol, progress: bool
) -> Iterator[Tensor]:
    """Yield the poses of each sequence: float64 (n, F or 1, J, 3), CPU, unit of training."""
    like = next(model.parameters())
    mirror = (dataset.left, dataset.right) if protocol.flip else None
    centre = protocol.windows == "centre"
    waiting: list[Tensor] = []
    total = sum(len(layout) for _, layout in plan)
    with _evaluating(model), progress_line("evaluating", total, not progress, "window") as tick:
        for batch in _batches(plan, protocol.batch):
            x = torch.cat([_input(*plan[i], rows, model.host.channels) for i, rows in batch])
            poses = _poses(model, x.to(like.device, like.dtype), mirror, centre)
            tick(done=len(poses))
            parts = poses.split([rows.stop - rows.start for _, rows in batch])
            for (i, rows), part in zip(batch, parts, strict=True):
                waiting.append(part)
                if rows.stop == len(plan[i][1]):
                    yield torch.cat(waiting)
                    waiting = []


def _batches(plan: _Plan, size: int) -> Iterator[list[tuple[int, slice]]]:
    """Yield the windows of all sequences, ``size`` at a time: index in the plan, and rows."""
    windows = ((i, row) for i, (_, layout) in enumerate(plan) for row in range(len(layout)))
    while batch := list(islice(windows, size)):
        groups = ((i, [row for _, row in rows]) for i, rows in groupby(batch, itemgetter(0)))
        yield [(i, slice(rows[0], rows[-1] + 1)) for i, rows in groups]


def _input(sequence: MotionSequence, layout: Layout, rows: slice, channels: int) -> Tensor:
    """Some windows of a sequence as network input: float32 (rows, F, J, channels)."""
    x = sequence.input[layout.index(rows)][..., :channels]
    confidence = np.ones((*x.shape[:-1], channels - x.shape[-1]), dtype=x.dtype)
    return torch.from_numpy(np.concatenate([x, confidence], axis=-1))


def _poses(
    model: Hourglass,
    x: Tensor,
    mirror: tuple[Sequence[int], Sequence[int]] | None,
    centre: bool,
) -> Tensor:
    """Float64 (B, F or 1, J, 3) on the CPU."""
    try:
        with torch.inference_mode():
            poses = lift_windows(model, x, "seq2frame" if centre else "seq2seq", mirror)
    except torch.OutOfMemoryError:
        raise UsageError(
            f"the device is out of memory with {len(x)} windows per pass; give a smaller batch"
        ) from None
    poses = poses.cpu().double()
    if not bool(torch.isfinite(poses).all()):
        raise UsageError("the model puts out NaN or infinity; its weights are not usable")
    return poses


@contextmanager
def _evaluating(model: Hourglass) -> Iterator[None]:
    """Evaluation mode, without checking every batch for finite values: the data are checked."""
    training, check = model.training, model.check_finite
    model.eval()
    model.check_finite = False
    try:
        yield
    finally:
        model.train(training)
        model.check_finite = check


# --- errors ------------------------------------------------------------------------------------


def _errors(
    sequence: MotionSequence,
    layout: Layout,
    poses: Tensor,
    protocol: Protocol,
    root: int,
    per_frame: Mapping[str, Callable[..., Tensor]],
) -> SequenceErrors:
    source = torch.from_numpy(layout.source.reshape(-1))
    counts = source >= 0
    source = source[counts]
    predicted = poses.flatten(0, 1)[counts]
    if protocol.zero_root:
        predicted[:, root] = 0
    predicted = predicted * torch.from_numpy(sequence.to_mm).double()[source, None, None]
    truth = torch.from_numpy(sequence.truth_mm).double()[source]
    values = {}
    shown = source.bincount(minlength=layout.frames).double()
    for metric, measure in per_frame.items():
        error = measure(predicted, truth)
        if layout.stretched:
            error = source.bincount(error, minlength=layout.frames)[shown > 0] / shown[shown > 0]
        values[metric] = error.mean().item()
    steps = 0
    if len(source) > 1:
        # Between neighbours, and across borders of windows as published, but not across frames
        # that were left out.
        joined = source.diff() <= 1
        steps = int(joined.sum())
        if steps:
            change = metrics.mpjve(predicted, truth, reduce=False)
            values["mpjve_mm"] = change[joined].mean().item()
    return SequenceErrors(
        name=sequence.name,
        clip=sequence.clip,
        subject=sequence.subject,
        action=sequence.action,
        camera=sequence.camera,
        frames=int((shown > 0).sum()) if layout.stretched else len(source),
        steps=steps,
        values=values,
    )
