"""Energy per frame, on a made-up counter and clock."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from bench.cli import main
from bench.data.windows import MotionSource
from bench.metrics import energy
from bench.metrics.base import NotApplicable, Reading
from bench.metrics.energy import IDLE_S, LONGER, MIN_UPDATES, WINDOWS, WORK_S
from bench.models.context import Context
from bench.records import store
from bench.records.case import Case
from bench.scenarios.energy import run as run_energy
from bench.timing import clock
from reports.build import build

MOTION = MotionSource.generated(frames=54)
CONTEXT = Context(MOTION)
CASE = Case(
    host="mixste", frames=9, options=(("depth", 1), ("heads", 2), ("width", 16)),
    motion=MOTION.name,
)  # fmt: skip


class Machine:
    """A clock, a pass that takes so long, and a counter of so many watts that moves in steps."""

    def __init__(
        self, patch: pytest.MonkeyPatch, *, idle_w: float = 50.0, work_w: float = 250.0,
        pass_s: float = 0.1, update_s: float = 0.02,
    ) -> None:  # fmt: skip
        self.time, self.joules, self.busy = 0.0, 0.0, False
        self.watts = {False: idle_w, True: work_w}
        self.update_s = update_s
        self.shown, self.shown_at = 0.0, 0.0
        self.windows: dict[str, tuple[float, float]] = {}
        patch.setattr(clock, "now", lambda: self.time)
        patch.setattr(clock, "wait_until", lambda moment: self.spend(moment - self.time, False))
        patch.setattr(energy, "_work", lambda case, context: lambda: self.spend(pass_s, True))
        patch.setattr(energy, "open_monitor", lambda device: self.monitor(device))

    def spend(self, seconds: float, busy: bool) -> None:
        self.time += seconds
        self.joules += seconds * self.watts[busy]
        if self.time - self.shown_at >= self.update_s - 1e-9:
            self.shown, self.shown_at = self.joules, self.time

    def monitor(self, device: str) -> Any:
        own = [0] if device == "cuda" else []
        return SimpleNamespace(
            gpu_indices=own,
            cpu_indices=[] if own else [0],
            gpus=SimpleNamespace(
                supportsGetTotalEnergyConsumption=lambda i: True,
                getTotalEnergyConsumption=lambda i: 1e3 * self.shown,
            ),
            cpus=SimpleNamespace(
                getTotalEnergyConsumption=lambda i: SimpleNamespace(cpu_mj=1e3 * self.shown)
            ),
            begin_window=lambda key: self.windows.__setitem__(key, (self.time, self.shown)),
            end_window=lambda key: self.ended(key, device),
        )

    def ended(self, key: str, device: str) -> Any:
        begin, before = self.windows.pop(key)
        taken = {0: self.shown - before}
        gpu, cpu = (taken, None) if device == "cuda" else ({}, taken)
        return SimpleNamespace(time=self.time - begin, gpu_energy=gpu, cpu_energy=cpu)


def taken(case: Case = CASE) -> Reading:
    (reading,) = energy.measure(case, CONTEXT)
    assert (reading.metric, reading.unit) == ("energy_per_frame_j", "J")
    return reading


@pytest.mark.parametrize(
    ("changes", "frames"), [({}, 9), ({"pipeline": "seq2frame"}, 1), ({"batch": 4}, 36)]
)
def test_joules_per_output_frame_beyond_idling(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], frames: int
) -> None:
    Machine(monkeypatch)
    reading = taken(replace(CASE, **changes))
    # 200 W more than idling for 0.1 s per pass.
    assert reading.values == pytest.approx([20 / frames] * WINDOWS, rel=0.02)
    assert reading.protocol["idle_w"] == pytest.approx([50] * WINDOWS, rel=0.02)
    assert reading.protocol["passes"] == [pytest.approx(WORK_S / 0.1, abs=1)] * WINDOWS
    assert min(reading.protocol["updates"]) >= MIN_UPDATES
    assert reading.protocol["counter"] == "RAPL, CPU packages"


def test_a_gpus_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    reading = taken(replace(CASE, device="cuda"))
    assert reading.values == pytest.approx([20 / 9] * WINDOWS, rel=0.02)
    assert reading.protocol["counter"] == "NVML, GPU"


@pytest.mark.parametrize(
    ("update_s", "window"), [(LONGER * IDLE_S / 9, "idle"), (1000.0, "idle"), (IDLE_S / 3, "")]
)
def test_a_window_with_few_updates_is_refused(
    monkeypatch: pytest.MonkeyPatch, update_s: float, window: str
) -> None:
    Machine(monkeypatch, update_s=update_s)
    if not window:
        assert min(taken().protocol["updates"]) >= 10
        return
    with pytest.raises(NotApplicable, match=rf"updated \d times in .* \({window}\); at least 10"):
        taken()


def test_long_passes_hide_updates_and_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, pass_s=2.0)  # a change is seen once per pass
    reading = taken()
    assert reading.protocol["passes"] == [10] * WINDOWS
    assert reading.values == pytest.approx([400 / 9] * WINDOWS, rel=0.02)
    Machine(monkeypatch, pass_s=4.0)
    with pytest.raises(NotApplicable, match=r"updated 8 times in a window of 32 s \(work\)"):
        taken()


def test_work_that_takes_no_more_than_idling_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, idle_w=100.0, work_w=90.0)
    with pytest.raises(NotApplicable, match=r"working took 9\d.* W and idling \d.* W, so"):
        taken()


def test_without_a_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    none = SimpleNamespace(gpu_indices=[], cpu_indices=[], gpus=None, cpus=None)
    monkeypatch.setattr(energy, "open_monitor", lambda device: none)
    with pytest.raises(NotApplicable, match="no energy counter here; it needs RAPL"):
        taken()
    old = machine.monitor("cuda")
    old.gpus.supportsGetTotalEnergyConsumption = lambda i: False
    with pytest.raises(NotApplicable, match="no energy counter; it needs Volta or newer"):
        energy.Counter(old, "cuda")
    if not torch.cuda.is_available():
        with pytest.raises(NotApplicable, match="no CUDA device"):
            taken(replace(CASE, device="cuda"))


def test_without_zeus_the_record_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "zeus", None)
    monkeypatch.setitem(sys.modules, "zeus.monitor", None)
    path = tmp_path / "records.jsonl"
    reason = "Zeus is not installed: pip install -e '.[energy]'"
    assert run_energy([CASE], path, CONTEXT, quiet=True) == [f"skipped: {reason}"]
    (record,) = store.read(path)
    assert (record.metric, record.status, record.reason) == (
        "energy_per_frame_j", "skipped", reason,
    )  # fmt: skip
    sizes = "--frames 9 --scheme none --option width=16 --option depth=2 --option heads=2"
    assert main(["energy", "--device", "cpu", *sizes.split(), "--store", str(path)]) == 1
    assert reason in capsys.readouterr().err


def test_the_work_is_a_pass_on_real_motion() -> None:
    poses = energy._work(replace(CASE, batch=2), CONTEXT)()
    assert poses.shape == (2, 9, 17, 3)
    assert bool(torch.isfinite(poses).all())


def test_the_section_of_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch)
    path = tmp_path / "records.jsonl"
    assert run_energy([CASE], path, CONTEXT, quiet=True) == []
    report = build(path, tmp_path / "out").read_text()
    assert report.count("## Energy") == 1
    assert "## Further configurations" not in report
    (line,) = pd.read_csv(tmp_path / "out" / "energy.csv").to_dict("records")
    assert line["mJ per output frame"] == pytest.approx(2.0e4 / 9, rel=0.02)
    assert line["counter"] == "RAPL, CPU packages"
