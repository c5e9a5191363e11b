"""Accuracy of the trunk: the same views for every row, and what may be said of differences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from watched import Spy

import h2ot_core
from bench.cli import main
from bench.data.windows import MotionSource
from bench.metrics import accuracy as metric
from bench.metrics.base import NotApplicable
from bench.models.context import Context
from bench.models.supernet import SHIPPED, Supernet, open_supernet
from bench.records import store
from bench.records.case import Case
from bench.records.record import Record
from bench.scenarios import accuracy
from bench.train import scale
from h2ot_core import weights
from h2ot_core.elastic import Elastic
from reports.accuracy import collect_accuracy, divide, unlearned
from reports.build import build
from reports.paired import difference, ordering


@pytest.fixture(scope="module")
def motion() -> MotionSource:
    return MotionSource.generated(frames=300)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Supernet:
    """Small, untrained, and with no weight at zero."""
    torch.manual_seed(0)
    model = Elastic("mixste", frames=243, width=8, heads=2, depth=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    path = tmp_path_factory.mktemp("trunk") / "trunk.safetensors"
    card = {
        "step": 3, "curve": [{"step": 3, "loss": 1.0, "mpjpe_mm": 100.0}], "seconds": 120,
        "recipe": {"seed": 0, "optimizer": "adamw", "rate": 1e-3, "weight_decay": 0.1},
        "feed": {"data": "generated", "detector": "d", "ladder": [[0.5, 3, 48]]},
        "validation_clips": ["a"],
    }  # fmt: skip
    weights.save(model, path, card)
    return open_supernet(path)


def _case(**changes: Any) -> Case:
    options = (("depth", 8), ("heads", 2), ("width", 8))
    base = Case(host="mixste", frames=243, options=options, motion="generated:0:300")
    return replace(base, **changes)


H2OT = {"prune": "tps", "recover": "tri", "r": (121, 81), "b": (0, 3)}


def test_errors_are_those_of_lifting_the_views_one_by_one(
    motion: MotionSource, trunk: Supernet
) -> None:
    context = Context(motion, supernet=trunk, view_limit=3)
    for case in (_case(), _case(**H2OT), _case(frames=105)):
        readings = {r.metric: r for r in metric.accuracy(case, context)}
        model = trunk.build(case)
        for i, window in enumerate(motion.windows(243, limit=3)):
            poses = h2ot_core.lift(model, torch.tensor(window.input))
            poses[:, 0] = 0
            target = torch.tensor(window.target)
            expected = (poses - target).norm(dim=-1).mean() * 1000
            assert readings["trunk_mpjpe_mm"].values[i] == pytest.approx(float(expected), rel=1e-5)
            moved = (poses.diff(dim=0) - target.diff(dim=0)).norm(dim=-1).mean() * 1000
            assert readings["trunk_mpjve_mm"].values[i] == pytest.approx(float(moved), rel=1e-4)


def test_frame_noise_is_that_of_the_kept_frames(motion: MotionSource, trunk: Supernet) -> None:
    context = Context(motion, supernet=trunk, view_limit=2)
    pruned = {r.metric: r for r in metric.accuracy(_case(**H2OT), context)}
    windows = motion.windows(243, limit=2)
    kept = trunk.build(_case(**H2OT)).run(torch.tensor(windows[0].input)[None]).selections[-1].index
    for value, window in zip(pruned["trunk_frame_noise_px"].values, windows, strict=True):
        noise = np.linalg.norm(window.detected_px - window.clean_px, axis=-1).mean(axis=-1)
        assert value == pytest.approx(noise[kept[0].numpy()].mean(), rel=1e-5)


def test_every_frame_rate_sees_the_same_stretch() -> None:
    motion = MotionSource.generated(frames=1000)
    whole = metric.views(motion, 969, limit=2)
    for step, frames in ((1, 969), (2, 485), (3, 323), (4, 243)):
        seen = metric.views(motion, frames, limit=2, step=step)
        assert seen.x.shape[1] == frames
        assert torch.equal(seen.x, whole.x[:, ::step])
        assert seen.clips == whole.clips


def test_what_cannot_be_measured_says_why(motion: MotionSource, trunk: Supernet) -> None:
    with pytest.raises(NotApplicable, match="no supernet"):
        metric.accuracy(_case(), Context(motion))
    with pytest.raises(NotApplicable, match="not the motion at hand"):
        metric.accuracy(_case(motion="other"), Context(motion, supernet=trunk))
    with pytest.raises(h2ot_core.ConfigError, match="the supernet is"):
        trunk.build(_case(options=()))
    short = MotionSource.generated(frames=100)
    with pytest.raises(NotApplicable, match="no window of 243 frames"):
        metric.accuracy(_case(motion=short.name), Context(short, supernet=trunk))


def test_the_mean_pose_is_what_knowing_nothing_gives(motion: MotionSource, trunk: Supernet) -> None:
    (reading,) = metric.mean_pose(_case(), Context(motion, supernet=trunk, view_limit=4))
    train = motion.windows(243, split="train", subject="S1")
    mean = np.mean([w.target for w in train], axis=(0, 1))
    first = motion.windows(243, limit=4)[0].target
    assert reading.values[0] == pytest.approx(
        1000 * np.linalg.norm(first - mean, axis=-1).mean(), rel=1e-5
    )


def test_a_session_resumes_and_reports(
    tmp_path: Path, motion: MotionSource, trunk: Supernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [c for c in accuracy.table_cases(_session(motion, trunk)) if c.frames == 243][:3]
    monkeypatch.setattr(accuracy, "table_cases", lambda session: few)
    path = tmp_path / "records.jsonl"
    session = _session(motion, trunk)
    accuracy.run(session, path, quiet=True)
    before = path.read_bytes()
    accuracy.run(session, path, quiet=True)
    assert path.read_bytes() == before
    more = replace(session, views=4)
    accuracy.run(more, path, quiet=True)
    records = store.read(path)
    errors = [r for r in records if r.metric == "trunk_mpjpe_mm"]
    assert sorted(len(r.values) for r in errors) == [2, 2, 2, 4, 4, 4]
    found = collect_accuracy(records)
    assert found is not None
    assert found.about["views"] == 4
    assert found.values(Case(host="mixste", frames=243)) == errors[3].values
    own, others = divide(records)
    assert len(own) == len(records)
    assert not others
    text = build(path, tmp_path / "out").read_text()
    assert "## Accuracy of one supernet under every schedule" in text
    assert "generated motion (seed 0:300), supernet of width 8 trained for 3 steps" in text
    mean = sum(errors[3].values) / 4
    assert f"**{mean:.2f}**" in text
    assert (tmp_path / "out" / "accuracy.png").is_file()


def _session(motion: MotionSource, trunk: Supernet) -> accuracy.Plan:
    return accuracy.Plan(motion=motion, trunk=trunk, views=2, rates=False, figures=False, rounds=1)


def test_the_sessions_rows_are_the_papers(motion: MotionSource, trunk: Supernet) -> None:
    cases = accuracy.table_cases(_session(motion, trunk))
    assert len(cases) == 31
    assert {c.options for c in cases} == {(("depth", 8), ("heads", 2), ("width", 8))}
    rates = accuracy.rate_cases(_session(motion, trunk), motion)
    assert [c.motion.rpartition("@")[2] for c in rates[::2]] == ["1/1", "1/2", "1/3", "1/4"]


def test_weights_that_have_not_learned_tra_are_called_so() -> None:
    def record(case: Case, values: tuple[float, ...]) -> Record:
        about = {"weights": "w", "clips": ["a", "b"], "actions": ["x", "x"], "views": 2}
        about |= {"steps": 1, "frames": 243, "description": "", "step": 1}
        return Record(
            case=case, metric="trunk_mpjpe_mm", unit="mm", values=values, group="w/all",
            protocol=about,
        )  # fmt: skip

    hot = _case(prune="tpc", recover="tra", r=(81,), b=(3,))
    for error, warned in ((60.0, False), (120.0, True)):
        found = collect_accuracy([record(_case(), (50.0, 50.0)), record(hot, (error, error))])
        assert found is not None
        assert ("TRA is not learned" in unlearned(found)) is warned


# Statistics of pairs, against hand-made and known truth.


def test_a_constant_difference_has_no_interval() -> None:
    base = [10.0, 20.0, 30.0, 40.0]
    gap = difference([v + 1.5 for v in base], base, ["a", "a", "b", "c"])
    assert (gap.mean, gap.low, gap.high) == pytest.approx((1.5, 1.5, 1.5))
    assert gap.detectable == pytest.approx(0, abs=1e-12)
    assert gap.clips == 3


def test_views_of_one_clip_are_no_new_evidence() -> None:
    rng = np.random.default_rng(0)
    of_clip = rng.normal(size=20)
    ten = np.repeat(of_clip, 10)
    once = difference(of_clip, np.zeros(20), [str(i) for i in range(20)])
    tenfold = difference(ten, np.zeros(200), [str(i) for i in range(20) for _ in range(10)])
    assert tenfold.high - tenfold.low == pytest.approx(once.high - once.low)
    naive = difference(ten, np.zeros(200), [str(i) for i in range(200)])
    assert naive.high - naive.low < 0.5 * (once.high - once.low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    clips = [str(i) for i in range(25) for _ in range(4)]
    hits = 0
    for trial in range(200):
        gaps = 0.3 + np.repeat(rng.normal(size=25), 4) + rng.normal(size=100)
        found = difference(gaps, np.zeros(100), clips, seed=trial)
        hits += found.low <= 0.3 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_a_detectable_difference_is_detected_four_times_in_five() -> None:
    rng = np.random.default_rng(2)
    clips = [str(i) for i in range(30)]
    sizes = [difference(rng.normal(size=30), np.zeros(30), clips).detectable for _ in range(50)]
    effect = float(np.median(sizes))
    found = 0
    for trial in range(200):
        gap = difference(effect + rng.normal(size=30), np.zeros(30), clips, seed=trial)
        found += gap.low > 0
    assert 0.72 <= found / 200 <= 0.9


def test_the_ordering_is_judged_pair_by_pair() -> None:
    clips = [str(i) for i in range(30)]
    noise = np.random.default_rng(3).normal(size=(3, 30)) * 0.1
    low, middle, high = (tuple(v + n) for v, n in zip((1.0, 2.0, 3.0), noise, strict=True))
    same = ordering([40.0, 41.0, 42.0], [low, middle, high], clips)
    assert (same.holds, same.reversed, same.open) == (3, 0, 0)
    assert same.verdict == "holds on this data"
    other = ordering([40.0, 41.0, 42.0], [high, middle, low], clips)
    assert other.reversed == 3
    assert other.verdict == "does not hold on this data"
    alike = tuple(v + 0.001 * (-1) ** i for i, v in enumerate(low))
    unclear = ordering([40.0, 41.0], [low, alike], clips)
    assert unclear.open == 1
    assert unclear.verdict == "cannot be decided on this data"
    tie = ordering([40.0, 40.0], [low, high], clips)
    assert (tie.holds, tie.reversed, tie.open) == (0, 0, 0)


def test_differences_need_the_same_views() -> None:
    with pytest.raises(ValueError, match="errors of"):
        difference([1.0], [1.0, 2.0], ["a"])


# Full size from scratch, here with small sizes.


def test_scratch_rows_train_in_parts_and_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spy: Spy
) -> None:
    motion = MotionSource.generated(frames=40)
    options = (("depth", 2), ("heads", 2), ("width", 8))
    small = Case(host="mixste", frames=27, options=options, motion=motion.name)
    rows = [small, replace(small, prune="tps", recover="tri", r=(13, 9), b=(0, 1))]
    monkeypatch.setattr(scale, "scale_cases", lambda hosts, device, name: rows)
    arguments: dict[str, Any] = {
        "hosts": ["mixste"], "folder": tmp_path / "runs", "store_path": tmp_path / "r.jsonl",
        "device": "cpu",
    }  # fmt: skip
    budget = scale.Budget(steps=10, batch=2, precision="32-true")
    assert not scale.run(motion, budget, stop_after_s=1e-9, **arguments)
    assert scale.run(motion, budget, **arguments)
    records = store.read(tmp_path / "r.jsonl")
    assert [(r.metric, r.status, r.part) for r in records] == [("scratch_mpjpe_mm", "ok", 0)] * 2
    text = build(tmp_path / "r.jsonl", tmp_path / "out").read_text()
    assert "## Full-size hosts trained from scratch" in text
    assert "10 steps of 2 windows (20 clips)" in text
    assert spy.modes() == {(True, True), (False, False)}  # of training, and of measuring


# The command line.


def test_the_command_measures_reports_and_writes_the_card(
    tmp_path: Path, trunk: Supernet, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    real = accuracy.table_cases
    monkeypatch.setattr(accuracy, "table_cases", lambda session: real(session)[:2])
    path = tmp_path / "trunk.safetensors"
    weights.save(trunk.model, path, dict(trunk.card))
    command = ["accuracy", "--trunk", str(path), "--quick", "--views", "2", "--report"]
    command += ["--store", str(tmp_path / "r.jsonl"), "--out", str(tmp_path / "out")]
    assert main([*command, "--card", str(tmp_path / "card.md")]) == 0
    told = capsys.readouterr().out
    assert "report:" in told
    assert "model card:" in told
    card = (tmp_path / "card.md").read_text()
    assert "3 steps, 2 minutes" in card
    missing = ["accuracy", "--trunk", str(tmp_path / "none.safetensors")]
    assert main(missing) == 2
    assert "no weight file" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert main(["accuracy", "--scale", "paper"]) == 2
        assert "no CUDA device" in capsys.readouterr().err


# The shipped trunk.


def test_the_shipped_trunk_loads_and_says_what_it_is() -> None:
    found = open_supernet()
    assert SHIPPED.stat().st_size <= 10 * 2**20
    assert found.model.frames == 243
    assert 64 <= found.model.sizes["width"] <= 128
    assert found.model.sizes["depth"] == 8
    assert SHIPPED.with_suffix(".md").is_file()
    assert found.digest in SHIPPED.with_suffix(".md").read_text()
    names = ("step", "curve", "recipe", "feed", "validation_clips", "seconds")
    assert all(name in found.card for name in names)


@pytest.mark.data
def test_the_shipped_trunk_halves_the_error_of_knowing_nothing(shared_dir: Path) -> None:
    motion = MotionSource.from_file(shared_dir / "data" / "open_mocap_h36m17.npz")
    trunk = open_supernet()
    context = Context(motion, supernet=trunk, view_limit=21)  # one view of each clip
    case = Case(host="mixste", frames=243, options=trunk.options, motion=motion.name)
    errors = {r.metric: np.mean(r.values) for r in metric.accuracy(case, context)}
    (nothing,) = metric.mean_pose(case, context)
    assert errors["trunk_mpjpe_mm"] <= 0.5 * np.mean(nothing.values)


def test_records_of_other_weights_are_never_mixed(motion: MotionSource) -> None:
    def record(weights_: str, group: str, values: tuple[float, ...]) -> Record:
        about = {"weights": weights_, "clips": ["a"] * len(values), "actions": ["x"] * len(values)}
        about |= {"steps": 1, "views": len(values), "frames": 243, "description": "", "step": 1}
        return Record(
            case=_case(), metric="trunk_mpjpe_mm", unit="mm", values=values, group=group,
            protocol=about,
        )  # fmt: skip

    old, new = record("old", "old/all", (1.0, 2.0, 3.0)), record("new", "new/2", (4.0, 5.0))
    found = collect_accuracy([old, new])
    assert found is not None
    assert found.values(Case(host="mixste", frames=243)) == (4.0, 5.0)
    del motion
