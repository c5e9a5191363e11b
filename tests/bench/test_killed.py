"""A sweep that is killed again and again: what was stored stays, and in the end all is there."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.records import store

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20

# Imports once, then gives every sweep a process of its own: importing takes longer than all sweeps.
NURSERY = """
import os, signal, sys, time
from dataclasses import replace
from pathlib import Path
import scipy.special, scipy.stats  # which sweeps would otherwise load one by one
import torch
from bench.records.case import Case
from bench.data.windows import MotionSource
from bench.records.environment import environment
from bench.metrics import METRICS
from bench.metrics.base import Reading
from bench.models.context import Context
from bench.records.store import Store
from bench.scenarios import tables
from bench.timing import interleaved, sampling
from bench.timing.sampling import Sampling, Trial
from bench.timing.worker import TimedCase

class Slow:
    '''A disk that takes a hundred bytes at a time, so that many kills tear a line.'''

    def __init__(self, file):
        self.file = file

    def write(self, data):
        time.sleep(2e-4)
        return self.file.write(data[:100])

    def __getattr__(self, name):
        return getattr(self.file, name)

def slow_store(self, path, records, file):
    plain(self, path, records, Slow(file))

plain, Store.__init__ = Store.__init__, slow_store

def constant(names):
    return lambda case, context: [Reading(metric=n, unit="1", values=(1,)) for n in names]

for name, metric in METRICS.items():
    METRICS[name] = replace(metric, measure=constant(metric.readings), at_once=1)
sampling.TRIAL_SAMPLES = 1

class Here:
    '''A worker in the sweep's own process: starting others would take longer than all sweeps.'''

    def __init__(self, case, inputs, sampling):
        self.setup = {"case": case.to_json(), "inputs": str(inputs), "threads": 1, "flush": False}

    def ready(self):
        self.timed = TimedCase()
        self.timed.build(**self.setup)

    def trial(self, number, **arguments):
        found = self.timed.trial(number, **arguments)
        return Trial(found.pop("readings"), found)

    def close(self):
        pass

interleaved.Process = Here
torch.set_num_threads(1)
motion = MotionSource.generated(frames=54)
base = Case(host="mixste", frames=9, options=(("depth", 2), ("heads", 1), ("width", 8)),
            motion=motion.name, threads=1)
pruned = replace(base, prune="tps", recover="tri", r=(3,), b=(0,))
cases = (base, pruned, replace(base, frames=27))
for case in cases:
    motion.windows(case.frames, limit=8)
environment(1)
plan = tables.Plan(exact=cases, timed=cases, trainable=cases, sampling=Sampling(rounds=30))
for line in sys.stdin:
    path, _, moment = line.strip().rpartition(" ")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            tables.run(plan, Path(path), Context(motion), quiet=True)
            status = 0
        finally:
            os._exit(status)
    start = time.monotonic()
    done, status = 0, 0
    while not done and time.monotonic() - start < float(moment):
        time.sleep(2e-4)
        done, status = os.waitpid(child, os.WNOHANG)
    if not done:
        os.kill(child, signal.SIGKILL)
        done, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), time.monotonic() - start, flush=True)
"""


class Nursery:
    """Sweeps of one and the same code, whatever becomes of the checkout meanwhile."""

    def __init__(self, folder: Path) -> None:
        for package in ("h2ot_core", "bench"):
            shutil.copytree(ROOT / package, folder / package)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", NURSERY],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def sweep(self, path: Path, kill_after_s: float = 600.0) -> tuple[int, float]:
        """Exit code, negative where killed, and seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(path, kill_after_s, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().split()
        assert len(answer) == 2, "the sweeps' parent died"
        return int(answer[0]), float(answer[1])

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery(tmp_path_factory.mktemp("code"))
    yield made
    made.close()


def whole_lines(path: Path) -> bytes:
    if not path.exists():
        return b""
    body, newline, _ = path.read_bytes().rpartition(b"\n")
    return body + newline


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_sweep_killed_at_random_moments_loses_and_doubles_nothing(
    nursery: Nursery, tmp_path: Path
) -> None:
    calm = tmp_path / "calm.jsonl"
    code, whole_s = nursery.sweep(calm)
    assert code == 0
    wanted = Counter(record.identity for record in store.read(calm))
    assert max(wanted.values()) == 1
    assert len({record.metric for record in store.read(calm)}) > 10

    moments = random.Random(0)
    kills, torn, sweeps = 0, 0, 0
    while kills < KILLS:
        sweeps += 1
        folder = tmp_path / f"killed_{sweeps}"
        path = folder / "records.jsonl"
        before, code = b"", -1
        while code != 0:
            # From the first moments of a sweep to a good part of it; the last goes on to the end.
            moment = moments.uniform(0, 0.25) * whole_s if kills < KILLS else 600.0
            code, _ = nursery.sweep(path, moment)
            assert code in (0, -signal.SIGKILL)
            kills += code != 0
            after = whole_lines(path)
            assert after.startswith(before), "what had been stored before a kill was changed"
            torn += path.exists() and after != path.read_bytes()
            before = after
        assert Counter(record.identity for record in store.read(path)) == wanted
        others = {p.name for p in folder.iterdir()} - {path.name, f"{path.name}.torn"}
        assert not others, "records were set aside although the code is the same"
    assert kills == KILLS
    assert torn > 0, "no kill tore a line, so nothing was shown of those"


def test_a_torn_line_is_kept_apart_and_measured_again(nursery: Nursery, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    assert nursery.sweep(path)[0] == 0
    content = path.read_bytes()
    wanted = Counter(record.identity for record in store.read(path))
    lines = content.splitlines(keepends=True)
    for last in (0, len(lines) // 2, len(lines) - 1):
        path.write_bytes(b"".join(lines[:last]) + lines[last][:-20])
        assert nursery.sweep(path)[0] == 0
        assert path.read_bytes().startswith(b"".join(lines[:last]))
        assert Counter(record.identity for record in store.read(path)) == wanted
    assert path.with_name("records.jsonl.torn").read_bytes().count(b"\n") == 3
