"""What every host must do under every strategy and pipeline; new entries are tested by existing."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch

from h2ot_core import (
    HOSTS,
    PRUNERS,
    RECOVERERS,
    SCHEMES,
    CheckpointError,
    ConfigError,
    Hourglass,
    InputError,
    build,
    load_published,
)
from h2ot_core.checkpoints import published_names
from h2ot_core.schedule import middle

FRAMES, DEPTH = 27, 3
R, B = (13, 9), (1, 2)


def small(host: str, **arguments: Any) -> Hourglass:
    torch.manual_seed(0)
    return build(host, **{"frames": FRAMES, "width": 16, "depth": DEPTH, **arguments}).eval()


def clips(model: Hourglass, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (count, model.schedule.frames, model.host.joints, model.host.channels)
    return torch.rand(shape, generator=generator) * 2 - 1


def combinations() -> list[Any]:
    found = []
    for host, prune, recover, pipeline in product(
        HOSTS, PRUNERS, ("none", *RECOVERERS), ("seq2seq", "seq2frame")
    ):
        if pipeline not in HOSTS[host].pipelines:
            continue
        if recover == "none" and pipeline == "seq2seq":
            continue
        if recover != "none" and "seq2seq" not in HOSTS[host].pipelines:
            continue
        found.append((host, prune, recover, pipeline))
    return found


@pytest.mark.parametrize(("host", "prune", "recover", "pipeline"), combinations())
def test_every_combination(host: str, prune: str, recover: str, pipeline: str) -> None:
    model = small(host, prune=prune, recover=recover, pipeline=pipeline, r=R, b=B)
    x = clips(model)
    out = model.run(x)
    frames = FRAMES if pipeline == "seq2seq" else 1
    assert out.poses.shape == (2, frames, 17, 3)
    assert out.kept.shape == (2, R[-1], 17, 3)
    assert torch.isfinite(out.poses).all()
    before: set[int] = set(range(FRAMES))
    for selection, keep in zip(out.selections, R, strict=True):
        index = selection.validate().index[0].tolist()
        assert len(index) == keep
        assert set(index) <= before
        assert pipeline == "seq2seq" or middle(FRAMES) in index
        before = set(index)
    again = model.run(x, selections=out.selections)
    assert torch.equal(again.poses, out.poses)
    torch.testing.assert_close(model(x[1:]), out.poses[1:], atol=1e-5, rtol=1e-4)
    if pipeline == "seq2seq" and recover == "tri":
        assert torch.equal(out.selections[-1].gather(out.poses), out.kept)


@pytest.mark.parametrize("host", HOSTS)
def test_gradients_reach_the_embedding(host: str) -> None:
    model = small(host, prune="tps", r=R, b=B).train()
    output = model.run(clips(model))
    output.kept.square().mean().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is None or torch.isfinite(g).all() for g in gradients.values())
    embedding = next(g for name, g in gradients.items() if "embed" in name and "weight" in name)
    assert embedding is not None
    assert embedding.abs().max() > 0


@pytest.mark.parametrize(("host", "scheme"), list(product(HOSTS, SCHEMES)))
def test_published_schemes(host: str, scheme: str) -> None:
    kind = HOSTS[host]
    sizes = {"width": 16, "frames": FRAMES, "depth": max(kind.sizes["depth"], 3)}
    if scheme != "none" and scheme not in kind.published_b:
        with pytest.raises(ConfigError, match="choose scheme"):
            build(host, scheme=scheme, **sizes)
        return
    model = build(host, scheme=scheme, **sizes).eval()
    assert model.schedule.b == kind.published_b.get(scheme, ())
    expected = {"none": (), "hot": (9,), "tpc": (9,), "tpm": (13, 9), "h2ot": (13, 9)}
    assert model.schedule.r == expected[scheme]
    assert model(clips(model)).shape[1] == (FRAMES if model.config.pipeline == "seq2seq" else 1)


@pytest.mark.parametrize("host", HOSTS)
def test_no_pruning_is_the_baseline_bit_for_bit(host: str) -> None:
    plain = small(host, scheme="none")
    scheme = HOSTS[host].default_scheme
    empty = small(host, scheme=scheme, r=(), b=(), pipeline=plain.config.pipeline)
    empty.load_state_dict(plain.state_dict())
    assert torch.equal(plain(clips(plain)), empty(clips(plain)))


@pytest.mark.parametrize("host", HOSTS)
def test_baseline_weights_run_pruned(host: str) -> None:
    plain = small(host, scheme="none")
    weights = {theirs: plain.state_dict()[ours] for theirs, ours in published_names(plain).items()}
    arguments: dict[str, Any] = {"prune": "tps", "r": R, "b": B}
    if "seq2seq" in HOSTS[host].pipelines:
        arguments["recover"] = "tri"
    pruned = small(host, **arguments)
    if host == "motionagformer":
        with pytest.raises(CheckpointError, match="one entry per frame"):
            load_published(pruned, weights)
    else:
        load_published(pruned, weights)
        assert torch.isfinite(pruned(clips(pruned))).all()


@pytest.mark.parametrize("host", HOSTS)
def test_wrong_channels_and_joints_are_named(host: str) -> None:
    model = small(host, scheme="none")
    channels = model.host.channels
    with pytest.raises(InputError, match=rf"\(B, 27, 17, {channels}\).*got \(1, 27, 17, 5\)"):
        model(torch.zeros(1, 27, 17, 5))
    with pytest.raises(InputError, match=rf"got \(1, 27, 16, {channels}\)"):
        model(torch.zeros(1, 27, 16, channels))


def test_tpa_averages_the_streams_of_mhformer() -> None:
    model = small("mhformer", prune="tpa", r=(9,), b=(1,))
    x = clips(model, 1)
    tap: list[Any] = []  # a plain list will do
    with torch.no_grad():
        model.host.steps()[0].run(model.host.embed(x), tap)
        assert len(tap) == 3  # one attention per hypothesis
        total = torch.zeros(FRAMES)
        for query, key in tap:
            weights = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(dim=-1)
            total += weights[0, 0].sum(dim=1).mean(dim=0)
        total[middle(FRAMES)] = torch.inf
        expected = total.topk(9).indices.sort().values
        assert torch.equal(model.run(x).selections[0].index[0], expected)


def test_mhformer_has_nothing_to_recover() -> None:
    with pytest.raises(ConfigError, match="nothing to recover"):
        small("mhformer", recover="tri")
    with pytest.raises(ConfigError, match="cannot be seq2seq"):
        small("mhformer", scheme="h2ot")
    with pytest.raises(ConfigError, match="divisible by 9"):
        small("mhformer", frames=28)


def test_motionagformer_layers_know_their_length() -> None:
    model = small("motionagformer", prune="tps", recover="tri", r=R, b=(0, 2))
    lengths = [
        module.batch_norm.num_features
        for name, module in model.named_modules()
        if name.endswith("graph_temporal.mixer")
    ]
    assert lengths == [13, 13, 9]


@pytest.mark.parametrize("frames", [3, 9, 13, 27])
def test_recovering_fewer_frames_keeps_the_centre(frames: int) -> None:
    arguments = {"scheme": "h2ot", "r": R, "b": B, "pipeline": "seq2frame"}
    whole, some = small("mixste", **arguments), small("mixste", **arguments, tri_frames=frames)
    some.load_state_dict(whole.state_dict())
    x = clips(whole)
    assert torch.equal(some(x), whole(x))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"tri_frames": 9}, "seq2seq returns all 27 frames"),
        ({"tri_frames": 29, "pipeline": "seq2frame"}, "between 3 and the 27"),
        ({"tri_frames": 8, "pipeline": "seq2frame"}, "must be odd"),
    ],
)
def test_recovered_frames_are_checked(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        small("mixste", scheme="h2ot", r=R, b=B, **arguments)
