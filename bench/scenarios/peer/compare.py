"""Run both sides on the same weights and input, compare their outputs, time them in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

import h2ot_core
from bench.data.windows import MotionSource
from bench.models import inputs
from bench.models.build import blank_model
from bench.records import session
from bench.records.case import Case
from bench.records.errors import UsageError
from bench.records.record import Record
from bench.records.status import Failure
from bench.scenarios.peer import adapters
from bench.timing.statistics import Estimate, interleaved_ratio
from bench.workers.process import WorkerProcess

LATENCY = "peer_latency_s"
DIFFERENCE = "peer_output_difference"
STEP = "peer_training_step_s"
MEMORY = "peer_training_peak_estimated_bytes"
ALLOCATED = "peer_training_peak_allocated_bytes"
_TIMEOUT_S = 3600.0  # of one answer
_QUANTILE = 0.99
LIMIT = 1e-4
"""Of the difference between outputs, as a share of the largest output."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to compare.

    Attributes:
        folder: a checkout of a published repository.
        motion: where the input comes from.
        host, scheme: None for the repository's first.
        sizes: further arguments of ``h2ot_core.build``: frames, r, b, width, ...
        rounds: turns; each times both sides once.
        batch, dtype, device, threads: as of :class:`Case`; outputs are compared in
            float32 whatever the dtype.
        runtime: of our side, a name in ``RUNTIMES``; outputs are compared in eager.
        training: compare training steps instead of forward passes, and their estimated memory.
        store: record file; None to keep nothing.
    """

    folder: Path
    motion: MotionSource
    host: str | None = None
    scheme: str | None = None
    sizes: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 10
    batch: int = 1
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 0
    runtime: str = "eager"
    training: bool = False
    store: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Difference of two outputs, as shares of the largest element of ours.

    Attributes:
        largest: of all elements in float32.
        quantile: that 99% of them do not exceed.
        double: the largest in float64, where that is what counts, or None.
        nudged: in that case, how far the published code is from itself in float32 when the last bit
            of its input changes; a quantile of 99% as well.
        uniform: in that case, the quantile of 99% in float32 on uniform noise instead of motion,
            in which no two frames are nearly equal.
        runtime: largest and mean distance of our runtime's output from ours in eager float32, where
            another runtime is timed.
    """

    largest: float
    quantile: float
    double: float | None = None
    nudged: float | None = None
    uniform: float | None = None
    runtime: tuple[float, float] | None = None

    @property
    def judged(self) -> float:
        """The difference that counts."""
        return self.largest if self.double is None else self.double

    @property
    def agrees(self) -> bool:
        """Whether the two programs compute the same."""
        return self.judged <= LIMIT


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a comparison.

    Attributes:
        peer: name of the repository.
        revision: its commit, or a digest of its Python files outside a git checkout.
        case: our side.
        difference: of the outputs.
        peer_s, ours_s: per turn, the median of its samples in seconds; empty where the outputs
            do not agree, since the speed of another computation is no comparison.
        ratio: peer over ours, above 1 where ours is faster.
        peer_bytes, ours_bytes: estimated peak memory of a training step, where that was compared.
        peer_allocated, ours_allocated: the same as a GPU's allocator counted it.
        versions: side to its packages.
    """

    peer: str
    revision: str
    case: Case
    difference: Difference
    peer_s: tuple[float, ...] = ()
    ours_s: tuple[float, ...] = ()
    ratio: Estimate | None = None
    peer_bytes: int | None = None
    ours_bytes: int | None = None
    peer_allocated: int | None = None
    ours_allocated: int | None = None
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def compare(job: Job, *, tick: Callable[[int], None] = lambda _: None) -> Result:
    """Compare a checkout with this implementation.

    Args:
        job: what to compare.
        tick: called after each turn with its number.

    Raises:
        UsageError: if the folder is no known checkout, it has no such configuration,
            or one side cannot be built or run.
    """
    name = adapters.recognise(job.folder)
    host, scheme = adapters.choose(name, job.host, job.scheme)
    entry = adapters.PEERS[name].models[host, scheme]
    arguments = {"host": host, "scheme": scheme, **entry.sizes, **job.sizes}
    _check(name, entry, job.sizes, host, scheme)
    model = blank_model(arguments)[0]
    case = _case(job, model, host)
    if job.threads:
        torch.set_num_threads(job.threads)  # the records' environment is that of this process
    with tempfile.TemporaryDirectory(prefix="h2ot-peer-") as text, ExitStack() as stack:
        folder = Path(text)
        setup: dict[str, Any] = {
            "peer": name, "host": host, "scheme": scheme, "folder": str(job.folder.resolve()),
            "arguments": model.config.arguments, "sizes": _sizes(model), "device": job.device,
            "dtype": job.dtype, "threads": job.threads, "runtime": job.runtime,
            "learned": model.schedule.kept if case.pipeline == "seq2frame" else case.frames,
            "weights": str(folder / "weights.safetensors"),
            "inputs": str(folder / "inputs.safetensors"),
        }  # fmt: skip
        save_file(inputs.weights(model), setup["weights"])
        save_file(inputs.inputs(model, job.motion, job.batch), setup["inputs"])
        theirs, ours = (
            stack.enter_context(Side(title, {**setup, "side": side}, folder))
            for title, side in ((name, "peer"), ("ours", "ours"))
        )
        versions = {
            side: process.receive()["versions"]
            for side, process in (("peer", theirs), ("ours", ours))
        }
        difference = _difference(theirs, ours, folder, double=entry.double)
        if difference.agrees and job.runtime != "eager":
            moved = ours.call("moved")
            difference = replace(difference, runtime=(moved["largest"], moved["mean"]))
        memory = [
            int(side.call("memory")["bytes"])
            for side in (theirs, ours)
            if job.training and difference.agrees
        ]
        turns, allocated = _turns(theirs, ours, job, tick) if difference.agrees else ([], {})
    peer_s = tuple(median(peer) for peer, _ in turns)
    ours_s = tuple(median(own) for _, own in turns)
    result = Result(
        peer=name, revision=adapters.revision(job.folder), case=case, difference=difference,
        peer_s=peer_s, ours_s=ours_s,
        ratio=interleaved_ratio(ours_s, peer_s) if turns else None, versions=versions,
        **dict(zip(("peer_bytes", "ours_bytes"), memory, strict=False)),
        peer_allocated=allocated.get(name), ours_allocated=allocated.get("ours"),
    )  # fmt: skip
    if job.store is not None:
        _keep(job, job.store, result, turns)
    return result


class Side(WorkerProcess):
    """The process of one side; its first answer has the versions of its packages.

    Args:
        name: for messages.
        setup: what to build, as :mod:`bench.scenarios.peer.worker` reads it.
        folder: where the process runs.
    """

    def __init__(self, name: str, setup: Mapping[str, Any], folder: Path) -> None:
        self.name = name
        super().__init__(
            "bench.scenarios.peer.worker", cwd=folder, timeout_s=_TIMEOUT_S,
            # The checkout is the user's: nothing is written there, compiled files included.
            env={"PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        self.send("build", setup=setup)

    def receive(self) -> dict[str, Any]:
        """Wait for the next answer.

        Raises:
            UsageError: if the process could not do it, or ended.
        """
        try:
            return super().receive()
        except Failure as failure:
            raise UsageError(f"{self.name}: {failure}") from None


def _check(
    name: str, entry: adapters.Model, sizes: Mapping[str, Any], host: str, scheme: str
) -> None:
    """Check the requested sizes against those of the published code."""
    published = _sizes(blank_model({"host": host, "scheme": scheme, **entry.sizes})[0])
    requested = {key: tuple(v) if isinstance(v, list) else v for key, v in sizes.items()}
    adapters.check_sizes(name, entry, requested, published)


def _sizes(model: h2ot_core.Hourglass) -> dict[str, Any]:
    config = model.config
    return {"frames": config.frames, "r": config.r, "b": config.b, **dict(config.options)}


def _case(job: Job, model: h2ot_core.Hourglass, host: str) -> Case:
    """Our side as a case, with the options that are not the host's defaults."""
    config, usual = model.config, h2ot_core.HOSTS[host].sizes
    options = tuple(
        (key, value) for key, value in config.options if key in usual and usual[key] != value
    )
    return Case(
        host=host, frames=config.frames, prune=config.prune, recover=config.recover, r=config.r,
        b=config.b, pipeline=config.pipeline, options=options, batch=job.batch, device=job.device,
        dtype=job.dtype, threads=job.threads, motion=job.motion.name,
    )  # fmt: skip


def _difference(theirs: Side, ours: Side, folder: Path, *, double: bool) -> Difference:
    peer, own = (_output(side, folder, "float32") for side in (theirs, ours))
    if peer.shape != own.shape:
        raise UsageError(
            f"{theirs.name} puts out {peer.shape} where ours has {own.shape}; the checkout is of "
            "another version than those in bench/scenarios/peer/adapters.py"
        )
    single = _shares(peer, own)
    difference = Difference(largest=float(single.max()), quantile=_quantile(single))
    if not double:
        return difference
    exact = _shares(*(_output(side, folder, "float64") for side in (theirs, ours)))
    nudged = _shares(_output(theirs, folder, "float32", kind="nudged"), peer)
    uniform = _shares(
        *(_output(side, folder, "float32", kind="uniform") for side in (theirs, ours))
    )
    return replace(
        difference, double=float(exact.max()), nudged=_quantile(nudged), uniform=_quantile(uniform)
    )


Output = npt.NDArray[np.float64]


def _output(side: Side, folder: Path, dtype: str, kind: str = "motion") -> Output:
    path = folder / "output.safetensors"
    side.call("check", out=str(path), dtype=dtype, kind=kind)
    return load_file(path)["y"].numpy().copy()


def _shares(one: Output, other: Output) -> Output:
    """Absolute differences over the largest of the other."""
    apart: Output = np.abs(one - other) / max(np.abs(other).max(), 1e-30)
    return np.nan_to_num(apart, nan=1e30, posinf=1e30)  # nothing that is not finite agrees


def _quantile(shares: Output) -> float:
    return float(np.quantile(shares, _QUANTILE))


Turn = tuple[Sequence[float], Sequence[float]]


def _turns(
    theirs: Side, ours: Side, job: Job, tick: Callable[[int], None]
) -> tuple[list[Turn], dict[str, int]]:
    """Samples of peer and ours per turn, and a side's most bytes where they were counted.

    Ours is first, then theirs, so that drift cancels.
    """
    turns: list[Turn] = []
    allocated: dict[str, int] = {}
    do = "step" if job.training else "time"
    for turn in range(job.rounds):
        order = (ours, theirs) if turn % 2 == 0 else (theirs, ours)
        answers = {side.name: side.call(do, turn=turn) for side in order}
        turns.append((answers[theirs.name]["seconds"], answers[ours.name]["seconds"]))
        for side, answer in answers.items():
            if "allocated" in answer:
                allocated[side] = max(answer["allocated"], allocated.get(side, 0))
        tick(turn)
    return turns, allocated


def _keep(job: Job, path: Path, result: Result, turns: Sequence[Turn]) -> None:
    mode = "training" if job.training else "inference_mode"
    protocol = {
        "peer": result.peer, "revision": result.revision, "order": "ABBA, ours first",
        "clock": "wall, synchronised", "mode": mode, "tf32": False,
        "runtime": job.runtime,
        "weights": "CRC-32 of the published name, see bench.models.inputs.weights",
        "versions": {side: dict(versions) for side, versions in result.versions.items()},
    }  # fmt: skip
    with session.opened(path) as (store, stamp):
        group = f"{result.peer}@{result.revision}:{stamp['session']}"
        apart = result.difference
        runtime = apart.runtime or (None, None)
        kinds = {
            "float32": apart.largest, "float32, 99% quantile": apart.quantile,
            "float64": apart.double, "peer nudged, 99% quantile": apart.nudged,
            "uniform noise, float32, 99% quantile": apart.uniform,
            "runtime, largest": runtime[0], "runtime, mean": runtime[1],
        }  # fmt: skip
        known = {kind: share for kind, share in kinds.items() if share is not None}
        records = [
            Record(
                case=result.case, metric=DIFFERENCE, unit="1", group=group, protocol=protocol,
                values=tuple(known.values()), labels=tuple(known), **stamp,
            )
        ]  # fmt: skip
        records += [
            Record(
                case=result.case, metric=STEP if job.training else LATENCY, unit="s",
                values=(*peer, *own), labels=("peer",) * len(peer) + ("ours",) * len(own),
                group=group, part=part, protocol=protocol, **stamp,
            )
            for part, (peer, own) in enumerate(turns)
        ]  # fmt: skip
        for metric, both in (
            (MEMORY, (result.peer_bytes, result.ours_bytes)),
            (ALLOCATED, (result.peer_allocated, result.ours_allocated)),
        ):
            sizes = tuple(size for size in both if size is not None)
            if len(sizes) == len(both):
                records.append(
                    Record(
                        case=result.case, metric=metric, unit="B", group=group, protocol=protocol,
                        values=sizes, labels=("peer", "ours"), **stamp,
                    )
                )  # fmt: skip
        store.append(records)
