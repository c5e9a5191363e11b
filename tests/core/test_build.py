"""What ``build`` makes of its arguments, and what it and the model refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from h2ot_core import SCHEMES, ConfigError, Hourglass, InputError, build, load_published
from h2ot_core.checkpoints import published_names
from h2ot_core.layers import Block

Build = Callable[..., Hourglass]
Clips = Callable[..., Tensor]

PUBLISHED = {  # paper, Tables 2, 3 and 10
    (243, "none"): (None, None, "seq2seq", (), ()),
    (243, "hot"): ("tpc", "tra", "seq2seq", (81,), (3,)),
    (243, "tpc"): ("tpc", None, "seq2frame", (81,), (3,)),
    (243, "tpm"): ("tps", None, "seq2frame", (121, 81), (0, 3)),
    (243, "h2ot"): ("tps", "tri", "seq2seq", (121, 81), (0, 3)),
    (27, "h2ot"): ("tps", "tri", "seq2seq", (13, 9), (0, 3)),
}


# --- presets


@pytest.mark.parametrize(("frames", "scheme"), PUBLISHED)
def test_published_settings(frames: int, scheme: str) -> None:
    with torch.device("meta"):
        config = build("mixste", frames=frames, scheme=scheme).config
    found = (config.prune, config.recover, config.pipeline, config.r, config.b)
    assert found == PUBLISHED[frames, scheme]
    assert (config.host, config.frames, config.scheme) == ("mixste", frames, scheme)


def test_the_default_is_the_papers_mixste() -> None:
    with torch.device("meta"):
        model = build("mixste")
    assert (model.config.scheme, model.config.frames) == ("h2ot", 243)
    assert sum(p.numel() for p in model.parameters()) == 33_783_811


def test_options_are_recorded_with_their_defaults() -> None:
    model = build("mixste", frames=27, width=8, heads=2, tri_where="tokens")
    options = dict(model.config.options)
    assert options["width"] == 8
    assert options["depth"] == 8
    assert options["joints"] == 17
    assert options["tps_rounding"] == "half_even"
    assert options["tri_where"] == "tokens"
    assert not any(name.startswith("tpc") for name in options)


def test_what_is_given_overrides_the_scheme(small: Build) -> None:
    config = small(scheme="hot", prune="TPMo", recover="tri", r=[9], b=[2]).config
    assert (config.prune, config.recover, config.r, config.b) == ("tpmo", "tri", (9,), (2,))
    config = small(scheme="h2ot", recover="none", pipeline="seq2frame").config
    assert (config.prune, config.recover, config.pipeline) == ("tps", None, "seq2frame")


def test_the_configuration_is_printed(small: Build) -> None:
    assert "seq2seq, frames=27, r=[13, 9], b=[0, 3], prune=tps, recover=tri" in repr(small())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_configuration_builds_the_same_model_again(small: Build, scheme: str) -> None:
    config = small(scheme=scheme, joints=3).config
    assert build(**config.arguments).config == config


# --- no pruning


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_pruning_every_scheme_is_the_host(small: Build, clips: Clips, scheme: str) -> None:
    """To the bit, from the same weights."""
    host = small(scheme="none")
    model = small(seed=1, scheme=scheme, r=(), b=())
    assert (model.config.prune, model.config.recover) == (None, None)
    model.load_state_dict(host.state_dict())
    expected = host(clips())
    if model.config.pipeline == "seq2frame":
        expected = expected[:, 13:14]
    assert torch.equal(model(clips()), expected)


def test_no_pruner_by_name_is_the_host(small: Build, clips: Clips) -> None:
    host, model = small(scheme="none"), small(prune="none", recover="none")
    model.load_state_dict(host.state_dict())
    out = model.run(clips())
    assert torch.equal(out.poses, host(clips()))
    assert torch.equal(out.kept, out.poses)
    assert out.selections == ()


def test_baseline_weights_fit_the_model_without_weights_of_its_own(
    small: Build, clips: Clips
) -> None:
    host = small(scheme="none")
    published = {theirs: host.state_dict()[ours] for theirs, ours in published_names(host).items()}
    model = load_published(small(seed=1, prune="tps", recover="tri"), published)
    for name, value in host.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    assert set(model.state_dict()) == set(host.state_dict())


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scheme": "h2o"}, "unknown scheme 'h2o'; did you mean 'h2ot'?"),
        ({"scheme": "xyz"}, r"unknown scheme 'xyz'\. Known: none, hot, tpc, tpm, h2ot\."),
        ({"prune": "tpsa"}, "unknown pruner 'tpsa'; did you mean 'tps'?.*none"),
        ({"recover": "tria"}, "unknown recoverer 'tria'; did you mean 'tri'?.*none"),
        ({"pipeline": "seq2sec"}, "unknown pipeline 'seq2sec'; did you mean 'seq2seq'?"),
        ({"widht": 32}, "unknown option 'widht'; did you mean 'width'?"),
        ({"tps_round": "floor"}, "unknown option 'tps_round'; did you mean 'tps_rounding'?"),
        ({"tps_rounding": "half"}, "value of tps_rounding 'half'; did you mean 'half_(up|even)'?"),
        ({"tri_mode": "linear"}, "value of tri_mode 'linear'.*positions, equidistant"),
        ({"tri_mode": 1}, "value of tri_mode 1.*positions, equidistant"),
        ({"tpc_k": 3}, "tpc_k is an option of prune = 'tpc', but prune is 'tps'"),
        (
            {"scheme": "hot", "tri_mode": "positions"},
            "tri_mode is an option of recover = 'tri', but recover is 'tra'",
        ),
        (
            {"scheme": "none", "tps_rounding": "floor"},
            "tps_rounding is an option of prune = 'tps', but prune is 'none'",
        ),
        ({"scheme": "hot", "tpc_k": 2.0}, "tpc_k must be a whole number, got 2.0"),
        ({"scheme": "hot", "tpc_seed": True}, "tpc_seed must be a whole number, got True"),
        ({"width": 15}, "heads must divide width, got width = 15 and heads = 2"),
        ({"heads": 3}, "heads must divide width, got width = 16 and heads = 3"),
        ({"width": 16.0}, "width must be a whole number, got 16.0"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"frames": 27.0}, "frames must be a whole number, got 27.0"),
        ({"r": (9, 13)}, r"r must decrease strictly.*\[9, 13\]"),
        ({"r": (27, 9)}, r"smaller than the 27 input frames.*\[27, 9\]"),
        ({"b": (3, 0)}, r"b must increase strictly.*\[3, 0\]"),
        ({"b": (0, 5)}, r"this host has 5 \(0 to 4\), got b = \[0, 5\]"),
        ({"r": 9}, r"r = \[9\] \(1\) and b = \[0, 3\] \(2\)"),
        ({"r": 13.5, "b": 0}, "r must be integers, got 13.5"),
        ({"r": ()}, r"r = \[\] \(0\) and b = \[0, 3\] \(2\)"),
        ({"scheme": "none", "r": 9}, "r = 9 needs a pruner.*Give prune, one of tpc, tpa"),
        ({"scheme": "none", "b": [0]}, r"b = \[0\] needs a pruner"),
        ({"scheme": "none", "recover": "tri"}, "recover = 'tri' has nothing to recover"),
        ({"scheme": "none", "prune": "tps"}, "needs r and b: it has no published"),
        ({"scheme": "none", "prune": "tps", "r": 9}, "'tps' with scheme 'none' needs b"),
        ({"recover": "none"}, "seq2seq returns all 27 frames, but recover is 'none'.*tra, tri"),
        ({"pipeline": "seq2seq", "scheme": "tpm"}, "seq2seq returns all 27 frames"),
    ],
)
def test_what_build_refuses(small: Build, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**arguments)


def test_build_refuses_an_unknown_host() -> None:
    with pytest.raises(ConfigError, match=r"unknown host 'mixst'; did you mean 'mixste'\?"):
        build("mixst")


# --- input


@pytest.fixture(scope="module")
def model(small: Build) -> Hourglass:
    return small()


@pytest.mark.parametrize(
    "shape",
    [(2, 26, 5, 2), (2, 27, 17, 2), (2, 27, 5, 3), (27, 5, 2), (1, 2, 27, 5, 2), (0, 27, 5, 2)],
)
def test_input_of_another_shape(model: Hourglass, shape: tuple[int, ...]) -> None:
    expected = rf"\(B, 27, 5, 2\) for this mixste model, got \({', '.join(map(str, shape))}\)"
    expected += ". Cut or pad the video into windows of 27 frames"
    with pytest.raises(InputError, match=expected):
        model(torch.zeros(shape))


@pytest.mark.parametrize(
    ("x", "got"),
    [
        (torch.zeros((2, 27, 5, 2), dtype=torch.int64), "a tensor of torch.int64"),
        (torch.zeros((2, 27, 5, 2), dtype=torch.complex64), "a tensor of torch.complex64"),
        ([[0.0]], "list"),
    ],
)
def test_input_of_another_type(model: Hourglass, x: Any, got: str) -> None:
    with pytest.raises(InputError, match=f"floating-point torch.Tensor, got {got}"):
        model(x)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_input_that_is_not_finite(model: Hourglass, clips: Clips, value: float) -> None:
    x = clips()
    x[1, 11, 3, 0] = value
    x[1, 20] = value
    with pytest.raises(InputError, match=r"11 values.*first at batch 1, frame 11, joint 3"):
        model(x)


def test_the_search_for_values_that_are_not_finite_can_be_left_out(
    small: Build, clips: Clips
) -> None:
    model, x = small(), clips()
    model.check_finite = False
    x[1, 11, 3, 0] = float("nan")
    y = model(x)
    assert bool(y[0].isfinite().all())
    assert not bool(y[1].isfinite().all())


@pytest.mark.parametrize(
    ("module", "name"), [(torch.jit, "is_tracing"), (torch.compiler, "is_compiling")]
)
def test_input_is_not_searched_for_a_tracer(
    small: Build, clips: Clips, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    """Its values are not those of the calls to come."""
    model, x = small(), clips()
    x[1, 11, 3, 0] = float("nan")
    monkeypatch.setattr(module, name, lambda: True)
    assert bool(model(x)[0].isfinite().all())


def test_input_without_values_is_not_searched(small: Build) -> None:
    with FakeTensorMode():
        assert small(jitter=False)(torch.empty(2, 27, 5, 2)).shape == (2, 27, 5, 3)


# --- training


@pytest.mark.parametrize(("along", "drawn"), [("spatial", (0, 1)), ("temporal", (0, 2))])
def test_stochastic_depth_drops_whole_samples(along: str, drawn: tuple[int, ...]) -> None:
    """A frame is the sample of a spatial half, a stream that of a temporal half."""
    torch.manual_seed(0)
    layer = Block(4, 1, 4, along, drop_path=0.25).train().drop_path
    y = layer(torch.ones(20, 30, 40, 4))
    rest = [axis for axis in range(4) if axis not in drawn]
    assert torch.equal(y.amax(dim=rest), y.amin(dim=rest))
    assert sorted(set(y.flatten().tolist())) == [0.0, pytest.approx(1 / 0.75)]
    assert float((y == 0).float().mean()) == pytest.approx(0.25, abs=0.05)
    assert torch.equal(layer.eval()(y), y)


def test_depth_drops_more_the_later_the_block(small: Build) -> None:
    host = small(scheme="none", depth=5).host
    for blocks in (host.spatial_blocks, host.temporal_blocks):
        rates = [block.drop_path.rate for block in blocks]
        assert rates == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
