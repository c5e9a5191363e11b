"""Models are measured in evaluation mode without gradients, and trained in training mode."""

from __future__ import annotations

import importlib
import itertools
import os
import pkgutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from watched import Spy

import bench.metrics
from bench.cli import main
from bench.data.readers.motion import save_motion
from bench.data.synthetic.generator import generate
from bench.data.windows import MotionSource
from bench.gate import worker as gate_worker
from bench.metrics import METRICS, energy
from bench.metrics.base import Metric
from bench.models.context import Context
from bench.models.supernet import Supernet
from bench.records import store
from bench.records.case import Case
from bench.scenarios import self_check
from bench.scenarios.roofline import case_traffic
from h2ot_core.elastic import Elastic

INFERENCE, TRAINING = {(False, False)}, {(True, True)}
SIZES = {"frames": 27, "depth": 2, "heads": 2, "width": 16}
CASE = Case(
    host="mixste", frames=27, prune="tpmo", recover="tri", r=(9,), b=(1,), threads=1,
    options=(("depth", 2), ("heads", 2), ("width", 16)),
)  # fmt: skip
OWN = "--host mixste --frames 27 --option depth=2 --option heads=2 --option width=16".split()
PRUNED = [*OWN, *"--prune tpmo --recover tri --r 9 --b 1".split()]


@pytest.fixture(scope="module")
def motion() -> MotionSource:
    return MotionSource.generated(frames=200)


@pytest.fixture(scope="module")
def motion_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("motion") / "short.npz"
    save_motion(
        path, [c for split in ("train", "test") for c in generate(frames=60, split=split)[:2]]
    )
    return path


@pytest.fixture
def context(motion: MotionSource, spy: Spy) -> Context:
    supernet = Supernet(Elastic("mixste", **SIZES), "0" * 12, {})
    return Context(motion, supernet=supernet, view_frames=54, view_limit=2)


# --- metrics


def every_metric() -> dict[str, Metric]:
    """Those in the registry, and all others in the folder of metrics."""
    found = dict(METRICS)
    for file in pkgutil.iter_modules(bench.metrics.__path__):
        module = importlib.import_module(f"bench.metrics.{file.name}")
        for name, value in vars(module).items():
            rows = value if isinstance(value, dict) else {"": value}
            for row, metric in rows.items():
                metric = getattr(metric, "metric", metric)
                if isinstance(metric, Metric) and metric not in found.values():
                    found[f"{name}{row}".lower()] = metric
    return found


EVERY_METRIC = every_metric()
MODELLESS = {"mean_pose"}
FRESH = {"process_memory", "training_step"}  # in processes of their own


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """An energy counter that moves whenever it is read, and no windows to wait for."""
    ticks = itertools.count()
    cpus = SimpleNamespace(
        getTotalEnergyConsumption=lambda i: SimpleNamespace(cpu_mj=float(next(ticks)))
    )
    joules = itertools.cycle([0.0, 1.0])  # idle, then at work
    monitor = SimpleNamespace(
        gpu_indices=[], cpu_indices=[0], cpus=cpus, gpus=None, begin_window=lambda key: None,
        end_window=lambda key: SimpleNamespace(
            time=1.0, gpu_energy={}, cpu_energy={0: next(joules)}
        ),
    )  # fmt: skip
    monkeypatch.setattr(energy, "open_monitor", lambda device: monitor)
    for name in ("IDLE_S", "WORK_S", "_POLL_S"):
        monkeypatch.setattr(energy, name, 1e-3)
    monkeypatch.setattr(energy, "LONGER", 1e6)  # until enough updates were seen


@pytest.mark.parametrize("name", EVERY_METRIC)
def test_metrics(name: str, context: Context, spy: Spy, counter: None) -> None:
    """Every metric of inference evaluates, and those of a plan's training cases train."""
    metric = EVERY_METRIC[name]
    case = replace(CASE, motion=context.motion.name)
    assert metric.measure(case, context)
    passes = spy.passes()
    expected = TRAINING if metric.of in ("trainable", "training") else INFERENCE
    assert {one[:2] for one in passes} == (expected if name not in MODELLESS else set())
    if name in FRESH:
        assert os.getpid() not in {one.process for one in passes}


def test_counting_convolutions(context: Context, spy: Spy) -> None:
    """A host with convolutions is built a second time, with values."""
    sizes = (("depth", 3), ("heads", 2), ("width", 16))
    case = Case(host="mhformer", frames=27, pipeline="seq2frame", options=sizes)
    METRICS["counts"].measure(case, context)
    assert spy.modes() == INFERENCE


def test_bytes_moved(spy: Spy) -> None:
    case_traffic(CASE)
    assert spy.modes() == INFERENCE


def test_the_self_checks_model(spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "_ROUNDS", 1)
    monkeypatch.setattr(self_check, "_TIMEOUT_S", 0.0)
    assert list(self_check.probe_cost("cpu"))
    assert spy.modes() == INFERENCE


# --- commands


def test_latency(
    spy: Spy, tmp_path: Path, motion_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the processes that are timed; here of the baseline alone, and without other metrics."""
    for name in list(METRICS):
        monkeypatch.delitem(METRICS, name)
    records = tmp_path / "records.jsonl"
    more = ["--motion", str(motion_file), "--threads", "1", "--store", str(records)]
    assert main(["run", *OWN, "--scheme", "none", "--rounds", "1", *more]) == 0
    assert {r.status for r in store.read(records) if r.metric == "latency_s"} == {"ok"}
    passes = spy.passes()
    assert {one[:2] for one in passes} == INFERENCE
    assert os.getpid() not in {one.process for one in passes}


@pytest.mark.parametrize(
    "command",
    [
        ["count", *PRUNED],
        ["count", "--modules", *PRUNED],
        ["profile", "--passes", "1", *PRUNED],
        ["runtimes", "--rounds", "1", "--runtime", "packed", "bf16", *PRUNED],
        ["streaming", "--rounds", "1", "--seconds", "0.1", "--fps", "500", *PRUNED],
        ["evaluate", "--data", "generated", "--limit", "1", "--untrained", *PRUNED],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_commands(spy: Spy, command: list[str], tmp_path: Path, motion_file: Path) -> None:
    if command[0] in ("profile", "runtimes", "streaming"):
        command = [*command, "--motion", str(motion_file), "--threads", "1"]
    if command[0] not in ("count", "profile"):
        command = [*command, "--store", str(tmp_path / "records.jsonl")]
    assert main(command) == 0
    assert spy.modes() == INFERENCE


def test_lifting_a_file(spy: Spy, tmp_path: Path) -> None:
    path = tmp_path / "keypoints.npz"
    points = np.random.default_rng(0).uniform(100, 400, (30, 17, 2))
    np.savez(path, keypoints=points, width=640, height=480)
    assert main(["lift", str(path), str(tmp_path / "poses.npz"), "--untrained", *PRUNED]) == 0
    assert spy.modes() == INFERENCE


def test_training_evaluates_in_between(spy: Spy, tmp_path: Path, motion_file: Path) -> None:
    data = ["--data", f"motion:{motion_file}", "--out", str(tmp_path / "out")]
    assert main(["train", *data, "--epochs", "1", "--batch", "64", *PRUNED]) == 0
    assert spy.modes() == TRAINING | INFERENCE


# --- processes of the gate


@pytest.mark.parametrize(
    ("kind", "expected"), [("counts", INFERENCE), ("memory", TRAINING), ("sampled", INFERENCE)]
)
def test_the_gates_worker(spy: Spy, kind: str, expected: set[Any]) -> None:
    measured = gate_worker.Measured()
    measured.begin(str(Path(bench.__file__).parents[1]))
    if kind == "sampled":
        assert len(measured.time(CASE.to_json(), passes=2)["seconds"]) == 2
    else:
        records = measured.measure(kind, CASE.to_json())["records"]
        assert {record["status"] for record in records} == {"ok"}
    assert spy.modes() == expected
