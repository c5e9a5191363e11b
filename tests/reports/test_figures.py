"""Figures 7 and 10: what is taken, that it is taken once, and that it can be drawn."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import h2ot_core
from bench.cli import main
from bench.data.readers.motion import save_motion
from bench.data.windows import MotionSource, Window, batch
from bench.metrics.base import NotApplicable, Reading
from bench.metrics.kept_frames import (
    EXCERPT,
    FIGURES,
    SEED,
    SEQUENCES,
    WINDOWS,
    Figure,
    chosen,
    selected_frames,
    skeletons,
)
from bench.models.context import Context
from bench.paper import rows
from bench.records import store
from bench.records.case import Case
from bench.records.record import Record
from bench.scenarios import figures

SIZES = (("depth", 4), ("heads", 2), ("width", 16))
SMALL = Case(
    host="mixste", frames=27, prune="tpmo", recover="tra", r=(9,), b=(2,), options=SIZES
)  # fmt: skip
PRUNERS = ("tpc", "tpa", "tpmo", "tps")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(MotionSource.generated(0, frames=200))


@pytest.fixture
def tiny() -> dict[str, Figure]:
    """The figures, of small cases."""
    seven = tuple(replace(SMALL, prune=prune) for prune in PRUNERS)
    ten = (replace(SMALL, prune="tps", recover="tri", r=(15, 9), b=(0, 2)),)
    return {
        "7": Figure(FIGURES["7"].metric, seven),
        "10": Figure(FIGURES["10"].metric, ten),
    }


Taken = dict[str, tuple[np.ndarray[Any, Any], dict[str, Any]]]


@pytest.fixture(scope="module")
def taken(context: Context) -> Taken:
    """Per pruner the rows of kept frames and what is told of them."""
    found = {}
    for prune in PRUNERS:
        (reading,) = selected_frames(replace(SMALL, prune=prune), context)
        about = dict(reading.protocol)
        assert (reading.metric, reading.unit, reading.labels) == ("selected_frames", "frame", ())
        rows_of = np.array(reading.values).reshape(about["windows"], about["keep"])
        found[prune] = (rows_of, about)
    return found


def _shifted(about: dict[str, Any], context: Context) -> list[Window]:
    """The windows of a record, cut one by one."""
    every = context.motion.windows(about["frames"], stride=1, cameras=[about["camera"]])
    starts = range(about["start"], about["start"] + about["windows"])
    found = [w for w in every if w.clip == about["clip"] and w.start in starts]
    assert [w.start for w in found] == list(starts)
    return found


def _whole(case: Case, x: Tensor, batch_size: int = 2) -> list[list[int]]:
    """The last stage's choice in whole forward passes of the case's own model."""
    torch.manual_seed(SEED)
    model = h2ot_core.build(**case.build_arguments()).eval()
    with torch.inference_mode():
        parts = [
            model.run(part).selections[-1].index.expand(len(part), -1)
            for part in x.split(batch_size)
        ]
    return torch.cat(parts).tolist()


# What is taken


def test_the_cases_are_the_papers() -> None:
    printed = {row.case() for row in rows(2)}
    assert [case.prune for case in FIGURES["7"].cases] == list(PRUNERS)
    assert printed.issuperset(FIGURES["7"].cases)
    (case,) = FIGURES["10"].cases
    usual = h2ot_core.build("mixste", width=4, heads=1, mlp_hidden=4).config
    same = ("host", "frames", "prune", "recover", "r", "b", "pipeline")
    assert {n: getattr(case, n) for n in same} == {n: getattr(usual, n) for n in same}


@pytest.mark.parametrize("prune", PRUNERS)
def test_rows_are_sorted_frames_of_the_window(context: Context, taken: Taken, prune: str) -> None:
    index, about = taken[prune]
    assert index.shape == (WINDOWS, 9) == (140, 9)
    assert index.dtype == np.int64
    assert index.min() >= 0
    assert index.max() < 27
    assert (np.diff(index) > 0).all()
    assert (about["frames"], about["description"]) == (27, context.motion.description)
    assert about["trained"].startswith("no:") == (prune in ("tpc", "tpa"))


@pytest.mark.parametrize("prune", ["tpc", "tpa", "tpmo"])
def test_rows_are_what_whole_passes_over_shifted_windows_keep(
    context: Context, taken: Taken, prune: str
) -> None:
    index, about = taken[prune]
    windows = _shifted(about, context)
    np.testing.assert_array_equal(windows[0].input[1:], windows[1].input[:-1])
    assert index.tolist() == _whole(replace(SMALL, prune=prune), torch.from_numpy(batch(windows)))
    assert len(np.unique(index, axis=0)) > 1


def test_tps_keeps_the_same_frames_everywhere(taken: Taken) -> None:
    index, _ = taken["tps"]
    even = [0, 3, 6, 10, 13, 16, 20, 23, 26]  # 26 k / 8, rounded
    assert (index == even).all()


def test_tpmo_keeps_the_largest_motions(context: Context, taken: Taken) -> None:
    index, about = taken["tpmo"]
    for row, window in zip(index, _shifted(about, context), strict=True):
        motion = np.abs(np.diff(window.input, axis=0)).sum(axis=(1, 2))
        dropped = np.setdiff1d(np.arange(1, 27), row)
        assert motion[row - 1].min() >= motion[dropped - 1].max() - 1e-6


@pytest.mark.parametrize(
    ("prune", "b"), [("tpc", (0, 2)), ("tpa", (1, 3)), ("tpmo", (1, 2)), ("tps", (0, 2))]
)
def test_the_last_of_two_stages_counts(context: Context, prune: str, b: tuple[int, ...]) -> None:
    case = replace(SMALL, prune=prune, r=(15, 9), b=b)
    x = torch.from_numpy(batch(context.motion.windows(27, limit=5)))
    assert chosen(case, x).tolist() == _whole(case, x)


def test_nothing_behind_the_last_stage_is_run(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    kind = h2ot_core.hosts.HOSTS["mixste"]
    steps = kind.steps

    def watched(host: Any) -> Any:
        for step in steps(host):
            yield step._replace(
                run=lambda z, tap, step=step: ran.append(step.name) or step.run(z, tap)
            )

    monkeypatch.setattr(kind, "steps", watched)
    chosen(
        replace(SMALL, prune="tpa"),
        torch.from_numpy(batch(context.motion.windows(27, limit=1))),
    )
    assert ran == ["spatial.0", "temporal.0", "spatial.1", "temporal.1"]


def test_taking_leaves_the_random_state_alone(context: Context) -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    chosen(replace(SMALL, prune="tpc"), torch.from_numpy(batch(context.motion.windows(27))[:2]))
    assert torch.equal(torch.random.get_rng_state(), before)


def _by_metric(readings: Sequence[Reading]) -> dict[str, np.ndarray[Any, Any]]:
    return {r.metric: np.array(r.values).reshape(r.protocol["shape"]) for r in readings}


def test_skeletons_are_those_of_the_windows(context: Context, tiny: dict[str, Figure]) -> None:
    (case,) = tiny["10"].cases
    readings = skeletons(case, context)
    assert tuple(r.metric for r in readings) == FIGURES["10"].metric.readings
    found, about = _by_metric(readings), readings[0].protocol
    excerpt = about["excerpt"]
    assert len(excerpt) == EXCERPT
    assert (excerpt[0], excerpt[-1]) == (0, 26)
    assert len({s["action"] for s in about["sequences"]}) == len(about["sequences"]) == SEQUENCES
    every = {(w.clip, w.camera, w.start): w for w in context.motion.windows(27)}
    for i, place in enumerate(about["sequences"]):
        window = every[place["clip"], place["camera"], place["start"]]
        assert window.action == place["action"]
        np.testing.assert_array_equal(found["skeletons_2d_px"][i], window.detected_px[excerpt])
        np.testing.assert_array_equal(found["skeletons_3d_m"][i], window.target[excerpt])
        x = torch.from_numpy(batch([window]))
        (kept,) = _whole(case, x)
        assert found["skeletons_kept"][i].tolist() == [int(frame in kept) for frame in excerpt]


def test_the_full_size_excerpt_shows_kept_and_pruned_frames() -> None:
    excerpt = np.linspace(0, 242, EXCERPT).round().astype(int)
    (kept,) = chosen(FIGURES["10"].cases[0], torch.empty(1, 243, 17, 2)).tolist()
    assert sum(int(frame) in kept for frame in excerpt) == EXCERPT * 81 // 243


def test_what_cannot_be_taken_says_why(context: Context) -> None:
    with pytest.raises(NotApplicable, match="nothing is pruned"):
        selected_frames(SMALL.baseline, context)
    with pytest.raises(NotApplicable, match="no window of 220 frames"):
        selected_frames(replace(SMALL, frames=81), context)
    few = MotionSource("few", "Two activities.", lambda split: _clips()[:2], context.motion.noise)
    with pytest.raises(NotApplicable, match="2 activities"):
        skeletons(SMALL, Context(few))


def _clips() -> list[Any]:
    from bench.data.synthetic.generator import generate

    names = ["walking", "greeting", "jogging"]
    return generate(seed=0, frames=170, split="test", activities=names)


# Into the store


def test_what_is_there_is_not_taken_again(
    context: Context, tiny: dict[str, Figure], tmp_path: Path
) -> None:
    taken: list[Case] = []

    def counting(figure: Figure, cases: Sequence[Case]) -> Figure:
        def measure(case: Case, context: Context) -> list[Reading]:
            taken.append(case)
            return figure.metric.measure(case, context)

        return Figure(replace(figure.metric, measure=measure), tuple(cases))

    path = tmp_path / "records.jsonl"
    first = {"7": counting(tiny["7"], tiny["7"].cases[2:])}
    figures.run(path, context, figures=first, quiet=True)
    assert [case.prune for case in taken] == ["tpmo", "tps"]
    assert {case.motion for case in taken} == {context.motion.name}
    every = {number: counting(figure, figure.cases) for number, figure in tiny.items()}
    for _ in range(2):
        figures.run(path, context, figures=every, quiet=True)
    assert [case.prune for case in taken] == ["tpmo", "tps", "tpc", "tpa", "tps"]
    records = store.read(path)
    assert [r.metric for r in records] == [
        *["selected_frames"] * 4,
        *FIGURES["10"].metric.readings,
    ]
    assert all(r.status == "ok" and r.environment["fingerprint"] for r in records)
    assert Record.from_json(records[0].to_json()) == records[0]


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_from_the_command_line(
    tiny: dict[str, Figure],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number, figure in tiny.items():
        monkeypatch.setitem(FIGURES, number, figure)
    save_motion(tmp_path / "few.npz", _clips())
    path = tmp_path / "records.jsonl"
    given = ["figures", "--motion", str(tmp_path / "few.npz"), "--threads", "1"]
    assert main([*given, "--store", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    records = store.read(path)
    assert len(records) == 7
    assert {r.status for r in records} == {"ok"}
    assert {r.case.threads for r in records} == {1}
    assert main(["figures", "--motion", str(tmp_path / "absent.npz")]) == 2


# Drawn

_DRAW = """
import sys
from pathlib import Path
import numpy as np
from bench.records import store
from reports.figures import _kept, draw_figures
folder = Path(sys.argv[1])
records = store.read(folder / "records.jsonl")
for name, caption in draw_figures(records, folder):
    print(name, caption, sep=": ")
rows = np.array(records[0].values).reshape(12, 9)
assert [np.flatnonzero(row).tolist() for row in _kept(records[0])] == rows.tolist()
partial = [r for r in records if r.metric in ("skeletons_2d_px", "skeletons_kept")]
refused = [r for r in records if r.status != "ok"]
assert refused and draw_figures([*refused, *partial], folder / "absent") == []
assert "torch" not in sys.modules
"""


def _synthetic(motion: str, prunes: Sequence[str] = PRUNERS) -> list[Record]:
    rng = np.random.default_rng(0)
    where = {"fingerprint": "synthetic"}
    about = {"clip": "c", "camera": "1", "start": 0, "frames": 27, "keep": 9}
    about |= {"description": "Made up."}
    records = []
    for prune in prunes:
        index = np.sort(rng.permuted(np.tile(np.arange(27), (12, 1)), axis=1)[:, :9])
        trained = "no: random weights" if prune in ("tpc", "tpa") else "no weights needed"
        case = replace(SMALL, prune=prune, motion=motion)
        protocol = {**about, "windows": 12, "action": "a_b", "trained": trained}
        records.append(_record(case, "selected_frames", index, protocol, where))
    case = replace(SMALL, prune="tps", recover="tri", r=(15, 9), b=(0, 2), motion=motion)
    place = {"clip": "c", "action": "a_b", "camera": "1", "start": 0}
    protocol = {**about, "sequences": [place] * 3, "excerpt": [0, 13, 26]}
    values = {
        "skeletons_2d_px": rng.normal(size=(3, 3, 17, 2)),
        "skeletons_3d_m": rng.normal(size=(3, 3, 17, 3)),
        "skeletons_kept": np.array([[1, 0, 1]] * 3),
    }
    for metric, array in values.items():
        shape = {"shape": list(array.shape)}
        records.append(_record(case, metric, array, {**protocol, **shape}, where))
    return records


def _record(
    case: Case,
    metric: str,
    values: np.ndarray[Any, Any],
    protocol: dict[str, Any],
    environment: dict[str, Any],
) -> Record:
    return Record(
        case=case,
        metric=metric,
        unit="1",
        values=tuple(values.flatten().tolist()),
        protocol=protocol,
        environment=environment,
    )


def test_pictures_are_drawn_from_whole_records_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    records = [*_synthetic("generated:0"), *_synthetic("motion:file:abc", ["tpmo", "tpc"])[:2]]
    refused = Record(
        case=SMALL, metric="selected_frames", unit="", values=(), status="skipped", reason="why",
        group="no other", environment=records[0].environment,
    )  # fmt: skip
    records.append(refused)
    with store.open_store(path, environment="synthetic", note=[]) as opened:
        opened.append(records)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _DRAW, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(lines) == ["figure_7.png", "figure_7_2.png", "figure_10.png"]
    assert "the choices of TPC and TPA are those of random weights" in lines["figure_7.png"]
    assert "the choice of TPC is that of random weights" in lines["figure_7_2.png"]
    assert "3D: ground truth (the weights are not trained)" in lines["figure_10.png"]
    for name in lines:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
