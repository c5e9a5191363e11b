"""Evaluation: which frames count, how errors are averaged, what is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made import made_3dhp, made_h36m, made_sh
from torch import Tensor

import h2ot_core
from bench.cli import main
from bench.data.sequences import DataError, DataSet, MotionSequence
from bench.data.sources import open_data
from bench.evaluation import (
    BY_TAKE,
    MEAN,
    WEIGHTED,
    Evaluation,
    Protocol,
    default_protocol,
    evaluate,
    group_name,
    to_records,
)
from bench.evaluation.protocol import lay_out
from bench.models.weights import Weights, load_weights
from bench.records.case import Case
from bench.records.errors import UsageError
from bench.records.store import open_store, read
from h2ot_core import Hourglass, Output, build, metrics
from h2ot_core.checkpoints import published_names
from reports.results import collect

TINY: dict[str, Any] = {"width": 8, "depth": 2, "heads": 2, "mlp_hidden": 8}
PCK = tuple(range(14))  # MPI-INF-3DHP counts the first 14 joints
REST = 16 / 17  # what is left of an error that all joints share when the root has none


def sequence(
    errors_mm: Sequence[float],
    *,
    name: str = "a",
    action: str = "walk",
    valid: Sequence[int] | None = None,
    to_mm: Sequence[float] | None = None,
    joints: int = 17,
    channels: int = 2,
) -> MotionSequence:
    """A sequence whose first 2D coordinate is, for all joints, the error that an echo makes."""
    count = len(errors_mm)
    factor = np.array(to_mm or [1000.0] * count, dtype=np.float32)
    x = np.zeros((count, joints, channels), dtype=np.float32)
    x[..., 0] = (np.array(errors_mm) / factor)[:, None]
    x[..., 2:] = 0.25
    nothing = np.zeros((count, joints, 3), dtype=np.float32)
    return MotionSequence(
        name=name,
        clip=f"clip of {name}",
        subject="S9",
        action=action,
        camera="c",
        input=x,
        target=nothing,
        truth_mm=nothing,
        to_mm=factor,
        valid=np.array(valid if valid is not None else [True] * count, dtype=bool),
    )


def data(*sequences: MotionSequence, **arguments: Any) -> DataSet:
    fields: dict[str, Any] = {
        "name": "made",
        "description": "made by hand",
        "detector": "gt",
        "windows": "hot",
        "fps": 50.0,
        "load": lambda split: sequences,
    }
    return DataSet(**{**fields, **arguments})


def echo(frames: int = 3, pipeline: str = "seq2seq", **sizes: Any) -> Hourglass:
    """A model that puts out its input, with a depth of 0; remembers what it was given."""
    model = build("mixste", scheme="none", frames=frames, pipeline=pipeline, **TINY, **sizes)
    seen: list[Tensor] = []

    def run(x: Tensor, selections: Any = None, **_: Any) -> Output:
        seen.append(x)
        poses = torch.cat([x[..., :2], torch.zeros_like(x[..., :1])], dim=-1)
        if pipeline == "seq2frame":
            poses = poses[:, frames // 2 : frames // 2 + 1]
        return Output(poses, poses, ())

    model.run = run  # type: ignore[method-assign,assignment]
    model.seen = seen  # type: ignore[assignment]
    return model


def quick(model: Hourglass, dataset: DataSet, **fields: Any) -> Evaluation:
    return evaluate(model, dataset, Protocol(**fields), progress=False)


# --- windows -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("windows", "frames", "expected"),
    [
        ("hot", 7, [[0, 0, 1], [2, 3, 4], [5, 6, 6]]),
        ("strict", 7, [[-1, 0, 1], [2, 3, 4], [5, 6, -1]]),
        ("mixste", 7, [[0, 1, 2], [3, 4, 5], [4, 5, 6]]),
        ("sh", 7, [[0, 1, 2], [3, 4, 5]]),
        ("centre", 4, [[0], [1], [2], [3]]),
        ("hot", 6, [[0, 1, 2], [3, 4, 5]]),
        ("mixste", 6, [[0, 1, 2], [3, 4, 5]]),
        ("hot", 8, [[0, 1, 2], [3, 4, 5], [6, 7, 7]]),
        ("hot", 2, [[0, 1, 1]]),
        ("hot", 1, [[0, 0, 0]]),
        ("strict", 1, [[-1, 0, -1]]),
        ("mixste", 2, [[0, 1, 1]]),
        ("sh", 2, [[0, 0, 1]]),
        ("sh", 1, [[0, 0, 0]]),
    ],
)
def test_which_frames_count(windows: Any, frames: int, expected: list[list[int]]) -> None:
    layout = lay_out(windows, np.ones(frames, dtype=bool), 3)
    assert layout.source.tolist() == expected
    shown = layout.index(slice(None))
    assert shown.shape == (len(layout), 3)
    if windows == "centre":
        assert shown.tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]
    else:
        counts = layout.source >= 0
        assert (shown[counts] == layout.source[counts]).all()
    assert (layout.index(slice(1, 2)) == shown[1:2]).all() or layout.stretched


def test_invalid_frames_do_not_count() -> None:
    valid = np.array([1, 1, 1, 0, 1, 1, 1], dtype=bool)
    assert lay_out("strict", valid, 3).source.tolist() == [[-1, 0, 1], [2, -1, 4], [5, 6, -1]]
    assert lay_out("hot", ~valid, 3).source.max(axis=1).tolist() == [-1, 3, -1]
    # No window is run for a frame that does not count.
    assert lay_out("centre", valid, 3).source.ravel().tolist() == [0, 1, 2, 4, 5, 6]


SQUARES = [t * t for t in range(7)]


@pytest.mark.parametrize(
    ("windows", "frames", "mpjpe", "steps", "mpjve"),
    [
        # 0 0 1 | 4 9 16 | 25 36 36: both ends once more.
        ("hot", 9, 127 / 9, 8, 36 / 8),
        ("strict", 7, 91 / 7, 6, 36 / 6),
        # 0 1 4 | 9 16 25 | 16 25 36: two frames twice, and a step back between windows.
        ("mixste", 9, 132 / 9, 8, 54 / 8),
        # The tail of one frame is dropped.
        ("sh", 6, 55 / 6, 5, 25 / 5),
        ("centre", 7, 91 / 7, 6, 36 / 6),
    ],
)
@pytest.mark.parametrize("flip", [True, False])
def test_errors_by_hand(
    windows: Any, frames: int, mpjpe: float, steps: int, mpjve: float, flip: bool
) -> None:
    found = quick(echo(), data(sequence(SQUARES)), windows=windows, flip=flip, zero_root=False)
    (one,) = found.sequences
    assert (one.frames, one.steps) == (frames, steps)
    assert one.mpjpe_mm == pytest.approx(mpjpe, rel=1e-6)
    assert one.values["mpjve_mm"] == pytest.approx(mpjve, rel=1e-6)
    # All joints are off by the same, which an alignment takes away.
    assert one.values["p_mpjpe_mm"] == pytest.approx(0, abs=1e-9)
    assert found.mean["mpjpe_mm"] == one.mpjpe_mm


def test_a_zeroed_root_takes_a_seventeenth_away() -> None:
    kept, zeroed = (
        quick(echo(), data(sequence([3.0, 5.0, 10.0])), zero_root=zero) for zero in (False, True)
    )
    assert kept.mean["mpjpe_mm"] == pytest.approx(6, rel=1e-6)
    assert zeroed.mean["mpjpe_mm"] == pytest.approx(6 * REST, rel=1e-6)
    # The data set says which joint it is.
    model, other = echo(), data(sequence([34.0]), root=4)
    inner = model.run

    def run(x: Tensor, selections: Any = None, **_: Any) -> Output:
        out = inner(x)
        out.poses[..., :4, :] = 0
        out.poses[..., 5:, :] = 0
        return out

    model.run = run  # type: ignore[method-assign,assignment]
    plain = {"flip": False, "windows": "strict"}
    assert quick(model, other, **plain, zero_root=False).mean["mpjpe_mm"] == pytest.approx(2)
    assert quick(model, other, **plain).mean["mpjpe_mm"] == 0


def test_only_valid_frames_count_and_no_step_leaps_over_others() -> None:
    shaky = sequence(SQUARES, valid=[1, 1, 1, 0, 1, 1, 1])
    for windows in ("strict", "centre"):
        (one,) = quick(echo(), data(shaky), windows=windows, zero_root=False).sequences
        assert (one.frames, one.steps) == (6, 4)
        assert one.mpjpe_mm == pytest.approx((91 - 9) / 6, rel=1e-6)
        assert one.values["mpjve_mm"] == pytest.approx((1 + 3 + 9 + 11) / 4, rel=1e-6)


def test_a_stretched_video_counts_every_frame_once() -> None:
    (one,) = quick(echo(), data(sequence([1.0, 3.0])), windows="sh", zero_root=False).sequences
    assert one.frames == 2
    assert one.mpjpe_mm == pytest.approx(2, rel=1e-6)


def test_millimetres_frame_by_frame() -> None:
    (one,) = quick(
        echo(), data(sequence([6.0, 8.0], to_mm=[10.0, 4000.0])), zero_root=False
    ).sequences
    assert one.mpjpe_mm == pytest.approx(7, rel=1e-6)


def test_every_second_frame() -> None:
    found = quick(echo(), data(sequence(SQUARES)), downsample=2, zero_root=False)
    assert found.frames == 4
    assert found.mean["mpjpe_mm"] == pytest.approx((0 + 4 + 16 + 36) / 4, rel=1e-6)


def test_a_single_frame_has_no_velocity() -> None:
    found = quick(echo(), data(sequence([5.0]), sequence([1.0, 2.0], name="b", action="sit")))
    assert "mpjve_mm" not in found.actions["walk"]
    assert found.mean["mpjve_mm"] == pytest.approx(REST, rel=1e-5)


# --- averages ----------------------------------------------------------------------------------


def test_frames_are_pooled_within_an_action_and_actions_weigh_the_same() -> None:
    found = quick(
        echo(),
        data(
            sequence([10.0] * 6, name="a"),
            sequence([40.0] * 3, name="b"),
            sequence([2.0] * 3, name="c", action="sit"),
            actions=("sit", "eat", "walk"),
        ),
        zero_root=False,
    )
    assert [t.mpjpe_mm for t in found.sequences] == pytest.approx([10, 40, 2], rel=1e-6)
    assert [t.clip for t in found.sequences] == ["clip of a", "clip of b", "clip of c"]
    assert list(found.actions) == list(found.order) == ["sit", "walk"]
    assert found.missing == ("eat",)
    assert quick(echo(), data(sequence([1.0]), actions=("sit", "eat"))).missing == ()
    assert found.actions["walk"]["mpjpe_mm"] == pytest.approx(20, rel=1e-6)
    assert found.mean["mpjpe_mm"] == pytest.approx((20 + 2) / 2, rel=1e-6)
    assert found.weighted["mpjpe_mm"] == pytest.approx((60 + 120 + 6) / 12, rel=1e-6)


def test_3dhp_counts_fourteen_joints_and_averages_both_ways() -> None:
    near, far = (
        sequence([97.0] * 4, name="TS1", action="TS1"),
        sequence([200.0], name="b", action="TS2"),
    )
    far.input[..., 14:, 0] = 0  # the joints that PCK leaves out
    found = quick(
        echo(),
        data(near, far, pck_joints=PCK, root=14, actions=("TS1", "TS2")),
        zero_root=False,
        flip=False,
    )
    assert found.metrics[-2:] == ("pck_percent", "auc_percent")
    assert [found.actions[a]["pck_percent"] for a in found.order] == [100, 0]
    assert (found.mean["pck_percent"], found.weighted["pck_percent"]) == (50, 80)
    # 97 mm is below 100, 105, ..., 150.
    assert found.actions["TS1"]["auc_percent"] == pytest.approx(100 * 11 / 31)
    assert found.actions["TS2"]["mpjpe_mm"] == pytest.approx(200 * 14 / 17, rel=1e-6)
    assert "pck_percent" not in quick(echo(), data(near)).metrics


# --- the model's side --------------------------------------------------------------------------


def moving(count: int, *, name: str = "a", seed: int = 0) -> MotionSequence:
    generator = np.random.Generator(np.random.PCG64(seed))
    x = generator.uniform(-1, 1, (count, 17, 2)).astype(np.float32)
    truth = generator.normal(0, 300, (count, 17, 3)).astype(np.float32)
    truth[:, 0] = 0
    return replace(sequence([0.0] * count, name=name), input=x, truth_mm=truth, target=truth)


@pytest.fixture(scope="module")
def tpc() -> Hourglass:
    torch.manual_seed(0)
    return build("mixste", scheme="hot", frames=9, r=3, b=1, **TINY).eval()


@pytest.mark.parametrize(
    ("windows", "scheme"), [("strict", "h2ot"), ("strict", "hot"), ("centre", "tpm")]
)
def test_as_lifting_the_video(windows: Any, scheme: str) -> None:
    torch.manual_seed(0)
    stages: Any = {"r": 3, "b": 1} if scheme == "hot" else {"r": (5, 3), "b": (0, 1)}
    model = build("mixste", scheme=scheme, frames=9, **stages, **TINY).eval()
    one, two = moving(23, name="a"), moving(4, name="b", seed=1)
    found = quick(model, data(one, two), windows=windows, batch=4)
    for video, errors in zip((one, two), found.sequences, strict=True):
        poses = 1000 * h2ot_core.lift(model, torch.from_numpy(video.input)).double()
        poses[:, 0] = 0
        truth = torch.from_numpy(video.truth_mm).double()
        for name, metric in (
            ("mpjpe_mm", metrics.mpjpe),
            ("p_mpjpe_mm", metrics.p_mpjpe),
            ("n_mpjpe_mm", metrics.n_mpjpe),
            ("mpjve_mm", metrics.mpjve),
        ):
            assert errors.values[name] == pytest.approx(metric(poses, truth).item(), rel=1e-5)


def test_the_mirrored_pass_keeps_the_frames_of_the_first(
    tpc: Hourglass, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, calls = tpc.run, []

    def spy(x: Tensor, selections: Any = None, **arguments: Any) -> Output:
        out = inner(x, selections=selections, **arguments)
        calls.append((x, selections, out.selections))
        return out

    monkeypatch.setattr(tpc, "run", spy)
    quick(tpc, data(moving(20)), windows="hot")
    (x, none, chosen), (mirror, given, _) = calls
    assert none is None
    assert given is chosen
    assert torch.equal(mirror[..., 1, 0], -x[..., 4, 0])
    assert torch.equal(mirror[..., 1, 1], x[..., 4, 1])
    calls.clear()
    quick(tpc, data(moving(20)), windows="hot", flip=False)
    assert len(calls) == 1


def test_the_data_sets_own_mirror_is_used() -> None:
    model = echo()
    quick(model, data(moving(3), left=(5,), right=(2,)))
    first, mirror = model.seen  # type: ignore[misc]
    assert torch.equal(mirror[..., 2, 0], -first[..., 5, 0])
    assert torch.equal(mirror[..., 1, 0], -first[..., 1, 0])


def test_the_batch_changes_nothing_and_is_filled_across_takes() -> None:
    sequences = [sequence(SQUARES[: n + 1], name=str(n)) for n in range(7)]
    results = {}
    for batch in (1, 4, 100):
        model = echo()
        results[batch] = quick(model, data(*sequences), batch=batch, flip=False)
        sizes = [len(x) for x in model.seen]  # type: ignore[union-attr]
        assert sum(sizes) == 1 + 1 + 1 + 2 + 2 + 2 + 3
        assert all(size == batch for size in sizes[:-1])
    assert results[1].sequences == results[4].sequences == results[100].sequences


def test_confidence() -> None:
    model = echo()
    model.host.channels = 3  # type: ignore[misc]
    assert quick(model, data(sequence([1.0] * 3))).confidence == "1 throughout"
    assert (model.seen[0][..., 2] == 1).all()  # type: ignore[index]
    assert quick(model, data(sequence([1.0] * 3, channels=3))).confidence == "as in the data"
    assert (model.seen[-1][..., 2] == 0.25).all()  # type: ignore[index]
    model = echo()
    assert quick(model, data(sequence([1.0] * 3, channels=3))).confidence == "dropped"
    assert model.seen[0].shape == (1, 3, 17, 2)  # type: ignore[index]
    assert quick(model, data(sequence([1.0] * 3))).confidence == "none"


def test_the_model_is_left_as_it_was(tpc: Hourglass) -> None:
    for training in (True, False):
        tpc.train(training)
        quick(tpc, data(moving(5)))
        assert (tpc.training, tpc.check_finite) == (training, True)
    tpc.eval()


def test_seq2frame_takes_one_window_per_frame() -> None:
    model = echo(pipeline="seq2frame")
    dataset = data(sequence(SQUARES))
    assert default_protocol(model, dataset).windows == "centre"
    found = evaluate(model, dataset, progress=False)
    assert found.protocol == Protocol(windows="centre")
    assert found.mean["mpjpe_mm"] == pytest.approx(13 * REST, rel=1e-6)
    with pytest.raises(UsageError, match=r"seq2frame.*'strict'"):
        quick(model, dataset, windows="strict")


def test_the_published_protocol_is_the_default() -> None:
    model = echo()
    for windows in ("hot", "sh", "strict"):
        protocol = default_protocol(model, data(sequence([1.0]), windows=windows))
        assert protocol == Protocol(windows=windows)
        assert (protocol.flip, protocol.zero_root, protocol.downsample) == (True, True, 1)
    changed = default_protocol(
        model, data(sequence([1.0])), windows="mixste", flip=False, batch=None
    )
    assert changed == Protocol(windows="mixste", flip=False)


# --- refusals ----------------------------------------------------------------------------------


def test_refusals() -> None:
    broken = sequence([1.0] * 3)
    broken.input[1, 2] = np.nan
    blank = sequence([1.0] * 3, valid=[0, 0, 0])
    cases: list[tuple[Any, str]] = [
        (data(sequence([1.0] * 3, joints=16)), "17 joints.*'a' of made has 16"),
        (data(broken), "frame 1, joint 2"),
        (data(blank), "no frame"),
        (data(), "no sequences"),
        (data(sequence([1.0]), left=(1,)), "pairs"),
        (data(sequence([1.0]), windows="other"), "unknown window policy 'other'"),
    ]
    for dataset, words in cases:
        with pytest.raises((UsageError, DataError), match=words):
            evaluate(echo(), dataset, progress=False)
    # A sequence without a valid frame is left out where others have some.
    both = data(blank, sequence([2.0] * 3, name="b"))
    assert [t.name for t in evaluate(echo(), both, progress=False).sequences] == ["b"]
    with pytest.raises(UsageError, match="no millimetres"):
        evaluate(
            echo(), data(sequence([1.0]), unmeasured=("train",)), split="train", progress=False
        )
    with pytest.raises(UsageError, match="limit"):
        evaluate(echo(), both, limit=0, progress=False)
    for fields, words in (
        ({"windows": "hott"}, "unknown window policy"),
        ({"downsample": 0}, "downsample must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
    ):
        with pytest.raises(UsageError, match=words):
            Protocol(**fields)  # type: ignore[arg-type]


def test_a_model_that_puts_out_nan_is_refused(tpc: Hourglass) -> None:
    broken = build("mixste", scheme="none", frames=3, **TINY)
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    with pytest.raises(UsageError, match="NaN"):
        quick(broken, data(moving(3)))
    assert broken.check_finite


def test_a_limit_is_spread_over_the_split() -> None:
    sequences = [sequence([float(i)], name=str(i), action=f"act{i // 3}") for i in range(9)]
    found = evaluate(echo(), data(*sequences), limit=3, progress=False)
    assert [t.name for t in found.sequences] == ["0", "3", "6"]
    assert evaluate(echo(), data(*sequences), limit=100, progress=False).frames == 27


# --- made data sets --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder_3dhp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_3dhp(tmp_path_factory.mktemp("3dhp"), frames=12, subjects=[1], cameras=["0"])


@pytest.fixture(scope="module")
def made_sets(tmp_path_factory: pytest.TempPathFactory, folder_3dhp: Path) -> dict[str, DataSet]:
    folder = tmp_path_factory.mktemp("sets")
    made_h36m(folder, frames=8, subjects=["S9", "S11"])
    made_sh(folder / "sh.pkl", frames=8, train=["S1"], test=["S9"])
    return {
        "h36m": open_data(f"h36m:{folder}", detector="cpn"),
        "sh": open_data(f"sh:{folder / 'sh.pkl'}"),
        "3dhp": open_data(f"3dhp:{folder_3dhp}"),
    }


@pytest.mark.parametrize(
    ("name", "of_sequence"),
    # Windows of 3: 9 frames with the padding, two whole clips, the valid ones of 12.
    [("h36m", 9), ("sh", 6), ("3dhp", 11)],
)
def test_whoever_knows_the_answer_makes_no_error(
    name: str, of_sequence: int, made_sets: Mapping[str, DataSet]
) -> None:
    dataset = made_sets[name]
    sequences = dataset.sequences("test")
    answers = {
        row[..., :2].tobytes(): torch.from_numpy(answer)
        for one in sequences
        for row, answer in zip(one.input, one.target, strict=True)
    }
    model, off = echo(), 0.0

    def run(x: Tensor, selections: Any = None, **_: Any) -> Output:
        frames = x.flatten(0, 1).numpy()
        poses = torch.stack([answers[frame.tobytes()] for frame in frames]) + off
        poses = poses.unflatten(0, x.shape[:2])
        return Output(poses, poses, ())

    model.run = run  # type: ignore[method-assign,assignment]
    protocol = default_protocol(model, dataset, flip=False)
    found = evaluate(model, dataset, protocol, progress=False)
    assert found.frames == of_sequence * len(sequences)
    assert found.mean["mpjpe_mm"] == pytest.approx(0, abs=1e-2)
    assert found.order == dataset.actions
    assert found.missing == ()
    off = 0.01  # of a metre, or of half the image
    scale = np.mean([one.to_mm.mean() for one in sequences])
    found = evaluate(model, dataset, protocol, progress=False)
    assert found.mean["mpjpe_mm"] == pytest.approx(off * scale * 3**0.5 * REST, rel=0.05)
    if name == "3dhp":
        assert found.mean["pck_percent"] == 100


@pytest.mark.parametrize(
    ("host", "frames", "r", "b"),
    [
        ("mhformer", 9, (5, 3), (0, 2)),
        ("mixste", 27, (13, 9), (0, 1)),
        ("motionagformer", 81, (41, 27), (0, 1)),
    ],
)
def test_table_10(
    host: str,
    frames: int,
    r: tuple[int, int],
    b: tuple[int, int],
    folder_3dhp: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = tmp_path / "records.jsonl"
    words = f"evaluate --host {host} --frames {frames} --r {r[0]} {r[1]} --b {b[0]} {b[1]}"
    words += f" --option width=16 --option depth={max(b) + 1} --data 3dhp:{folder_3dhp}"
    assert main([*words.split(), "--untrained", "--store", str(store)]) == 0
    told = capsys.readouterr().out
    records = {record.metric: record for record in read(store)}
    sequences = tuple(f"TS{i}" for i in range(1, 7))
    for metric in ("pck_percent", "auc_percent", "mpjpe_mm"):
        assert records[metric].labels == (*sequences, MEAN, WEIGHTED)
    assert 0 <= records["auc_percent"].values[-1] <= records["pck_percent"].values[-1] <= 100
    # The second frame of every sequence is not valid.
    protocol = records["mpjpe_mm"].protocol
    assert (protocol["takes"], protocol["frames"]) == (6, 6 * 11)
    assert protocol["windows"] == ("centre" if host == "mhformer" else "strict")
    assert ("model gets 1 throughout" in told) == (host == "motionagformer")


# --- records -----------------------------------------------------------------------------------

CASE = Case(host="mixste", frames=3, options=tuple(sorted(TINY.items())))
STAMP: Mapping[str, Any] = {"session": "s", "environment": {"fingerprint": "f"}}


def stored(found: Evaluation, weights: Weights | None = None) -> dict[str, Any]:
    records = to_records(found, CASE, weights=weights, model=echo(), stamp=STAMP)
    return {record.metric: record for record in records}


def test_records_hold_actions_and_the_mean(tmp_path: Path) -> None:
    sequences = [sequence([3.0] * 3), sequence([5.0] * 3, name="b", action="sit")]
    found = quick(echo(), data(*sequences), zero_root=False)
    records = stored(found, Weights("w.pth", "ab" * 32))
    assert set(records) == {"mpjpe_mm", "p_mpjpe_mm", "n_mpjpe_mm", "mpjve_mm", BY_TAKE}
    one = records["mpjpe_mm"]
    assert one.labels == ("walk", "sit", MEAN)
    assert one.values == pytest.approx([3, 5, 4], rel=1e-6)
    assert (one.unit, one.case.motion) == ("mm", "made")
    told = one.protocol
    assert told["weights"] == "w.pth"
    assert told["weights_sha256"] == "ab" * 32
    assert (told["windows"], told["flip"], told["zero_root"]) == ("strict", True, False)
    assert (told["takes"], told["frames"], told["detector"]) == (2, 6, "gt")
    assert told["model"]["width"] == 8
    assert records[BY_TAKE].labels == ("a", "b")
    assert records[BY_TAKE].protocol["clips"] == ["clip of a", "clip of b"]
    with open_store(tmp_path / "r.jsonl", environment="f", note=[]) as store:
        store.append(records.values())
    again = read(tmp_path / "r.jsonl")
    assert [json.dumps(record.to_json()) for record in again] == [
        json.dumps(record.to_json()) for record in records.values()
    ]
    result = collect(again)[one.case]
    assert result.by_label["mpjpe_mm"]["mean"] == pytest.approx(4, rel=1e-6)
    assert result.values == {}


def test_3dhp_records_hold_both_means() -> None:
    sequences = [sequence([100.0] * 3, action="TS1"), sequence([200.0], name="b", action="TS2")]
    records = stored(quick(echo(), data(*sequences, pck_joints=PCK, root=14), zero_root=False))
    assert records["pck_percent"].labels == ("TS1", "TS2", MEAN, WEIGHTED)
    assert records["pck_percent"].values == (100, 0, 50, 75)
    assert records["pck_percent"].protocol["joints"] == list(range(14))
    assert records["pck_percent"].unit == "%"
    assert "joints" not in records["mpjpe_mm"].protocol


def test_other_weights_data_and_protocols_are_other_records() -> None:
    dataset = data(sequence([1.0] * 6), sequence([1.0] * 6, name="b"))
    variants: list[tuple[dict[str, Any], Weights | None]] = [
        ({}, None),
        ({}, Weights("a", "1" * 64)),
        ({}, Weights("a", "2" * 64)),
        ({"windows": "mixste"}, None),
        ({"flip": False}, None),
        ({"zero_root": False}, None),
        ({"downsample": 2}, None),
    ]
    found = [(quick(echo(), dataset, **fields), weights) for fields, weights in variants]
    groups = [group_name(*pair) for pair in found]
    groups.append(group_name(evaluate(echo(), dataset, Protocol(), limit=1, progress=False), None))
    groups.append(group_name(replace(found[0][0], split="train"), None))
    groups.append(group_name(replace(found[0][0], detector="cpn"), None))
    assert len(set(groups)) == len(groups)
    identities = {stored(*pair)["mpjpe_mm"].identity for pair in found}
    assert len(identities) == len(found)
    # The file's name and the batch do not matter.
    assert group_name(found[1][0], Weights("b", "1" * 64)) == groups[1]
    assert group_name(quick(echo(), dataset, batch=2), None) == groups[0]


# --- weights and the command -------------------------------------------------------------------

MODEL = ["--frames", "9", "--r", "5", "3", "--b", "0", "1"]
MODEL += [part for name, value in TINY.items() for part in ("--option", f"{name}={value}")]
DATA = ["--data", "generated:0:20", "--limit", "2"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    model = build("mixste", frames=9, r=(5, 3), b=(0, 1), **TINY)
    names = published_names(model)
    path = tmp_path_factory.mktemp("weights") / "made.pth"
    torch.save({theirs: model.state_dict()[ours] for theirs, ours in names.items()}, path)
    return path


def test_weights_by_suffix(checkpoint: Path, tmp_path: Path) -> None:
    model = build("mixste", frames=9, r=(5, 3), b=(0, 1), **TINY)
    assert load_weights(model, checkpoint) is model
    assert Weights.of(checkpoint).name == "made.pth"
    assert len(Weights.of(checkpoint).sha256) == 64
    with pytest.raises(UsageError, match="cannot read"):
        Weights.of(tmp_path / "absent.pth")


def test_command(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "records.jsonl"
    command = ["evaluate", *MODEL, *DATA, "--store", str(store)]
    assert main([*command, "--weights", str(checkpoint)]) == 0
    told = capsys.readouterr().out
    sha = Weights.of(checkpoint).sha256
    for words in (
        f"made.pth (sha256 {sha[:12]})",
        "generated:0:20, test split",
        "strict (windows side by side",
        "flip on; predicted root set to zero",
        "no more than 2 sequences",
        "MPJPE, P1 (mm)",
        "P-MPJPE, P2 (mm)",
        "MPJVE",
        "mean",
    ):
        assert words in told
    before = read(store)
    assert {record.metric for record in before} >= {"mpjpe_mm", "p_mpjpe_mm", "mpjve_mm"}
    assert all(record.group.startswith(sha[:8]) for record in before)
    assert before[0].case.motion == "generated:0:20"
    assert before[0].case.label.startswith("mixste-f9-tps+tri-r5,3-b0,1")
    # The same again adds nothing; another protocol does.
    assert main([*command, "--weights", str(checkpoint)]) == 0
    assert len(read(store)) == len(before)
    further = ["--windows", "hot", "--no-flip", "--keep-root", "--downsample", "2"]
    assert main([*command, "--weights", str(checkpoint), *further]) == 0
    after = read(store)
    assert len(after) == 2 * len(before)
    assert after[-1].protocol["windows"] == "hot"
    assert (after[-1].protocol["flip"], after[-1].protocol["zero_root"]) == (False, False)
    assert after[-1].protocol["downsample"] == 2
    capsys.readouterr()
    # A report of accuracies alone has no table to fill, and says nothing false.
    assert main(["report", "--store", str(store), "--out", str(tmp_path / "out")]) == 0
    assert "Further" not in (tmp_path / "out" / "ablation.md").read_text()


def test_command_for_3dhp(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = [moving(11, name="TS1"), replace(moving(4, name="TS2", seed=1), action="TS2")]
    made = data(*sequences, name="3dhp", pck_joints=PCK, root=14)
    monkeypatch.setattr("bench.data.sources.open_data", lambda spec, detector: made)
    store = tmp_path / "records.jsonl"
    command = ["evaluate", *MODEL, "--untrained", "--data", "3dhp:F", "--store", str(store)]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert told.index("PCK (%)") < told.index("AUC (%)") < told.index("MPJPE, P1 (mm)")
    assert WEIGHTED in told
    assert "untrained" in told
    assert "pck_percent" in {record.metric for record in read(store)}


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ([], "no --weights"),
        (["--untrained", "--weights", "x.pth"], "exclude"),
        (["--weights", "absent.pth"], "no weight file"),
        (["--weights", "absent.safetensors"], "safetensors"),
        (["--untrained", "--host", "nohost"], "unknown host"),
        (["--untrained", "--data", "nowhere:x"], "nowhere"),
    ],
)
def test_command_refuses(
    extra: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "records.jsonl")
    assert main(["evaluate", *MODEL, *DATA, "--store", store, *extra]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told
