"""TPC, TPA and TPMo against plain computations; what TPS keeps is in test_core_schedule.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from h2ot_core import (
    PRUNERS,
    RECOVERERS,
    ConfigError,
    Hourglass,
    InputError,
    Schedule,
    Selection,
    build,
)
from h2ot_core.hosts import Step
from h2ot_core.layers import Tap
from h2ot_core.prune import AttentionPruner, ClusterPruner, MotionPruner
from h2ot_core.prune import attention as attention_module
from h2ot_core.prune.base import Signals
from h2ot_core.selection import bracket

Array = NDArray[np.float64]
Build = Callable[..., Hourglass]
Clips = Callable[..., Tensor]


def top(scores: Sequence[float] | Array, keep: int, first: int | None = None) -> list[int]:
    """The best positions in order of time, ties to the earlier, after one that must be kept."""
    order = sorted(range(len(scores)), key=lambda i: (i != first, -scores[i], i))
    return sorted(order[:keep])


def one_stage(frames: int, keep: int) -> Schedule:
    return Schedule(frames, (keep,), (0,), 1)


def everything(frames: int) -> Tensor:
    return torch.arange(frames).unsqueeze(0)


# --- TPC


def cluster_scores(
    keys: Array, noise: Array, neighbours: int = 2, densest: str = "global"
) -> list[float]:
    """Density x distance to the nearest denser token (Eqs. 1 and 2), by loops over pairs."""
    n, width = keys.shape
    distance = [
        [math.sqrt(sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / width) for q in keys]
        for p in keys
    ]
    density = [
        math.exp(-sum(d * d for d in sorted(row)[:neighbours]) / neighbours) + noise[i] * 1e-6
        for i, row in enumerate(distance)
    ]
    largest = max(max(row) for row in distance)
    scores = []
    for i, row in enumerate(distance):
        denser = [row[j] for j in range(n) if density[j] > density[i]]
        alone = largest if densest == "global" else max(row)
        scores.append(density[i] * min(denser, default=alone))
    return scores


def random_keys(clips: int, frames: int, width: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(clips, frames, width))


@pytest.mark.parametrize("centre", [None, 8])
@pytest.mark.parametrize("densest", ["global", "row"])
@pytest.mark.parametrize("neighbours", [1, 2, 5])
def test_cluster_against_loops(neighbours: int, densest: str, centre: int | None) -> None:
    keys, noise = random_keys(4, 18, 6), np.random.default_rng(1).random((4, 18))
    pruner = ClusterPruner(one_stage(18, 6), centre, tpc_k=neighbours, tpc_seed=0, tpc_max=densest)
    signals = Signals(everything(18), torch.from_numpy(keys), noise=torch.from_numpy(noise))
    found = pruner.select(signals, 0)
    for row in range(4):
        scores = cluster_scores(keys[row], noise[row], neighbours, densest)
        assert pruner.score(signals, 0)[row].tolist() == pytest.approx(scores, rel=1e-6)
        assert found[row].tolist() == top(scores, 6, centre)


def test_global_and_row_maximum_differ_where_the_densest_is_not_at_the_rim() -> None:
    """On a line, the densest frame is nearer to both ends than they are to each other."""
    keys = torch.tensor([[-4.0, 0.0, 0.1, 3.0]]).unsqueeze(2)
    noise = torch.tensor([[0.0, 1.0, 0.0, 0.0]])  # of the two in the middle, the first is denser
    densest = {}
    for choice in ("global", "row"):
        pruner = ClusterPruner(one_stage(4, 2), None, tpc_k=2, tpc_seed=0, tpc_max=choice)
        score = pruner.score(Signals(everything(4), keys, noise=noise), 0)
        densest[choice] = float(score[0, 1]) / (math.exp(-(0.1**2) / 2) + 1e-6)
    assert densest == pytest.approx({"global": 7.0, "row": 4.0})


def test_cluster_noise_settles_mutually_nearest_frames() -> None:
    """They are equally dense, so that the noise alone decides which is the centre."""
    keys = torch.tensor([[0.0, 0.1, 5.0, 5.1]]).unsqueeze(2)
    pruner = ClusterPruner(one_stage(4, 2), None, tpc_k=2, tpc_seed=0, tpc_max="global")
    for noise in ([1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.9]):
        signals = Signals(everything(4), keys, noise=torch.tensor([noise]))
        assert pruner.select(signals, 0).tolist() == [[i for i, u in enumerate(noise) if u]]


@pytest.mark.parametrize("pipeline", ["seq2seq", "seq2frame"])
def test_cluster_in_a_model_uses_the_current_tokens(
    small: Build, clips: Clips, monkeypatch: pytest.MonkeyPatch, pipeline: str
) -> None:
    """Two stages: each scores the mean over joints of the tokens that it is given."""
    model = small(scheme="hot", r=(13, 5), b=(0, 2), pipeline=pipeline)
    tokens: list[Array] = []
    keys = model.host.keys

    def spy(z: Tensor) -> Tensor:
        tokens.append(z.detach().double().numpy())
        return keys(z)

    monkeypatch.setattr(model.host, "keys", spy)
    noise = [np.random.default_rng(stage).random((2, n)) for stage, n in enumerate((27, 13))]
    out = model.run(clips(), noise=[torch.from_numpy(n).float() for n in noise])
    assert [z.shape[1] for z in tokens] == [27, 13]
    for row in range(2):
        current = list(range(27))
        for stage, keep in enumerate((13, 5)):
            scores = cluster_scores(tokens[stage][row].mean(axis=1), noise[stage][row])
            first = current.index(13) if pipeline == "seq2frame" else None
            current = [current[i] for i in top(scores, keep, first)]
            assert out.selections[stage].index[row].tolist() == current


@pytest.mark.parametrize("walk", [False, True], ids=["scattered", "smooth"])
def test_cluster_selection_does_not_depend_on_the_batch(
    small: Build, clips: Clips, walk: bool
) -> None:
    """Long and wide enough for float32's distances to round differently in another batch."""
    model = small(scheme="hot", frames=81, width=64, r=27, b=1, depth=2, jitter=False)
    x = clips(8, frames=81)
    x = (0.05 * x).cumsum(dim=1) if walk else x
    together = model.run(x).selections[0].index
    alone = [model.run(x[row : row + 1]).selections[0].index for row in range(8)]
    assert torch.equal(torch.cat(alone), together)


def test_cluster_seed(small: Build, clips: Clips) -> None:
    x = clips(4)

    def index(**options: Any) -> Tensor:
        return small(scheme="hot", r=9, b=1, **options).run(x).selections[0].index

    assert torch.equal(index(), index(tpc_seed=0))
    torch.rand(7)  # a caller's own random numbers have no say
    assert torch.equal(index(tpc_seed=3), index(tpc_seed=3))
    assert not torch.equal(index(tpc_seed=0), index(tpc_seed=3))


def test_building_leaves_the_callers_random_numbers_alone() -> None:
    sizes = {"frames": 9, "width": 4, "heads": 1, "depth": 1, "r": 3, "b": 0, "recover": "tri"}
    after = []
    for prune in ("tps", "tpc"):
        torch.manual_seed(0)
        build("mixste", prune=prune, **sizes)
        after.append(float(torch.rand(())))
    assert after[0] == after[1]


def test_cluster_takes_as_many_neighbours_as_there_are_frames(small: Build, clips: Clips) -> None:
    assert small(scheme="hot", r=(13, 9), b=(0, 2), tpc_k=13).run(clips()).kept.shape[1] == 9


@pytest.mark.parametrize("k", [0, 14, -1])
def test_cluster_neighbours_must_exist(small: Build, k: int) -> None:
    with pytest.raises(ConfigError, match=rf"tpc_k must be between 1 and .* 13; got {k}"):
        small(scheme="hot", r=(13, 9), b=(0, 2), tpc_k=k)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (torch.zeros(2, 26), r"N = \[27, 13\], got \[\(2, 26\)\]"),
        ([torch.zeros(2, 27)], r"got \[\(2, 27\)\]"),
        ([torch.zeros(2, 27), torch.zeros(2, 27)], r"got \[\(2, 27\), \(2, 27\)\]"),
        ([torch.zeros(2, 27), torch.zeros(13)], r"got \[\(2, 27\), \(13,\)\]"),
        ([torch.zeros(2, 27), torch.tensor(0.0)], r"got \[\(2, 27\), \(\)\]"),
        ([torch.zeros(3, 27), torch.zeros(2, 13)], r"\(2, N\) or \(1, N\).*got \[\(3, 27\)"),
    ],
)
def test_noise_that_does_not_fit(small: Build, clips: Clips, noise: Any, message: str) -> None:
    model = small(scheme="hot", r=(13, 9), b=(0, 2))
    with pytest.raises(InputError, match=message):
        model.run(clips(), noise=noise)


def test_noise_of_one_row_serves_every_clip(small: Build, clips: Clips) -> None:
    model, noise = small(scheme="hot", r=9, b=1), torch.rand(1, 27)
    one = model.run(clips(), noise=noise).selections[0].index
    assert torch.equal(one, model.run(clips(), noise=noise.expand(2, -1)).selections[0].index)


@pytest.mark.parametrize("options", [{"prune": "tpmo"}, {"scheme": "none"}])
def test_noise_is_for_cluster_pruning(small: Build, clips: Clips, options: dict[str, Any]) -> None:
    model = small(**options)
    with pytest.raises(InputError, match=f"this model has prune={model.config.prune!r}"):
        model.run(clips(), noise=torch.zeros(2, 27))


# --- TPA


def softmax(logits: Array) -> Array:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def attention_scores(query: Array, key: Array) -> tuple[Array, Array]:
    """Attention received and given by each frame, averaged over heads and streams (S, H, N, d)."""
    streams, heads, n, d = query.shape
    received, given = np.zeros(n), np.zeros(n)
    for s in range(streams):
        for h in range(heads):
            for i in range(n):
                weights = softmax(key[s, h] @ query[s, h, i] / math.sqrt(d))
                received += weights / (streams * heads)
                given[i] += weights.sum() / (streams * heads)
    return received, given


def random_attention(seed: int = 0) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(3, 2, 4, 9, 5)), generator.normal(size=(3, 2, 4, 9, 5))


def test_attention_against_loops() -> None:
    query, key = random_attention()
    signals = Signals(everything(9), attention=[(torch.from_numpy(query), torch.from_numpy(key))])
    received = AttentionPruner(one_stage(9, 3), None, tpa_axis="received")
    row = AttentionPruner(one_stage(9, 3), None, tpa_axis="row")
    for clip in range(3):
        by_key, by_query = attention_scores(query[clip], key[clip])
        assert received.score(signals, 0)[clip].tolist() == pytest.approx(by_key, rel=1e-12)
        assert row.score(signals, 0)[clip].tolist() == pytest.approx(by_query, rel=1e-12)
        assert received.select(signals, 0)[clip].tolist() == top(by_key, 3)
        # The sum that the paper prints tells no frame from another.
        assert by_query == pytest.approx(np.ones(9))


def test_what_a_tap_received_is_the_sum_over_queries_alone() -> None:
    """An attention that had its weights at hand tells what each frame received, no more."""
    tap = Tap()
    tap.append(tuple(torch.from_numpy(t) for t in random_attention()))  # type: ignore[arg-type]
    tap.received.append(torch.arange(27.0).reshape(3, 9))
    signals = Signals(everything(9), attention=tap)
    received = AttentionPruner(one_stage(9, 3), None, tpa_axis="received").score(signals, 0)
    assert torch.equal(received, tap.received[0])
    row = AttentionPruner(one_stage(9, 3), None, tpa_axis="row").score(signals, 0)
    assert row.flatten().tolist() == pytest.approx([1.0] * 27)


def test_attention_of_several_branches_is_averaged() -> None:
    pairs = [random_attention(seed) for seed in (0, 1)]
    tap = [(torch.from_numpy(q), torch.from_numpy(k)) for q, k in pairs]
    pruner = AttentionPruner(one_stage(9, 3), None, tpa_axis="received")
    found = pruner.score(Signals(everything(9), attention=tap), 0)
    for clip in range(3):
        expected = np.mean([attention_scores(q[clip], k[clip])[0] for q, k in pairs], axis=0)
        assert found[clip].tolist() == pytest.approx(expected, rel=1e-12)


def test_attention_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    tap = [tuple(torch.from_numpy(t) for t in random_attention())]
    pruner = AttentionPruner(one_stage(9, 3), None, tpa_axis="received")
    whole = pruner.score(Signals(everything(9), attention=tap), 0)
    monkeypatch.setattr(attention_module, "_CHUNK", {"cpu": 1})  # one clip at a time
    pieces = pruner.score(Signals(everything(9), attention=tap), 0)
    assert torch.allclose(pieces, whole, rtol=1e-12)


def test_attention_is_the_same_when_it_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler takes the whole batch at once."""
    tap = [tuple(torch.from_numpy(t) for t in random_attention())]
    pruner = AttentionPruner(one_stage(9, 3), None, tpa_axis="received")
    pieces = pruner.score(Signals(everything(9), attention=tap), 0)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    whole = pruner.score(Signals(everything(9), attention=tap), 0)
    assert torch.allclose(whole, pieces, rtol=1e-12)


def test_attention_is_that_of_the_block_before(small: Build, clips: Clips) -> None:
    """Two stages, queries and keys worked out again from what enters the blocks."""
    model = small(prune="tpa", r=(13, 5), b=(1, 3))
    entered: dict[int, Array] = {}
    for block in (0, 2):
        attn = model.host.temporal_blocks[block].attn
        attn.register_forward_pre_hook(
            lambda _, args, block=block: entered.update({block: args[0].detach().numpy()})
        )
    out = model.run(clips())
    for row in range(2):
        current = list(range(27))
        for stage, (block, keep) in enumerate([(0, 13), (2, 5)]):
            qkv = model.host.temporal_blocks[block].attn.qkv
            x = entered[block][row].transpose(1, 0, 2)  # (S, N, C)
            joint = x @ qkv.weight.detach().numpy().T + qkv.bias.detach().numpy()
            query, key, _ = np.split(joint, 3, axis=2)
            query, key = (np.stack(np.split(t, 2, axis=2), axis=1) for t in (query, key))
            received, _ = attention_scores(query.astype("float64"), key.astype("float64"))
            current = [current[i] for i in top(received, keep)]
            assert out.selections[stage].index[row].tolist() == current


def test_listening_changes_no_bit(small: Build, clips: Clips) -> None:
    """With the selection given, the same blocks run without being listened to."""
    model, x = small(prune="tpa", r=(13, 5), b=(1, 3)), clips()
    heard: list[bool] = []
    model.host.temporal_blocks[0].attn.register_forward_pre_hook(
        lambda _, args: heard.append(len(args) == 2)  # the recorder
    )
    listened = model.run(x)
    silent = model.run(x, selections=listened.selections)
    assert heard == [True, False]
    assert torch.equal(silent.poses, listened.poses)


def test_attention_needs_a_step_that_records(small: Build, clips: Clips) -> None:
    model = small(prune="tpa", r=13, b=1)
    steps = model.host.steps()
    model.host.steps = lambda: tuple(
        Step(step.name, lambda x, recorder, run=step.run: run(x, None)) for step in steps
    )
    with pytest.raises(ConfigError, match=r"recorded none; append .* or return None"):
        model(clips())


def test_attention_needs_a_block_before(small: Build) -> None:
    message = r"none before b = 0. Use b >= 1, got b = \[0, 3\]"
    with pytest.raises(ConfigError, match=message):
        small(prune="tpa")


# --- TPMo

# What three joints do from each frame to the next.
STEPS = [
    [[3, 0], [0, 0], [0, 0]],
    [[2, 0], [2, 0], [0, 0]],
    [[-3, 4], [0, 0], [0, 0]],
    [[0, 0], [2, -2], [0, 0]],
    [[1, 1], [1, 1], [0, 0]],
]


def motion(**options: Any) -> MotionPruner:
    defaults = {"tpmo_measure": "abs", "tpmo_first": "zero"}
    return MotionPruner(one_stage(6, 3), None, **{**defaults, **options})


def moved() -> Signals:
    start = torch.full((1, 3, 2), 0.25)
    return Signals(
        everything(6), poses=torch.cat([start, start + torch.tensor(STEPS).cumsum(0)])[None]
    )


@pytest.mark.parametrize(
    ("measure", "scores", "kept"),
    [
        ("abs", [0, 3, 4, 7, 4, 4], [2, 3, 4]),
        ("signed", [0, 3, 4, 1, 0, 4], [1, 2, 5]),
        ("squared", [0, 9, 8, 25, 8, 4], [1, 2, 3]),
        ("l2", [0, 3, 4, 5, 2 * math.sqrt(2), 2 * math.sqrt(2)], [1, 2, 3]),
    ],
)
def test_motion_measures(measure: str, scores: list[float], kept: list[int]) -> None:
    pruner = motion(tpmo_measure=measure)
    assert pruner.score(moved(), 0)[0].tolist() == pytest.approx(scores)
    assert pruner.select(moved(), 0).tolist() == [kept]


@pytest.mark.parametrize(
    ("first", "expected"), [("zero", [2, 3, 4]), ("next", [2, 3, 4]), ("keep", [0, 2, 3])]
)
def test_motion_of_the_first_frame(first: str, expected: list[int]) -> None:
    assert motion(tpmo_first=first).select(moved(), 0).tolist() == [expected]
    score = motion(tpmo_first=first).score(moved(), 0)[0]
    assert float(score[0]) == pytest.approx(
        {"zero": 0.0, "next": 3.0, "keep": torch.finfo(torch.float32).max}[first]
    )
    assert score[1:].tolist() == motion().score(moved(), 0)[0, 1:].tolist()


def test_motion_of_a_single_frame() -> None:
    pruner = MotionPruner(one_stage(2, 1), None, tpmo_measure="abs", tpmo_first="next")
    assert pruner.score(Signals(everything(1), poses=torch.ones(2, 1, 3, 2)), 0).tolist() == [
        [0.0],
        [0.0],
    ]


def line(model: Hourglass, positions: list[float]) -> Tensor:
    """One clip whose first joint moves along x."""
    x = torch.zeros(1, len(positions), model.host.joints, 2)
    x[0, :, 0, 0] = torch.tensor(positions)
    return x


def test_motion_is_measured_anew_among_the_frames_left(small: Build) -> None:
    model = small(prune="tpmo", frames=9, r=(5, 3), b=(0, 2))
    # Steps 0 5 5 0 1 0.5 4.5 0 keep 2 3 5 6 7. There: 5 0 1 1.5 6, so steps 5 1 0.5 4.5.
    out = model.run(line(model, [0, 0, 5, 0, 0, 1, 1.5, 6, 6]))
    assert out.selections[0].index.tolist() == [[2, 3, 5, 6, 7]]
    assert out.selections[1].index.tolist() == [[3, 5, 7]]


def test_motion_ties_go_to_the_earlier_frame(small: Build) -> None:
    model = small(prune="tpmo", frames=9, r=(5, 3), b=(0, 2))
    still = model.run(line(model, [2.0] * 9))
    assert still.selections[0].index.tolist() == [[0, 1, 2, 3, 4]]
    steady = model.run(line(model, [float(t) for t in range(9)]))
    assert steady.selections[0].index.tolist() == [[1, 2, 3, 4, 5]]


@pytest.mark.parametrize("first", ["zero", "next", "keep"])
@pytest.mark.parametrize("r", [(5, 3), (5, 1)])
def test_motion_keeps_the_centre_for_seq2frame(
    small: Build, r: tuple[int, ...], first: str
) -> None:
    """Even where it ranks last by itself and another frame is always kept."""
    model = small(
        prune="tpmo",
        pipeline="seq2frame",
        recover="none",
        frames=9,
        r=r,
        b=(0, 2),
        tpmo_first=first,
    )
    out = model.run(line(model, [0, 5, 0, 5, 5, 6, 6.5, 7, 9]))
    for selection in out.selections:
        assert 4 in selection.index[0].tolist()
    place = out.selections[-1].index[0].tolist().index(4)
    assert torch.equal(out.poses[:, 0], out.kept[:, place])


def test_motion_sees_the_2d_input_alone(small: Build, clips: Clips) -> None:
    """The same frames whatever the weights."""
    found = [small(seed, prune="tpmo").run(clips()).selections for seed in (0, 1)]
    for one, other in zip(*found, strict=True):
        assert torch.equal(one.index, other.index)


def test_motion_does_not_see_the_confidence(clips: Clips) -> None:
    """Of hosts that take one as a third channel; at no stage."""
    sizes: dict[str, Any] = {"frames": 27, "width": 16, "depth": 3, "heads": 2}
    model = build("motionbert", prune="tpmo", r=(13, 9), b=(0, 2), **sizes).eval()
    x, confidence = clips(joints=17), 10 * clips(joints=17, seed=2)[..., :1]
    sure, unsure = torch.ones_like(confidence), confidence
    found = [model.run(torch.cat([x, one], dim=3)).selections for one in (sure, unsure)]
    for one, other in zip(*found, strict=True):
        assert torch.equal(one.index, other.index)


# --- all pruners


@pytest.mark.parametrize("prune", PRUNERS)
def test_a_pruner_has_no_weights(small: Build, prune: str) -> None:
    """So weights trained without it fit, and files hold none of its noise."""
    host, model = small(scheme="none"), small(prune=prune, b=(1, 3), recover="tri")
    assert set(model.state_dict()) == set(host.state_dict())


@pytest.mark.parametrize("prune", PRUNERS)
def test_what_a_pruner_holds_is_on_the_device_it_is_built_on(small: Build, prune: str) -> None:
    with torch.device("meta"):
        model = small(prune=prune, b=(1, 3), jitter=False)
    assert all(buffer.is_meta for buffer in model.buffers())


@pytest.mark.parametrize("pipeline", ["seq2seq", "seq2frame"])
@pytest.mark.parametrize("recover", RECOVERERS)
@pytest.mark.parametrize("prune", PRUNERS)
def test_the_default_device_of_a_caller_has_no_say(
    small: Build, clips: Clips, prune: str, recover: str, pipeline: str
) -> None:
    model, x = small(prune=prune, recover=recover, b=(1, 3), pipeline=pipeline), clips()
    wanted = model.run(x)
    with torch.device("meta"):
        found = model.run(x)
    assert torch.equal(found.poses, wanted.poses)


@pytest.mark.parametrize("prune", PRUNERS)
def test_a_pruner_is_given_what_it_requires(
    small: Build, clips: Clips, monkeypatch: pytest.MonkeyPatch, prune: str
) -> None:
    model, given = small(prune=prune, b=(1, 3)), []
    assert model.pruner is not None
    select = model.pruner.select

    def spy(signals: Signals, stage: int) -> Tensor:
        given.append({n for n in ("keys", "attention", "poses") if getattr(signals, n) is not None})
        return select(signals, stage)

    monkeypatch.setattr(model.pruner, "select", spy)
    selections = model.run(clips()).selections
    if model.pruner.fixed() is None:
        assert given == [{model.pruner.requires}] * 2
        return
    assert not given  # chosen once and for all, neighbours for recovering included
    for selection in selections:
        assert selection.bracket is not None
        expected = vars(bracket(selection.index, 27))
        assert all(torch.equal(expected[n], v) for n, v in vars(selection.bracket).items())


# --- all scores


@pytest.mark.parametrize("prune", ["tpc", "tpa", "tpmo"])
def test_scores_select_without_gradient(small: Build, clips: Clips, prune: str) -> None:
    x = clips().requires_grad_()
    out = small(prune=prune, b=(1, 3)).run(x)
    assert all(isinstance(s, Selection) and not s.index.requires_grad for s in out.selections)
    out.poses.sum().backward()
    assert x.grad is not None
    pruned = sorted(set(range(27)) - set(out.selections[0].index[0].tolist()))
    # Frames dropped at block 1 still act through the attention of block 0.
    assert bool((x.grad[0, pruned].abs().sum(dim=(1, 2)) > 0).all())
