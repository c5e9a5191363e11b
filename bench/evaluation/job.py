"""The evaluate command: build, load, evaluate, show, store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.data.sequences import DataSet, Split
from bench.evaluation.records import MEAN, WEIGHTED, to_records
from bench.evaluation.result import Evaluation
from bench.evaluation.run import default_protocol, evaluate
from bench.models.build import measured_model
from bench.models.weights import Weights, check_options
from bench.records.case import Case
from bench.records.session import opened
from bench.records.units import rounded


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to evaluate, on what, and where to store it.

    Attributes:
        case: the configuration; without device and input.
        data: opens the data set, when everything else was found in order.
        store: a record file.
        weights: a checkpoint; None needs ``untrained``.
        untrained: evaluate random weights, the same in every run.
        windows: a window policy; None means the published one of the data.
        flip, zero_root, downsample, batch: see :class:`bench.evaluation.Protocol`.
        split: "train" or "test".
        limit: most sequences; None means all.
    """

    case: Case
    data: Callable[[], DataSet]
    store: Path
    weights: Path | None = None
    untrained: bool = False
    windows: str | None = None
    flip: bool = True
    zero_root: bool = True
    downsample: int = 1
    batch: int = 16
    device: str = "cpu"
    split: Split = "test"
    limit: int | None = None


def run(job: Job, log: Callable[[str], None] = lambda line: None) -> Evaluation:
    """Evaluate, report and store the records.

    Args:
        job: what to do.
        log: called with each line for the user.

    Raises:
        UsageError: without weights, if the device or the store cannot be used, or if model, data
            and protocol do not go together.
        DataError: if the data cannot be used.
        h2ot_core.CheckpointError: if the weights do not fit.
    """
    without = "the errors of a model without trained weights mean nothing"
    check_options(job.weights, job.untrained, job.device, without=without)
    model = measured_model(replace(job.case, device=job.device), weights=job.weights or "initial")
    weights = None if job.weights is None else Weights.of(job.weights)
    with opened(job.store):  # a store that cannot be written fails here, before the work
        pass
    dataset = job.data()
    protocol = default_protocol(
        model,
        dataset,
        **{n: getattr(job, n) for n in ("windows", "flip", "zero_root", "downsample", "batch")},
    )
    log(f"model: {job.case.label}")
    log(
        f"weights: {weights.name} (sha256 {weights.sha256[:12]})"
        if weights is not None
        else "weights: none, untrained; the errors mean nothing"
    )
    log(f"data: {dataset.name}, {job.split} split, 2D joints {dataset.detector}")
    log(f"  {dataset.description}")
    log(f"protocol: {protocol}")
    result = evaluate(model, dataset, protocol, split=job.split, limit=job.limit)
    for line in _remarks(result):
        log(line)
    log("")
    log(table(result))
    with opened(job.store) as (store, stamp):
        store.append(to_records(result, job.case, weights=weights, model=model, stamp=stamp))
    log(f"\nrecords: {job.store}")
    return result


def _remarks(result: Evaluation) -> list[str]:
    """Notes beside the table."""
    lines = [f"note: {note}" for note in result.notes]
    if result.confidence == "1 throughout":
        lines.append("note: the data have no confidence; the model gets 1 throughout")
    if result.confidence == "dropped":
        lines.append("note: the model takes no confidence; that of the data is dropped")
    if result.limit is not None:
        lines.append(
            f"note: no more than {result.limit} sequences are evaluated, not the whole split"
        )
    if result.missing:
        lines.append(
            f"note: no sequence of {', '.join(result.missing)}; the mean is over "
            f"{len(result.order)} actions"
        )
    return lines


_HEADINGS = {
    "mpjpe_mm": "MPJPE, P1 (mm)",
    "p_mpjpe_mm": "P-MPJPE, P2 (mm)",
    "n_mpjpe_mm": "N-MPJPE (mm)",
    "mpjve_mm": "MPJVE (mm/frame)",
    "pck_percent": "PCK (%)",
    "auc_percent": "AUC (%)",
}


def table(result: Evaluation) -> str:
    """One line per action and one for the mean; for 3DHP PCK and AUC come first."""
    from tabulate import tabulate

    metrics = sorted(result.metrics, key=lambda name: not name.endswith("_percent"))
    counted = {
        action: sum(sequence.frames for sequence in result.sequences if sequence.action == action)
        for action in result.order
    }
    lines = [(action, counted[action], result.actions[action]) for action in result.order]
    lines.append((MEAN, result.frames, result.mean))
    if result.pck_joints:
        lines.append((WEIGHTED, result.frames, result.weighted))
    cells = [
        [name, str(frames), *(rounded(of[m], 2) if m in of else "" for m in metrics)]
        for name, frames, of in lines
    ]
    headings = ["", "frames", *(_HEADINGS[m] for m in metrics)]
    return tabulate(
        cells, headings, disable_numparse=True, colalign=("left", *["right"] * (len(headings) - 1))
    )
