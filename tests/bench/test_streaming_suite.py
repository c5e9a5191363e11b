"""Streaming latency: on a clock of its own, and end to end on tiny models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

import h2ot_core
from bench.cli import main
from bench.data.windows import MotionSource
from bench.models.context import Context
from bench.records import store
from bench.records.case import Case
from bench.records.errors import UsageError
from bench.records.record import Record
from bench.scenarios import streaming
from bench.scenarios.stream_driver import paced, queue_frames, unpaced
from bench.scenarios.streaming import Plan, Row, default_rows, rows_of
from bench.timing import clock as timing
from reports.build import build

CPU = torch.device("cpu")
FRAMES = torch.zeros(40, 17, 2)
MOTION = MotionSource.generated(frames=60)
TINY = {"depth": 3, "heads": 2, "width": 16}
BASE = Case(host="mixste", frames=9, options=tuple(sorted(TINY.items())), motion=MOTION.name)
H2OT = replace(BASE, prune="tps", recover="tri", r=(5, 3), b=(0, 2))


class Clock:
    """Stands in the place of ``bench.timing.clock``'s: moves only when told to."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.time = 100.0
        patch.setattr(timing, "now", lambda: self.time)
        patch.setattr(timing, "wait_until", self.wait_until)
        patch.setattr(timing, "time_call", self.time_call)

    def wait_until(self, moment: float) -> None:
        self.time = max(self.time, moment)

    def time_call(self, work: Callable[[], object], device: torch.device) -> float:
        before = self.time
        work()
        return self.time - before


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Fake:
    """A stream whose passes take so long, in seconds; the last duration goes on for ever."""

    def __init__(self, clock: Clock, hop: int, delay: int, *durations: float) -> None:
        self.clock, self.hop, self.delay = clock, hop, delay
        self.durations = list(durations)
        self.taken = self.given = 0

    def push(self, frame: Tensor) -> list[tuple[int, Tensor]]:
        self.taken += 1
        due = self.taken - self.delay
        if due < self.hop or due % self.hop:
            return []
        self.clock.time += self.durations.pop(0) if len(self.durations) > 1 else self.durations[0]
        told = [(index, frame) for index in range(self.given, due)]
        self.given = due
        return told


# --- with a camera -----------------------------------------------------------------------------


def test_a_pipeline_that_keeps_up(clock: Clock) -> None:
    run = paced(Fake(clock, 1, 4, 0.015), FRAMES, CPU, fps=50, seconds=0.5)  # type: ignore[arg-type]
    assert run.latencies_s == pytest.approx([0.015] * 25)
    assert run.delays == [4] * 25
    assert (run.due, run.late, run.dropped, run.passes) == (25, 0, 0, 25)
    assert clock.time == pytest.approx(100 + 24 / 50 + 0.015)


def test_windows_side_by_side(clock: Clock) -> None:
    run = paced(Fake(clock, 5, 0, 0.09), FRAMES, CPU, fps=50, seconds=0.4)  # type: ignore[arg-type]
    # The pass takes longer than a frame, less than a hop; what waits for it is pushed at once.
    assert run.latencies_s == pytest.approx([0.09] * 20)
    assert run.delays == [4, 3, 2, 1, 0] * 4
    assert (run.due, run.late, run.dropped, run.passes) == (20, 0, 0, 4)


def test_one_slow_pass_delays_those_behind_it(clock: Clock) -> None:
    fake = Fake(clock, 1, 0, 0.05, 0.01)
    run = paced(fake, FRAMES, CPU, fps=50, seconds=0.2)  # type: ignore[arg-type]
    assert run.latencies_s == pytest.approx([0.05, 0.04, 0.03, 0.02, *[0.01] * 6])
    assert run.late in (3, 4)  # 0.02 is due to the last digit
    assert (run.due, run.dropped) == (10, 0)


def test_a_pipeline_that_falls_behind_drops_the_oldest(clock: Clock) -> None:
    fake = Fake(clock, 1, 2, 1.0)
    run = paced(fake, FRAMES, CPU, fps=10, seconds=4)  # type: ignore[arg-type]
    # 10 frames come per pass and 10 may wait: after the first pass frames 1 to 10 wait, after
    # the second, of frame 1, so do 11 to 20, and 2 to 10 are gone, and so on.
    assert queue_frames(1, 10) == 10
    assert run.passes == 4
    assert run.latencies_s == pytest.approx([1.0, 1.9, 1.9, 1.9], abs=0.11)
    assert run.dropped + run.passes == run.due == 4 + run.dropped
    assert run.late == 4
    assert 17 <= run.dropped <= 29
    assert run.delays[0] == 2
    assert run.delays[-1] > 10  # in frames of the video, not in those that were lifted
    assert clock.time == pytest.approx(104.0, abs=1.0)  # the video's length, not its work


def test_a_video_is_as_long_as_a_window(clock: Clock) -> None:
    run = paced(Fake(clock, 30, 0, 0.1), FRAMES, CPU, fps=50, seconds=0.1)  # type: ignore[arg-type]
    assert (run.passes, run.due) == (1, 30)


def test_without_a_camera(clock: Clock) -> None:
    run = unpaced(Fake(clock, 3, 1, 0.5), FRAMES, CPU, seconds=0.1)  # type: ignore[arg-type]
    assert run.latencies_s == [0.5] * 6  # two windows at the least
    assert run.delays == [3, 2, 1] * 2
    assert (run.late, run.dropped) == (0, 0)
    longer = unpaced(Fake(clock, 1, 0, 0.5), FRAMES, CPU, seconds=25)  # type: ignore[arg-type]
    assert longer.passes == 50 > len(FRAMES)


# --- rows --------------------------------------------------------------------------------------


def test_the_default_rows() -> None:
    rows = default_rows()
    kinds = [(r.case.pipeline, r.hop, r.delay, r.case.prune, r.case.recover) for r in rows]
    schemes = [(None, None), ("tpc", "tra"), ("tps", "tri")]
    assert kinds == [
        ("seq2frame", 1, None, None, None),
        ("seq2frame", 1, None, "tpc", None),
        ("seq2frame", 1, None, "tps", None),
        ("seq2frame", 1, 0, "tps", None),
        *[("seq2seq", hop, None, *scheme) for hop in (243, 81, 27) for scheme in schemes],
    ]
    assert len({(r.case, r.group(50)) for r in rows}) == len({r.label for r in rows}) == len(rows)
    assert rows[0].group(None) != rows[0].group(50)


def test_rows_of_other_hosts_and_sizes() -> None:
    assert {r.case.pipeline for r in default_rows("mhformer")} == {"seq2frame"}
    sizes = {**TINY, "depth": 5}
    small = default_rows("mixste", 27, sizes, [9])
    assert {r.case.options for r in small} == {tuple(sorted(sizes.items()))}
    assert {(r.case.frames, r.hop) for r in small} == {(27, 1), (27, 9)}
    with pytest.raises(h2ot_core.ConfigError, match="mixst"):
        default_rows("mixst")
    own = rows_of([BASE, H2OT, BASE], [3])
    assert own == [Row(case=BASE, hop=3), Row(case=H2OT, hop=3)]


# --- records -----------------------------------------------------------------------------------

CENTRE = replace(BASE, pipeline="seq2frame")
ROWS = (Row(case=CENTRE), Row(case=H2OT, hop=9), Row(case=H2OT, hop=3))
PLAN = Plan(rows=ROWS, fps=1000.0, seconds=0.02, rounds=2)


def take(path: Path, plan: Plan = PLAN) -> list[Record]:
    streaming.run(plan, path, Context(MOTION), quiet=True)
    return store.read(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams") / "records.jsonl"
    take(path)
    return path


def test_everything_is_recorded_once(finished: Path) -> None:
    records = store.read(finished)
    wanted = {
        (row.case, metric, row.group(fps), part)
        for row in ROWS
        for part in (0, 1)
        for fps in (None, 1000.0)
        for metric in streaming.READINGS
        if fps or metric != "stream_late_share"
    }
    assert {r.identity for r in records} == wanted
    assert len(records) == len(wanted)
    assert {r.status for r in records} == {"ok"}
    by_part = [(r.part, r.case, r.group) for r in records]
    first = [w for w in dict.fromkeys(by_part) if w[0] == 0 and "unpaced" in w[2]]
    second = [w for w in dict.fromkeys(by_part) if w[0] == 1 and "unpaced" in w[2]]
    assert [w[1:] for w in first] == [w[1:] for w in second][::-1]


def test_what_the_records_say(finished: Path) -> None:
    by = {r.identity: r for r in store.read(finished)}
    waits = {ROWS[0]: {4.0}, ROWS[1]: set(range(9)), ROWS[2]: {0, 1, 2}}
    for row in ROWS:
        group = row.group(None)
        latency = by[row.case, "stream_latency_s", group, 0]
        delay = by[row.case, "stream_delay_frames", group, 0]
        assert len(latency.values) == len(delay.values) == row.hop * latency.protocol["passes"]
        assert set(delay.values) == waits[row]
        assert min(latency.values) > 0
        assert (latency.unit, delay.unit) == ("s", "frame")
        share = by[row.case, "stream_late_share", row.group(1000.0), 0]
        assert share.labels == ("late", "dropped")
        assert all(0 <= value <= 1 for value in share.values)
        assert share.protocol["queue_frames"] == 1000


def test_a_finished_table_has_nothing_left_to_do(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = finished.read_bytes()
    monkeypatch.setattr(streaming, "unpaced", lambda *_, **__: pytest.fail("measured again"))
    take(finished)
    assert finished.read_bytes() == before


def test_a_row_that_fails_says_so_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(h2ot_core.Stream):
        def push(self, frame: Tensor) -> list[tuple[int, Tensor]]:
            if self.hop == 9:
                raise torch.OutOfMemoryError("no room\nfor it")
            return super().push(frame)

    monkeypatch.setattr(h2ot_core, "Stream", Broken)
    path = tmp_path / "records.jsonl"
    records = take(path)
    failed = [r for r in records if r.status != "ok"]
    assert {(r.status, r.reason, r.group.split("-")[1]) for r in failed} == {
        ("oom", "no room", "hop9")
    }
    assert len(failed) == 5  # two readings without a camera, three with, in the first round
    assert take(path) == records


def test_what_cannot_be_measured(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with pytest.raises(UsageError, match="fps and seconds must be above 0"):
        replace(PLAN, fps=0.0)
    mixed = (ROWS[0], replace(ROWS[1], case=replace(H2OT, threads=1)))
    with pytest.raises(UsageError, match="must share device and threads"):
        take(path, replace(PLAN, rows=mixed))
    empty = MotionSource("none", "", lambda split: [], MOTION.noise)
    with pytest.raises(UsageError, match=r"no camera sees any clip of none whole"):
        streaming.run(PLAN, path, Context(empty), quiet=True)
    if not torch.cuda.is_available():
        there = tuple(replace(row, case=replace(row.case, device="cuda")) for row in ROWS)
        with pytest.raises(UsageError, match="no CUDA device here; use --device cpu"):
            take(path, replace(PLAN, rows=there))


# --- report and command ------------------------------------------------------------------------


def stream_records(hop: int, latencies: list[float], share: tuple[float, float]) -> list[Record]:
    machine = {
        "fingerprint": "f", "system": "Plan 9 z80", "cpu": "Abacus", "cores": 3,
        "memory_bytes": 2**32, "threads": 3, "python": "3.99", "torch": "9.9", "numpy": "9",
        "gpu": "", "driver": "", "commit": "abc123", "dirty": False,
    }  # fmt: skip
    delays = tuple(float(hop - 1 - i % hop) for i in range(len(latencies)))
    found = []
    for pace in (False, True):
        protocol = {
            "hop": hop, "delay": 0, "fps": 50.0, "paced": pace, "frames": len(latencies),
            "passes": len(latencies) // hop,
        }  # fmt: skip
        given = {"case": H2OT, "group": f"{hop} {pace}", "protocol": protocol}
        series: list[tuple[str, str, tuple[float, ...]]] = [
            ("stream_latency_s", "s", tuple(v * (1 + pace) for v in latencies)),
            ("stream_delay_frames", "frame", delays),
        ]
        if pace:
            series.append(("stream_late_share", "1", share))
        found += [
            Record(metric=m, unit=u, values=v, environment=machine, session="s", **given)  # type: ignore[arg-type]
            for m, u, v in series
        ]
    return found


def test_the_section_of_the_report(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    steady = stream_records(1, [0.001 * i for i in range(1, 201)], (0.01, 0.0))
    slow = stream_records(3, [0.2] * 30, (0.5, 0.25))
    with store.open_store(path, environment="f", note=[]) as opened:
        opened.append([*steady, *slow])
    report = build(path, tmp_path / "out").read_text()
    assert report.count("## Streaming latency") == 1
    assert "## Further configurations" not in report
    assert (tmp_path / "out" / "streaming.png").is_file()
    sheet = pd.read_csv(tmp_path / "out" / "streaming.csv", dtype=str)
    first, second = (SimpleNamespace(**dict(enumerate_row(line))) for _, line in sheet.iterrows())
    assert (first.hop, second.hop) == ("1", "3")
    assert first.compute == "101, 198"
    assert first.latency == "201, 396"
    assert first.frame == "201, 396, 400"
    assert first.delay == "0.0, 0.0"
    assert (first.late, first.dropped, first.keeps) == ("1.0%", "0.0%", "yes")
    assert second.compute == "200, ≥ 200"
    assert second.frame == "420, ≥ 440, 440"
    assert (second.late, second.dropped, second.keeps) == ("50.0%", "25.0%", "no")


def enumerate_row(line: pd.Series[Any]) -> list[tuple[str, str]]:
    """Columns by their first word."""
    return [(str(name).split(" ")[0].strip(","), value) for name, value in line.items()]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "r.jsonl", tmp_path / "out"
    sizes = " ".join(f"--option {name}={value}" for name, value in TINY.items())
    words = f"streaming --scheme h2ot --frames 9 {sizes} --hop 9 3 --r 5 3 --b 0 2 --rounds 1"
    words += f" --seconds 0.05 --fps 200 --threads 1 --report --store {path} --out {out}"
    assert main(words.split()) == 0, capsys.readouterr().err
    assert "## Streaming latency" in (out / "ablation.md").read_text()
    kinds = {(r.case.prune, r.protocol["hop"]) for r in store.read(path)}
    assert kinds == {(None, 9), (None, 3), ("tps", 9), ("tps", 3)}
    with pytest.raises(SystemExit, match="2"):
        main(["streaming", "--fps", "0", "--store", str(path)])
    assert "--fps: must be above 0" in capsys.readouterr().err
