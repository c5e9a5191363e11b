"""Training: what is drawn, what is learned, and going on where it stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made import made_h36m

import h2ot_core
from bench.cli import main
from bench.data.sequences import DataError, MotionSequence
from bench.data.sources import open_data
from bench.data.synthetic.detector import DetectorNoise
from bench.data.synthetic.generator import generate
from bench.records.errors import UsageError
from bench.train import elastic
from bench.train.batches import TakeFeed, ViewFeed, split_validation
from bench.train.job import train_supernet
from bench.train.loop import BEST, FINAL, STATE, Learner, Run, fit
from bench.train.positions import WAVES, plant_positions
from bench.train.recipes import Recipe, recipe_for
from bench.train.viewpoints import Viewpoints, mirrored
from h2ot_core import weights
from h2ot_core.checkpoints import read_weights
from h2ot_core.elastic import Elastic

QUIET = DetectorNoise(sigma_px=(0.0,) * 17, miss_rate=0.0)


def _sequence(name: str, count: int, first: float = 0.0) -> MotionSequence:
    """Frames tell where they come from: input x of joint 1 is the frame's number."""
    x = np.zeros((count, 17, 2), dtype=np.float32)
    x[:, 1, 0] = first + np.arange(count)
    y = np.zeros((count, 17, 3), dtype=np.float32)
    y[:, 1, 0] = x[:, 1, 0]
    return MotionSequence(
        name=name, clip=name.partition("/")[0], subject="S1", action="a", camera="c",
        input=x, target=y, truth_mm=y * 1000,
        to_mm=np.full(count, 1000, dtype=np.float32), valid=np.ones(count, dtype=bool),
    )  # fmt: skip


def _recipe(**changes: Any) -> Recipe:
    base = Recipe(name="test", loss="mixste", batch=2, epochs=1, flip="none", seed=3)
    return replace(base, **changes)


def _feed(
    sequences: list[MotionSequence], recipe: Recipe, frames: int = 9, channels: int = 2
) -> TakeFeed:
    return TakeFeed(
        sequences, frames=frames, channels=channels, left=(4,), right=(1,), recipe=recipe
    )  # fmt: skip


# Recipes, against Table 1 and the published arguments.


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (("mixste", "paper"), ("adam", 4e-5, 160, 4)),
        (("mixste", "code"), ("adamw", 4e-5, 160, 4)),
        (("mhformer", "paper"), ("amsgrad", 1e-3, 20, 210)),
        (("motionbert", "paper"), ("adam", 5e-4, 120, 4)),
        (("motionbert", "code"), ("adamw", 5e-4, 120, 32)),
        (("motionagformer", "paper"), ("adam", 5e-4, 120, 4)),
        (("motionagformer", "code"), ("adamw", 5e-4, 60, 16)),
    ],
)
def test_recipes_are_those_published(key: tuple[str, str], expected: tuple[Any, ...]) -> None:
    r = recipe_for(*key)
    assert (r.optimizer, r.rate, r.epochs, r.batch) == expected


def test_the_rate_decays_per_epoch_and_more_at_every_fifth() -> None:
    r = recipe_for("mhformer", "code")
    epoch = [r.rate_at(step, 1) for step in range(11)]
    assert epoch[0] == 1e-3
    assert epoch[4] == pytest.approx(1e-3 * 0.95**4)
    assert epoch[5] == pytest.approx(1e-3 * 0.95**4 * 0.5)
    assert epoch[10] == pytest.approx(1e-3 * 0.95**8 * 0.25)
    m = recipe_for("mixste", "code")
    assert m.rate_at(7 * 100 + 99, 100) == pytest.approx(4e-5 * 0.99**7)


def test_the_cosine_ends_at_a_hundredth_and_warms_up() -> None:
    r = _recipe(schedule="cosine", epochs=10, rate=1.0, warmup=10)
    assert r.rate_at(0, 100) == pytest.approx(0.1, rel=1e-3)
    assert r.rate_at(500, 100) == pytest.approx(0.505)
    assert r.rate_at(1000, 100) == pytest.approx(0.01)


def test_an_own_host_has_a_recipe_and_an_unknown_name_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = type("Own", (h2ot_core.AbstractHost,), {"recipes": {"code": {"epochs": 7}}})
    monkeypatch.setitem(h2ot_core.HOSTS, "my_host", own)
    assert recipe_for("my_host").epochs == 7
    assert recipe_for("my_host", "paper").epochs == 60
    poses = torch.ones(2, 3, 17, 3)
    assert recipe_for("my_host").criterion()(poses, 2 * poses) == pytest.approx(3**0.5)
    own.recipes = {"code": {"lengths": 7}}
    for host, name, match in (
        ("mixste", "thesis", "recipe"), ("nobody", "code", "host"), ("my_host", "code", "lengths"),
    ):  # fmt: skip
        with pytest.raises(h2ot_core.ConfigError, match=match):
            recipe_for(host, name)


# Feeds.


def test_an_epoch_shows_every_window_once() -> None:
    sequences = [_sequence("a/0", 18), _sequence("b/0", 27, 100)]
    feed = _feed(sequences, _recipe(batch=1))
    assert feed.steps == 5
    seen = [sorted(feed.batch(step, 0, 1).x[0, :, 1, 0].tolist()) for step in range(5)]
    starts = sorted(window[0] for window in seen)
    assert starts == [0, 9, 100, 109, 118]
    other = [feed.batch(5 + step, 0, 1).x[0, 0, 1, 0].item() for step in range(5)]
    assert sorted(other) == starts


def test_ends_are_held_as_published() -> None:
    # T = 20, F = 9: 3 windows, offset floor((27 - 20) / 2) = 3.
    feed = _feed([_sequence("a/0", 20)], _recipe(batch=3))
    windows = feed.batch(0, 0, 1).x[:, :, 1, 0]
    windows = windows[windows[:, 4].argsort()]
    assert windows[0].tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5]
    assert windows[1].tolist() == [6, 7, 8, 9, 10, 11, 12, 13, 14]
    assert windows[2].tolist() == [15, 16, 17, 18, 19, 19, 19, 19, 19]


def test_a_stride_keeps_whole_windows_and_drops_the_tail() -> None:
    feed = _feed([_sequence("a/0", 20)], _recipe(batch=4, stride=3))
    starts = sorted(feed.batch(0, 0, 1).x[:, 0, 1, 0].tolist())
    assert starts == [0, 3, 6, 9]


def test_centred_windows_are_one_per_frame() -> None:
    feed = _feed([_sequence("a/0", 5)], _recipe(batch=5, centred=True))
    windows = feed.batch(0, 0, 1).x[:, :, 1, 0]
    assert sorted(windows[:, 4].tolist()) == [0, 1, 2, 3, 4]
    first = windows[windows[:, 4] == 1][0]
    assert first.tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 4]


def test_flips_are_duplicates_or_drawn() -> None:
    sequences = [_sequence("a/0", 18, 1)]
    double = _feed(sequences, _recipe(batch=4, flip="duplicate"))
    batch = double.batch(0, 0, 1)
    assert double.steps == 1
    assert sorted((batch.x[:, 0, 4, 0] < 0).tolist()) == [False, False, True, True]
    assert torch.equal(batch.x[..., 0], batch.y[..., 0])
    drawn = _feed(sequences, _recipe(batch=2, flip="random"))
    flips = [bool(drawn.batch(s, 0, 1).x[0, 0, 4, 0] < 0) for s in range(40)]
    assert 5 < sum(flips) < 35


def test_shares_of_a_step_are_disjoint_and_whole() -> None:
    feed = _feed([_sequence("a/0", 90)], _recipe(batch=4))
    whole = feed.batch(1, 0, 1).x
    parts = torch.cat([feed.batch(1, part, 2).x for part in range(2)])
    assert sorted(whole[:, 0, 1, 0].tolist()) == sorted(parts[:, 0, 1, 0].tolist())


def test_a_missing_confidence_is_one() -> None:
    x = _feed([_sequence("a/0", 9)], _recipe(batch=1), channels=3).batch(0, 0, 1).x
    assert x.shape[-1] == 3
    assert torch.equal(x[..., 2], torch.ones_like(x[..., 2]))


def test_validation_takes_whole_clips() -> None:
    sequences = [_sequence(f"clip{i}/{camera}", 9) for i in range(10) for camera in range(4)]
    left, aside = split_validation(sequences, 0.2)
    assert len(left) == 32
    assert len(aside) == 8
    assert not {t.clip for t in left} & {t.clip for t in aside}
    assert split_validation(sequences, 0)[1] == []
    with pytest.raises(DataError, match="below 1"):
        split_validation(sequences, 1.0)


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(DataError, match="no sequences to train on"):
        _feed([], _recipe())


# Viewpoints.


def test_viewpoints_are_true_to_the_motion() -> None:
    clips = generate(seed=1, frames=40, split="train")[:3]
    views = Viewpoints(clips, QUIET)
    x, y = views.draw(np.random.default_rng(0), 27, 6)
    again = views.draw(np.random.default_rng(0), 27, 6)
    assert np.array_equal(x, again[0])
    assert np.array_equal(y, again[1])
    assert x.shape == (6, 27, 17, 2)
    assert np.abs(y[:, :, 0]).max() == 0
    # Turning, moving and mirroring leave bones as they are.
    thigh = np.linalg.norm(y[:, :, 2] - y[:, :, 1], axis=-1)
    bones = [np.linalg.norm(c.positions[:, 2] - c.positions[:, 1], axis=-1).mean() for c in clips]
    mirror = [np.linalg.norm(c.positions[:, 5] - c.positions[:, 4], axis=-1).mean() for c in clips]
    assert all(min(abs(t - b) for b in (*bones, *mirror)) < 1e-4 for t in thigh.mean(axis=1))
    # Without detector error, what is seen lies in the image, and near joints are seen apart.
    assert np.abs(x).max() < 1.6


def test_short_clips_are_held_at_both_ends_and_too_short_ones_left_out() -> None:
    clips = generate(seed=1, frames=24, split="train")[:2]
    x, _ = Viewpoints(clips, QUIET).draw(np.random.default_rng(0), 27, 4)
    assert np.array_equal(x[:, 0], x[:, 1])
    assert not np.array_equal(x[:, 1], x[:, 2])
    with pytest.raises(DataError, match="no clip is long enough"):
        Viewpoints(clips, QUIET).draw(np.random.default_rng(0), 81, 1)


def test_a_mirror_twice_is_no_mirror() -> None:
    poses = np.random.default_rng(0).normal(size=(3, 17, 3))
    assert np.array_equal(mirrored(mirrored(poses)), poses)
    assert np.array_equal(mirrored(poses)[:, 1, 0], -poses[:, 4, 0])


# The trunk.


def test_the_trunk_is_shown_every_row_of_its_tables() -> None:
    found = elastic.subnets()
    assert len(found) == 31
    assert sorted({m["frames"] for m in found}) == [81, 105, 121, 243]
    assert {m["prune"] for m in found} == {"none", "tpc", "tpa", "tpmo", "tps"}
    assert {m.get("recover") for m in found if m["prune"] != "none"} == {"tra", "tri"}


def test_any_step_of_the_trunk_can_be_drawn_alone() -> None:
    clips = generate(seed=1, frames=980, split="train")[:2]
    feed = elastic.SupernetFeed([], clips, DetectorNoise(), total=100)
    pruned = set()
    for step in (5, 44, 45, 59, 60, 61, 62, 63, 64, 65, 99):
        one, two = feed.batch(step, 0, 1), feed.batch(step, 0, 1)
        assert torch.equal(one.x, two.x)
        frames = one.subnet.get("frames", 243)
        count = 48 if step < 45 else 12 if step < 60 else 486 // frames
        assert one.x.shape == (count, frames, 17, 2)
        if step < 60:
            assert frames == (3 if step < 45 else 27)
        pruned.add(one.subnet.get("prune", "none"))
    assert len(pruned) > 1


# The loop.


def _model(seed: int = 0, **arguments: Any) -> h2ot_core.Hourglass:
    torch.manual_seed(seed)
    sizes = {"frames": 9, "width": 16, "depth": 2, "heads": 2}
    return h2ot_core.build("mixste", **{**sizes, "scheme": "none", **arguments})


def _real_feed(recipe: Recipe) -> ViewFeed:
    clips = generate(seed=1, frames=40, split="train")[:4]
    return ViewFeed(
        Viewpoints(clips, QUIET), frames=9, channels=2, batch=recipe.batch, steps=6,
        seed=recipe.seed, description={"data": "generated"},
    )  # fmt: skip


def _same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


def test_training_learns(tmp_path: Path) -> None:
    recipe = _recipe(rate=3e-3, epochs=10, batch=8)
    model = _model()
    feed = _real_feed(recipe)

    def watch(learned: torch.nn.Module) -> dict[str, float]:
        batch = feed.batch(10_000, 0, 1)
        return {"mpjpe_mm": float((learned(batch.x) - batch.y).norm(dim=-1).mean() * 1000)}

    with torch.no_grad():
        before = watch(model.eval())["mpjpe_mm"]
    outcome = fit(model, feed, recipe, Run(folder=tmp_path), validate=watch)
    assert outcome.done
    assert len(outcome.curve) == 10
    assert outcome.curve[-1]["mpjpe_mm"] < 0.6 * before
    for name in (FINAL, BEST):
        assert torch.equal(
            weights.load(tmp_path / name)(feed.batch(0, 0, 1).x).isfinite(),
            torch.ones(8, 9, 17, 3, dtype=torch.bool),
        )
    card = weights.read_card(tmp_path / FINAL)
    assert card["step"] == 60
    assert card["recipe"]["rate"] == 3e-3
    published = h2ot_core.load_published(_model(5), tmp_path / "final.pth")
    assert _same(published, weights.load(tmp_path / FINAL))


@pytest.mark.parametrize("stop", [1, 7, 11])
def test_a_stopped_training_ends_as_if_it_never_stopped(tmp_path: Path, stop: int) -> None:
    recipe = _recipe(rate=1e-3, epochs=3, batch=4)

    def watch(model: torch.nn.Module) -> dict[str, float]:
        return {"mpjpe_mm": 1.0}

    whole = _model()
    one = fit(whole, _real_feed(recipe), recipe, Run(folder=tmp_path / "a"), validate=watch)
    run = Run(folder=tmp_path / "b")
    begun = fit(_model(), _real_feed(recipe), recipe, replace(run, until=stop), validate=watch)
    assert begun.step == stop
    assert not begun.done
    resumed = _model(seed=99)  # its first weights must not matter
    two = fit(resumed, _real_feed(recipe), recipe, run, validate=watch)
    assert _same(whole, resumed)
    assert one.curve == two.curve


_KILLED = """
import os, signal, sys, threading
from pathlib import Path
import test_train as t
import torch
torch.set_num_threads(1)
from bench.train import loop
recipe = t._recipe(rate=1e-3, epochs=3, batch=4)
feed = t._real_feed(recipe)
at = int(sys.argv[2])
real = feed.batch
def batch(step, part, parts):
    if step == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(step, part, parts)
feed.batch = batch
loop.fit(t._model(), feed, recipe, loop.Run(folder=Path(sys.argv[1]), save_every_s=0.0))
"""


def test_a_killed_training_ends_as_if_it_was_not(tmp_path: Path) -> None:
    recipe = _recipe(rate=1e-3, epochs=3, batch=4)
    whole = _model()
    fit(whole, _real_feed(recipe), recipe, Run(folder=tmp_path / "a"))
    here = Path(__file__).resolve()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, here.parents[:3]))}
    at = int(np.random.default_rng().integers(4, 17))
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path / "b"), str(at)],
        env=environment, capture_output=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -9, killed.stderr.decode()[-500:]
    assert 0 < read_weights(tmp_path / "b" / STATE)["step"] <= at
    resumed = _model(seed=99)
    outcome = fit(resumed, _real_feed(recipe), recipe, Run(folder=tmp_path / "b"))
    assert outcome.done
    assert _same(whole, resumed), f"killed before step {at}"


def test_accumulating_changes_nothing_but_rounding(tmp_path: Path) -> None:
    recipe = _recipe(loss="mhformer", rate=1e-3, batch=4)  # the mean of means is the mean
    finals = []
    for parts in (1, 2):
        torch.manual_seed(0)
        model = h2ot_core.build("motionbert", frames=9, width=16, depth=2, heads=2, scheme="none")
        clips = generate(seed=1, frames=40, split="train")[:4]
        feed = ViewFeed(
            Viewpoints(clips, QUIET), frames=9, channels=3, batch=4, steps=3, seed=0,
            description={},
        )  # fmt: skip
        fit(model, feed, recipe, Run(folder=tmp_path / str(parts), accumulate=parts))
        finals.append(torch.cat([p.flatten() for p in model.parameters()]))
    torch.testing.assert_close(finals[0], finals[1], rtol=0, atol=2e-5)


def test_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    recipe = _recipe(epochs=1, batch=4)
    fit(_model(), _real_feed(recipe), recipe, Run(folder=tmp_path))
    other = replace(recipe, rate=1.0)
    with pytest.raises(UsageError, match="another recipe"):
        fit(_model(), _real_feed(other), other, Run(folder=tmp_path))
    with pytest.raises(UsageError, match="another model"):
        fit(_model(width=32), _real_feed(recipe), recipe, Run(folder=tmp_path))
    (tmp_path / STATE).write_bytes(b"no state")
    with pytest.raises(h2ot_core.CheckpointError, match="not a complete PyTorch checkpoint"):
        fit(_model(), _real_feed(recipe), recipe, Run(folder=tmp_path))


def test_a_batch_that_cannot_be_shared_is_said(tmp_path: Path) -> None:
    recipe = _recipe(batch=3)
    with pytest.raises(UsageError, match="a batch of 3 windows cannot be shared"):
        fit(_model(), _real_feed(recipe), recipe, Run(folder=tmp_path, accumulate=2))


def test_a_trunk_trains_in_the_same_loop(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Elastic("mixste", frames=243, width=8, heads=2, depth=8)
    clips = generate(seed=1, frames=980, split="train")[:2]
    feed = elastic.SupernetFeed([], clips, DetectorNoise(), total=3, ladder=(), steps=3)
    recipe = replace(elastic.RECIPE, epochs=1, warmup=0)
    before = model.state_dict()["host.joint_embed.weight"].clone()
    assert fit(model, feed, recipe, Run(folder=tmp_path)).done
    assert not torch.equal(before, model.state_dict()["host.joint_embed.weight"])
    assert weights.read_card(tmp_path / FINAL)["kind"] == "trunk"
    assert not (tmp_path / "final.pth").exists()


def test_the_trunk_is_trained_in_two_parts_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = generate(seed=1, frames=980, split="train")[:2]
    monkeypatch.setattr(elastic, "SIZES", {"frames": 243, "width": 8, "heads": 2, "depth": 8})
    monkeypatch.setattr(elastic, "STEPS_PER_EPOCH", 2)
    monkeypatch.setattr(elastic, "RECOVERING", replace(elastic.RECOVERING, epochs=1))
    monkeypatch.setattr(elastic, "training_clips", lambda motion: ([], clips, clips[:1], "made"))
    monkeypatch.setattr(elastic, "Watch", lambda clips, noise: lambda model: {"mpjpe_mm": 1.0})
    recipe = replace(elastic.RECIPE, epochs=1, warmup=0)
    assert not train_supernet(None, recipe, Run(folder=tmp_path, until=1)).done
    assert train_supernet(None, recipe, Run(folder=tmp_path)).done
    first, last = (weights.load_trunk(tmp_path / name / FINAL) for name in ("first", "."))
    assert not torch.equal(first.host.temporal_pos, last.host.temporal_pos)
    card = weights.read_card(tmp_path / FINAL)
    assert card["before"]["step"] == card["step"] == 2
    assert train_supernet(None, recipe, Run(folder=tmp_path)).done


def _sees_apart(trunk: Elastic) -> float:
    """Frames between each frame and the kept one that TRA attends to most, in the mean."""
    member = trunk.build(prune="tps", recover="tra", r=[27], b=[0])
    attention = member.recoverer.cross_attention
    seen: list[Any] = []
    attention.register_forward_pre_hook(lambda module, given: seen.append(given))
    x = 0.3 * torch.randn(2, 81, 17, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        kept = member.run(x).selections[-1].index[0]
        query, key, _ = seen[0]
        q = attention._split(attention.linear_q(query))
        k = attention._split(attention.linear_k(key))
        most = kept[(q @ k.transpose(-2, -1)).argmax(dim=-1)]  # (B, J, H, F)
    return float((most - torch.arange(81)).abs().float().mean())


def test_planted_positions_let_tra_find_its_frames() -> None:
    torch.manual_seed(0)
    trunk = Elastic("mixste", frames=81, width=64, heads=4, depth=2)
    x, y = torch.randn(2, 9, 17, 2), torch.randn(2, 9, 17, 3)
    same = Elastic("mixste", frames=81, width=64, heads=4, depth=2)
    same.load_state_dict(trunk.state_dict())
    assert _sees_apart(trunk) > 15
    channels = plant_positions(trunk, x, y)
    assert len(set(channels)) == 2 * len(WAVES)
    assert _sees_apart(trunk) < 4  # every third frame is kept
    assert plant_positions(same, x, y) == channels
    assert all(
        torch.equal(a, b) for a, b in zip(trunk.parameters(), same.parameters(), strict=True)
    )


def test_seq2frame_models_learn_from_all_kept_frames() -> None:
    model = _model(scheme="tpm", r=[5, 3], b=[0, 1])
    y = torch.arange(9.0)[None, :, None, None].expand(1, 9, 17, 3)
    predicted, target = Learner(model)(torch.zeros(1, 9, 17, 2), y)
    assert predicted.shape == (1, 3, 17, 3)
    assert target[0, :, 0, 0].tolist() == [0, 4, 8]
    predicted, target = Learner(_model(pipeline="seq2frame"))(torch.zeros(1, 9, 17, 2), y)
    assert predicted.shape == target.shape == (1, 9, 17, 3)


# From the command line.

TINY = "--frames 9 --option width=16 --option depth=2 --option heads=2".split()


def test_a_tiny_human36m_goes_from_files_to_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_h36m(tmp_path / "data", frames=20)
    out = tmp_path / "out"
    data = ["--data", f"h36m:{tmp_path / 'data'}", "--detector", "gt"]
    train = ["train", *data, "--out", str(out), "--epochs", "1", "--batch", "64", *TINY]
    assert main([*train, "--scheme", "none"]) == 0
    told = capsys.readouterr().out
    assert "set aside" in told
    assert str(out / FINAL) in told
    for name in ("final.safetensors", "final.pth"):
        evaluate = ["evaluate", *data, "--weights", str(out / name), "--store"]
        assert main([*evaluate, str(tmp_path / "r.jsonl"), *TINY, "--scheme", "none"]) == 0
        table = capsys.readouterr().out
        assert all(action in table for action in ("Directions", "WalkTogether", "mean"))
    # A model without weights of its own for pruning takes the same file.
    evaluate = ["evaluate", *data, "--weights", str(out / "final.safetensors"), *TINY]
    pruned = ["--scheme", "h2ot", "--b", "0", "1", "--store", str(tmp_path / "r.jsonl")]
    assert main([*evaluate, *pruned]) == 0
    assert main([*evaluate, "--scheme", "hot", "--b", "1", *pruned[-2:]]) == 2
    assert "does not fit" in capsys.readouterr().err


def test_the_published_habit_is_labelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_h36m(tmp_path / "data", frames=9, subjects=("S1", "S9"))
    data = ["--data", f"h36m:{tmp_path / 'data'}", "--detector", "gt"]
    out = tmp_path / "out"
    train = ["train", *data, "--out", str(out), "--epochs", "1", "--batch", "64", *TINY]
    status = main([*train, "--scheme", "none", "--validate-on-test"])
    told = capsys.readouterr()
    if status == 2:  # the reader wants every subject
        made_h36m(tmp_path / "data", frames=9)
        assert main([*train, "--scheme", "none", "--validate-on-test"]) == 0
        told = capsys.readouterr()
    assert "test split, as the published code does" in told.out
    assert "test split" in weights.read_card(out / BEST)["chosen"]


def test_wrong_use_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--out", str(tmp_path)]) == 2
    assert "needs --data" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--data", "generated", "--epochs", "0", "--out", str(tmp_path)])
    assert "--epochs: must be at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    # No stochastic depth, whose draws belong to the process, and a loss that is a plain mean.
    arguments = [
        "train", "--host", "motionbert", "--scheme", "none", "--frames", "9",
        "--option", "width=16", "--option", "depth=2", "--option", "heads=2",
        "--data", "generated:3:60", "--epochs", "1", "--batch", "64", "--validation", "0",
    ]  # fmt: skip
    one = [sys.executable, "-m", "bench", *arguments, "--out", str(tmp_path / "one")]
    two = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        "-m", "bench", *arguments, "--out", str(tmp_path / "two"), "--devices", "2",
    ]  # fmt: skip
    for command in (one, two):
        done = subprocess.run(command, env=environment, capture_output=True, check=False, cwd=root)
        assert done.returncode == 0, done.stderr.decode()[-2000:]
    a, b = (weights.load(tmp_path / name / FINAL).state_dict() for name in ("one", "two"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-5, msg=name)


def test_generated_takes_train_and_validate_on_motion_apart() -> None:
    data = open_data("generated:0:40")
    left, aside = split_validation(data.sequences("train"), 0.1)
    assert {t.clip for t in left}.isdisjoint({t.clip for t in aside})
