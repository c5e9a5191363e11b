"""Latency of many cases: each in a fresh process, in turn with its baseline's."""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import h2ot_core
from bench.data.windows import MotionSource, batch
from bench.models.context import Context
from bench.models.inputs import windows
from bench.records.case import Case
from bench.records.errors import UsageError
from bench.records.files import text_digest
from bench.records.record import Record
from bench.records.status import Failure, excuse
from bench.records.store import Store
from bench.timing import clock
from bench.timing.sampling import Rounds, Sampling, Trial, Warm, Worker, warm_limit
from bench.workers.process import WorkerProcess

READINGS = ("latency_s", "prune_s", "recover_s")
ENDED = "latency_rounds"
"""A reading for how many rounds of a group were measured, and why no more."""

Tick = Callable[[str, float], None]
Start = Callable[[Case, Path, Sampling], Worker]


def group_name(cases: Sequence[Case]) -> str:
    """Name of a set of cases that are timed together; ratios are valid within it."""
    return text_digest("\n".join(sorted(case.key for case in cases)), 8)


def groups(cases: Sequence[Case], max_workers: int = 4) -> list[tuple[Case, ...]]:
    """Cut cases into groups that are timed together: a baseline and a few rows compared with it.

    Args:
        cases: in any order; a missing baseline is added.
        max_workers: maximum of cases in a group.

    Returns:
        Groups with one baseline follow each other, and have about as many rows each.
    """
    rows: dict[Case, list[Case]] = {}
    for case in dict.fromkeys(cases):
        own = rows.setdefault(case.baseline, [])
        if case != case.baseline:
            own.append(case)
    found: list[tuple[Case, ...]] = []
    for base, compared in rows.items():
        count = max(1, math.ceil(len(compared) / (max_workers - 1)))
        cuts = [round(i * len(compared) / count) for i in range(count + 1)]
        found += [(base, *compared[a:b]) for a, b in pairwise(cuts)]
    return found


def unfinished(
    cases: Sequence[Case], sampling: Sampling, store: Store
) -> list[tuple[tuple[Case, ...], int]]:
    """Groups that lack trials, the cheapest baseline first, and how many each lacks.

    Where the number of rounds is not fixed, a group lacks one per case until it has ended.
    """
    found = []
    for group in groups(cases, sampling.max_workers):
        log = _Log(store, group, {})
        if sampling.rounds is not None:
            lacking = sum(not log.has(c, p) for c in group for p in range(sampling.rounds))
        else:
            lacking = 0 if log.enough(sampling) else len(group)
        if lacking:
            found.append((group, lacking))
    cost = _costs(store)
    return sorted(found, key=lambda item: cost(item[0][0]))


def _costs(store: Store) -> Callable[[Case], float]:
    """FLOPs of a case as far as they were counted, over those of the mean case."""
    flops = {
        r.case: r.values[0] * r.case.batch
        for r in store.records
        if r.metric == "flops_full" and r.values
    }
    mean = sum(flops.values()) / len(flops) if flops else 1.0
    return lambda case: flops.get(case, mean) / (mean or 1.0)


def measure(
    cases: Sequence[Case],
    sampling: Sampling,
    store: Store,
    context: Context,
    stamp: Mapping[str, Any],
    tick: Tick,
    *,
    start: Start | None = None,
    now: Callable[[], float] = clock.now,
) -> None:
    """Measure what the store lacks, storing each trial as it ends.

    Args:
        cases: all on one device with one number of threads.
        sampling: when to stop.
        store: read for what was measured before, and appended to.
        context: of the input motion.
        stamp: session and environment, for every record.
        tick: called with a case's label and how many trials of :func:`unfinished` are done.
        start: starts the worker of a case from its input file; by default a process.
        now: a clock in seconds.

    Raises:
        UsageError: if the device is not there, or the input is not finite.
        bench.data.readers.motion.MotionError: if there is no input.
    """
    todo = unfinished(cases, sampling, store)
    if not todo:
        return
    _check(cases, sampling)
    cost = _costs(store)
    # Starting a process costs about as much as some passes of the mean case.
    weights = {group: sum(1 + cost(case) for case in group) for group, _ in todo}
    every = sum(1 + cost(case) for group in groups(cases, sampling.max_workers) for case in group)
    end = now() + sampling.budget_s * sum(weights.values()) / every
    broken: dict[Case, Failure] = {}
    with tempfile.TemporaryDirectory(prefix="h2ot-inputs-") as folder, ExitStack() as stack:
        pool: dict[Case, tuple[Worker, Warm | None]] = {}
        stack.callback(_close, pool)
        inputs = _Inputs(context.motion, Path(folder))
        for group, _ in todo:
            for case in group:  # or raise why there is no input
                inputs.file(case)
        for group, _ in todo:
            began = now()
            share = max(0.0, end - began) * weights[group] / sum(weights.values())
            del weights[group]
            log = _Log(store, group, stamp, {"description": context.motion.description})
            for case in group:  # the baseline may have failed in the group before
                if case in broken and case not in log.failed:
                    log.add(case, log.lacks(case), broken[case])
            job = _Group(group, sampling, log, now)
            job.run(pool, inputs, start or Process, began + share, share, tick)
            broken |= log.failures


def _close(pool: Mapping[Case, tuple[Worker, Warm | None]]) -> None:
    for worker, _ in pool.values():
        worker.close()


def _check(cases: Sequence[Case], sampling: Sampling) -> None:
    devices = {(case.device, case.threads) for case in cases}
    if len(devices) != 1:
        raise UsageError(f"cases timed together must share device and threads, got {devices}")
    device, _ = devices.pop()
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device here; use --device cpu")
    if sampling.flush_l2 and device != "cuda":
        raise UsageError("--flush-l2 empties the cache of a GPU; use it with --device cuda")


class _Group:
    """One group's measurement: workers, warm-up, rounds, and the note that it has ended."""

    def __init__(
        self,
        cases: tuple[Case, ...],
        sampling: Sampling,
        log: _Log,
        now: Callable[[], float],
    ) -> None:
        self.cases, self.sampling, self.log, self.now = cases, sampling, log, now
        self.rounds = Rounds(cases, sampling, log, now)

    def run(
        self,
        pool: dict[Case, tuple[Worker, Warm | None]],
        inputs: _Inputs,
        start: Start,
        deadline: float,
        share_s: float,
        tick: Tick,
    ) -> None:
        """Measure until done; the baseline's worker stays in the pool for the next group."""
        pending = [case for case in self.cases if case not in self.log.failed]
        for case in [case for case in pool if case not in pending]:
            pool.pop(case)[0].close()
        for case in pending:  # all start at once, since nothing is timed meanwhile
            if case not in pool:
                pool[case] = (start(case, inputs.file(case), self.sampling), None)
        warm = self._warm(pool, pending, warm_limit(share_s / len(self.cases)))
        fixed = self.sampling.rounds is not None
        workers = {case: pool[case][0] for case in warm}
        count, why = self.rounds.run(
            workers, warm, deadline, lambda case: tick(case.label, 1.0 if fixed else 0.0)
        )
        for case in warm:
            if case in self.log.failed:  # its worker is closed
                pool.pop(case)
        if not fixed:
            self.log.end(count, why, self.sampling)
            tick(self.cases[-1].label, float(len(self.cases)))

    def _warm(
        self, pool: dict[Case, tuple[Worker, Warm | None]], pending: Sequence[Case], limit_s: float
    ) -> dict[Case, Warm]:
        """Wait for workers and warm up those that are new, one after the other."""
        warm: dict[Case, Warm] = {}
        for case in pending:  # before any of them is busy
            try:
                pool[case][0].ready()
            except Failure as failure:
                self.log.add(case, self.log.lacks(case), failure)
                pool.pop(case)[0].close()
        for case in pending:
            if case not in pool:
                continue
            worker, known = pool[case]
            try:
                warm[case] = known or Warm.up(worker, limit_s, self.now)
                pool[case] = (worker, warm[case])
            except Failure as failure:
                self.log.add(case, self.log.lacks(case), failure)
                pool.pop(case)[0].close()
        return warm


class _Log:
    """The trials of one group in the store."""

    def __init__(
        self,
        store: Store,
        group: Sequence[Case],
        stamp: Mapping[str, Any],
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self._store, self._stamp, self._facts = store, stamp, facts or {}
        self._cases, self._name = tuple(group), group_name(group)
        self.failed: set[Case] = set()
        self.failures: dict[Case, Failure] = {}
        self._medians: dict[Case, dict[int, tuple[str, float]]] = defaultdict(dict)
        self._marks: list[Record] = []
        for record in store.records:
            if record.group == self._name:
                self._note(record)

    def _note(self, record: Record) -> None:
        if record.metric == ENDED:
            self._marks.append(record)
        elif record.status != "ok":
            self.failed.add(record.case)
        elif record.metric == "latency_s":
            known = (record.session, median(record.values))
            self._medians[record.case].setdefault(record.part, known)

    def has(self, case: Case, number: int) -> bool:
        """Whether all readings of a trial are there, or the case has failed."""
        return case in self.failed or all(
            (case, metric, self._name, number) in self._store for metric in READINGS
        )

    def lacks(self, case: Case) -> int:
        """The first round of which a case has no trial."""
        number = 0
        while all((case, metric, self._name, number) in self._store for metric in READINGS):
            number += 1
        return number

    def medians(self, case: Case) -> Mapping[int, tuple[str, float]]:
        """Round to session and median latency of every trial that was kept."""
        return self._medians[case]

    def add(self, case: Case, number: int, found: Trial | Failure) -> None:
        """Store a trial, or why there is none."""
        if isinstance(found, Failure):
            self.failures[case] = found
            outcome: dict[str, Any] = excuse(found)
            series: Mapping[str, Sequence[float]] = dict.fromkeys(READINGS, ())
        else:
            outcome = {"protocol": {**self._facts, **found.protocol}}
            series = found.readings
        records = [
            Record(
                case=case, metric=metric, unit="s", values=tuple(values), group=self._name,
                part=number, **outcome, **self._stamp,
            )
            for metric, values in series.items()
        ]  # fmt: skip
        self._store.append(records)
        for record in records:
            self._note(record)

    def end(self, rounds: int, why: str, sampling: Sampling) -> None:
        """Store that the group is finished, and by which criteria."""
        protocol = {
            "ended": why, "width": sampling.width, "ratio_width": sampling.ratio_width,
            "budget_s": sampling.budget_s,
        }  # fmt: skip
        # A number of its own, since a group may be resumed with a larger budget.
        self._store.append(
            Record(
                case=case, metric=ENDED, unit="1", values=(rounds,), group=self._name,
                part=len(self._marks), protocol=protocol, **self._stamp,
            )
            for case in self._cases
        )  # fmt: skip

    def enough(self, sampling: Sampling) -> bool:
        """Whether the group ended by these criteria, or by stricter ones."""
        ends = [
            m.protocol
            for m in self._marks
            if m.protocol["width"] <= sampling.width
            and m.protocol["ratio_width"] <= sampling.ratio_width
        ]
        return any(p["ended"] != "budget" or p["budget_s"] >= sampling.budget_s for p in ends)


class Process(WorkerProcess):
    """The worker of a case: a process of its own."""

    def __init__(self, case: Case, inputs: Path, sampling: Sampling) -> None:
        super().__init__("bench.timing.worker", timeout_s=sampling.timeout_s)
        self._facts: dict[str, Any] = {}
        self.send(
            "build",
            case=case.to_json(),
            inputs=str(inputs),
            threads=case.threads or torch.get_num_threads(),
            flush=sampling.flush_l2,
        )

    def ready(self) -> None:
        """Wait until the model is built.

        Raises:
            Failure: if it cannot be built.
        """
        if not self._facts:
            self._facts = self.receive()["facts"]

    def trial(self, number: int, *, at_least_s: float, at_most: int, discarded: int = 0) -> Trial:
        """Measure samples.

        Raises:
            Failure: if the process fails, dies, or does not answer in time.
        """
        answer = self.call(
            "trial", number=number, at_least_s=at_least_s, at_most=at_most, discarded=discarded
        )
        readings = answer.pop("readings")
        return Trial(readings, {**self._facts, **answer, "unheeded": discarded})


class _Inputs:
    """Batches of real motion, the same clips for every case, in files for the workers."""

    def __init__(self, motion: MotionSource, folder: Path) -> None:
        self._motion, self._folder = motion, folder

    def file(self, case: Case) -> Path:
        """A .npy file of (rounds, batch, F, J, C_in) float32.

        Raises:
            UsageError: for poses that are not finite.
        """
        channels = h2ot_core.HOSTS[case.host].channels
        path = self._folder / f"{case.frames}-{case.batch}-{channels}.npy"
        if not path.exists():
            rounds = windows(self._motion, case.frames, case.batch)
            x = np.stack([batch(one, channels) for one in rounds])
            if not bool(np.isfinite(x).all()):
                raise UsageError(f"{self._motion.name} holds poses that are not finite")
            np.save(path, x)
        return path
