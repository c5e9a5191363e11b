"""Faster ways to the same result: oneDNN in plain inference, less kept in training."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import h2ot_core
from h2ot_core import kernels, layers
from h2ot_core.kernels import inference, training

SMALL: dict[str, dict[str, Any]] = {
    "mixste": {"width": 32, "depth": 2, "heads": 2, "frames": 27},
    "motionbert": {"width": 32, "depth": 2, "heads": 2, "frames": 27},
    "motionagformer": {"width": 32, "depth": 2, "heads": 2, "frames": 27},
    "mhformer": {"width": 32, "depth": 3, "heads": 2, "frames": 36},
}
PRUNED = {"r": [13, 9], "b": [0, 1]}

pytestmark = pytest.mark.skipif(
    not kernels.supported_types(), reason="this build of PyTorch has no oneDNN operators"
)


@pytest.fixture(params=SMALL)
def host(request: pytest.FixtureRequest) -> str:
    return request.param


def _model(host: str, **arguments: Any) -> h2ot_core.Hourglass:
    torch.manual_seed(0)
    scheme = arguments or {"scheme": "none"}
    if host == "mhformer":
        scheme = {"pipeline": "seq2frame", **scheme}
    model = h2ot_core.build(host, **SMALL[host], **scheme)
    for parameter in model.parameters():  # nothing zero, or paths would be equal for want of work
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def _input(model: h2ot_core.Hourglass, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, model.schedule.frames, 17, model.host.channels)
    return torch.randn(shape, generator=generator)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the inputs that went through oneDNN."""
    found: list[tuple[int, ...]] = []
    linear = inference.linear

    def listened(x: Tensor, *arguments: Any, **after: Any) -> Tensor:
        found.append(tuple(x.shape))
        return linear(x, *arguments, **after)

    monkeypatch.setattr(inference, "linear", listened)
    return found


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("recover", ["tra", "tri"])
def test_both_ways_give_the_same(
    host: str, batch: int, recover: str, calls: list[tuple[int, ...]]
) -> None:
    own = {"recover": recover} if host != "mhformer" else {}
    model = _model(host, prune="tps", **own, **PRUNED)
    x = _input(model, batch)
    with torch.no_grad():
        fast = model(x)
        assert calls
        count = len(calls)
        with inference.plain():
            plain = model(x)
        assert len(calls) == count
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-5 * float(plain.abs().max()))


def test_attention_is_listened_to_alike() -> None:
    model = _model("mixste", prune="tpa", recover="tri", r=[13], b=[1])
    x = _input(model)
    with torch.no_grad():
        fast = model.run(x)
        with inference.plain():
            plain = model.run(x)
    assert torch.equal(fast.selections[-1].index, plain.selections[-1].index)
    torch.testing.assert_close(fast.poses, plain.poses, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pieces", [1, 3, 100])
@pytest.mark.parametrize("batch", [1, 2])
def test_an_attention_listened_to(batch: int, pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_WEIGHTS", pieces * 9**2)
    torch.manual_seed(0)
    attention = layers.Attention(12, 2, "temporal").eval()
    x = torch.randn(batch, 9, 5, 12)
    heard, pairs = layers.AttentionRecorder(), layers.AttentionRecorder()
    with torch.no_grad():
        y = attention(x, heard)
        with inference.plain():
            wanted = attention(x, pairs)
    assert not pairs.received
    torch.testing.assert_close(y, wanted)
    (query, key), (received,) = pairs[0], heard.received
    weights = (query @ key.transpose(-2, -1) / 6**0.5).softmax(dim=-1)
    torch.testing.assert_close(received, weights.sum(dim=-2).mean(dim=(1, 2)))
    for one, other in zip(heard[0], pairs[0], strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.skipif(torch.bfloat16 not in kernels.supported_types(), reason="not on this processor")
def test_bfloat16_goes_the_same_way(calls: list[tuple[int, ...]]) -> None:
    model = _model("mixste").to(torch.bfloat16)
    x = _input(model).to(torch.bfloat16)
    with torch.inference_mode():
        fast = model(x)
        assert calls
        with inference.plain():
            plain = model(x)
    assert fast.dtype == torch.bfloat16
    apart = (fast.float() - plain.float()).norm() / plain.float().norm()
    assert float(apart) < 0.05


def _compiling(model: Any, x: Tensor) -> None:
    torch.compile(model, backend="eager", fullgraph=True)(x)


def _counting(model: Any, x: Tensor) -> None:
    with FlopCounterMode(display=False) as counter:
        model(x)
    assert counter.get_total_flops() > 0


def _autocast(model: Any, x: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        model(x)


def _transformed(model: Any, x: Tensor) -> None:
    block = model.host.spatial_blocks[0]
    torch.func.vmap(block)(torch.randn(2, *x.shape[:3], 32))


def _double(model: Any, x: Tensor) -> None:
    copy.deepcopy(model).double()(x.double())


@pytest.mark.parametrize("use", [_compiling, _counting, _autocast, _transformed, _double])
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_whoever_watches_or_transforms_gets_plain_operators(
    use: Any, calls: list[tuple[int, ...]]
) -> None:
    model = _model("mixste")
    x = _input(model)
    with torch.no_grad():
        use(model, x)
    assert not calls


def test_dropout_in_training_is_not_skipped(calls: list[tuple[int, ...]]) -> None:
    model = _model("mhformer").train()
    x = _input(model)
    with torch.no_grad():
        assert not torch.equal(model(x), model(x))
    assert not calls


@pytest.mark.parametrize(
    "path", ["norm1", "attn", "attn.qkv", "attn.proj", "mlp", "mlp.fc1", "mlp.act", "mlp.drop"]
)
@pytest.mark.parametrize("gradients", [True, False])
def test_hooks_hear_what_they_would_hear(path: str, gradients: bool) -> None:
    model = _model("mixste").train(gradients)
    for module in model.modules():
        if hasattr(module, "rate"):
            module.rate = 0.0
    x = _input(model)
    module = model.host.temporal_blocks[1].get_submodule(path)
    heard: list[Tensor] = []
    with torch.set_grad_enabled(gradients):
        model(x)
        handle = module.register_forward_hook(lambda m, args, y: heard.append(y.detach()))
        model(x)
        once = len(heard)
        with inference.plain():
            model(x)
        handle.remove()
    assert len(heard) == 2 * once > 0
    for one, other in zip(heard[:once], heard[once:], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))


def test_what_a_hook_was_given_stays_as_it_was() -> None:
    model = _model("motionagformer")
    heard: list[Tensor] = []
    graph = model.host.layers[0].graph_spatial.mixer
    graph.batch_norm.register_forward_hook(lambda m, args, y: heard.extend([y, y.clone()]))
    with torch.no_grad():
        model(_input(model))
    assert torch.equal(*heard)


def _wide(model: Any) -> None:
    model.host.embedding_1 = nn.Conv1d(34, 32, kernel_size=3, padding=1)


def _dropping(model: Any) -> None:
    norm, convolution = model.host.regression
    model.host.regression = nn.Sequential(norm, nn.Dropout(0.5), convolution).eval()


def _without_moments(model: Any) -> None:
    norm, convolution = model.host.regression
    norm = nn.BatchNorm1d(norm.num_features, track_running_stats=False)
    model.host.regression = nn.Sequential(norm, convolution).eval()


def _recalibrating(model: Any) -> None:
    model.host.regression[0].train()


@pytest.mark.parametrize("change", [_wide, _dropping, _without_moments, _recalibrating])
def test_other_layers_in_mhformer_are_called(change: Any) -> None:
    model = _model("mhformer")
    change(model)
    other = copy.deepcopy(model)
    x = _input(model)
    with torch.no_grad():
        fast = model(x)
        with inference.plain():
            plain = other(x)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-5 * float(plain.abs().max()))
    for one, same in zip(model.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(one, same)


@pytest.mark.parametrize("path", ["norm1", "attn", "attn.qkv", "mlp.fc1", "mlp.act"])
def test_backward_hooks_hear_too(path: str) -> None:
    model = _model("mixste").train()
    heard: list[Any] = []
    module = model.host.temporal_blocks[1].get_submodule(path)
    module.register_full_backward_hook(lambda m, into, out: heard.append(out))
    model(_input(model)).square().mean().backward()
    assert len(heard) == 1


class _Doubled(nn.Linear):
    """Stands for an adapter or a quantised layer put in a layer's place."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize("path", ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"])
@pytest.mark.parametrize("gradients", [True, False])
def test_layers_put_in_place_of_others_are_called(path: str, gradients: bool) -> None:
    model = _model("mixste")
    x = _input(model)
    block = model.host.temporal_blocks[1]
    before = block.get_submodule(path)
    doubled = _Doubled(before.in_features, before.out_features)
    doubled.load_state_dict(before.state_dict())
    parent, _, name = path.rpartition(".")
    setattr(block.get_submodule(parent), name, doubled)
    with torch.set_grad_enabled(gradients):
        replaced = model(x)
        with torch.no_grad():
            for value in before.parameters():
                value.mul_(2)
        setattr(block.get_submodule(parent), name, before)
        wanted = model(x)
    limit = 1e-4 * float(wanted.detach().abs().max())
    torch.testing.assert_close(replaced, wanted, rtol=0, atol=limit)


def test_dropout_can_be_kept_on_in_evaluation() -> None:
    model = _model("mhformer")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    x = _input(model)
    with torch.no_grad():
        assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("act", ["none", "gelu", "tanh"])
def test_linear_by_definition(act: Any, bias: bool) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(3, 5, 7), torch.randn(4, 7)
    shift = torch.randn(4) if bias else None
    scale, add = torch.randn(4), torch.randn(3, 5, 4)
    y = functional.linear(x, weight, shift)
    then = {"none": lambda v: v, "gelu": functional.gelu, "tanh": torch.tanh}[act]
    with torch.inference_mode():
        torch.testing.assert_close(inference.linear(x, weight, shift, act=act), then(y))
        torch.testing.assert_close(inference.linear(x, weight, shift, add=add), y + add)
        got = inference.linear(x, weight, shift, scale=scale, add=add)
        torch.testing.assert_close(got, scale * y + add)
        turned = x.transpose(0, 1)
        torch.testing.assert_close(inference.linear(turned, weight, shift), y.transpose(0, 1))


def test_grouped_by_definition() -> None:
    torch.manual_seed(0)
    x, weights = torch.randn(5, 3, 7), torch.randn(3, 4, 7)
    with torch.inference_mode():
        y = inference.grouped(x, weights)
        wide = inference.grouped(torch.randn(5, 6, 7)[:, 1:4].copy_(x), weights)
    torch.testing.assert_close(y, torch.einsum("nga,gba->ngb", x, weights))
    torch.testing.assert_close(wide, y)
    assert y.is_contiguous()


# --- on a GPU ------------------------------------------------------------------------------------

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("prune", ["tps", "tpc", "tpa", "tpmo"])
def test_a_gpu_gives_the_same_as_a_cpu(host: str, prune: str, batch: int) -> None:
    own = {"recover": "tra"} if host != "mhformer" else {}
    model = _model(host, prune=prune, **own, **(PRUNED if prune != "tpa" else {"r": [9], "b": [1]}))
    model.double()
    x = _input(model, batch).double()
    with torch.no_grad():
        wanted = model(x)
        model.cuda()
        fast = model(x.cuda())
        with inference.plain():
            plain = model(x.cuda())
    for got in (fast, plain):
        torch.testing.assert_close(got.cpu(), wanted, rtol=0, atol=1e-9 * float(wanted.abs().max()))


@pytest.mark.gpu
@GPU
def test_a_gpu_learns_as_a_cpu(host: str) -> None:
    model = _model(host).double()  # in evaluation mode, where nothing is dropped at random
    found = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        model.run(_input(model, 2).double().to(device)).kept.square().mean().backward()
        found.append([p.grad.cpu() for p in model.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 10
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_gpu_takes_more_frames_than_a_grid_of_kernels_has_rows(dtype: torch.dtype) -> None:
    model = _model("mixste", prune="tps", recover="tri", **PRUNED).cuda().to(dtype)
    x = _input(model, 2600).cuda().to(dtype)
    with torch.inference_mode():
        many, few = model(x), model(x[-3:])
    apart = (many[-3:] - few).abs().max() / few.abs().max()
    assert float(apart) < (1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.slow
def test_the_way_of_a_gpu_can_be_compiled_whole(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def linear(
        x: Tensor, weight: Tensor, bias: Tensor | None, *, act: str = "none", add: Any = None,
        scale: Any = None,
    ) -> Tensor:  # fmt: skip
        y = functional.linear(x, *inference._scaled(weight, bias, scale))
        y = {"none": lambda y: y, "gelu": functional.gelu, "tanh": torch.tanh}[act](y)
        return y if add is None else y.add_(add)

    model = _model(host, prune="tpc", r=[9], b=[1])
    x = _input(model)
    with torch.no_grad():
        wanted = model(x)
        monkeypatch.setattr(inference, "fast_path_applies", lambda _: True)
        monkeypatch.setattr(kernels, "fast_path_applies", lambda _: True)
        monkeypatch.setattr(inference, "linear", linear)
        monkeypatch.setattr(kernels, "hypotheses", lambda *_: None)  # not for a compiler
        torch.compiler.reset()
        found = torch.compile(model, fullgraph=True, backend="eager")(x)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


# --- less kept in training ----------------------------------------------------------------------


def _joined(x: Tensor, norm: nn.LayerNorm | None, layer: nn.Linear) -> Tensor:
    parts = training.projections(x, norm, layer, 2)
    assert parts is not None
    assert len({part.untyped_storage().data_ptr() for part in parts}) == 2
    return torch.cat(parts, dim=-1)


KINDS = ["linear", "norm", "gelu", "parts", "norm_parts"]


def _layers(kind: str, bias: bool) -> Iterator[Any]:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4, bias=bias).double()
    if kind == "parts":
        yield lambda x: _joined(x, None, layer)
        yield lambda x: layer(x)
        yield [*layer.parameters()]
    elif kind == "linear":
        yield lambda x: training.linear(x, layer)
        yield lambda x: layer(x)
        yield [*layer.parameters()]
    elif kind.startswith("norm"):
        norm = nn.LayerNorm(6).double()
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        if kind == "norm":
            yield lambda x: training.norm_linear(x, norm, layer)
        else:
            yield lambda x: _joined(x, norm, layer)
        yield lambda x: layer(norm(x))
        yield [*norm.parameters(), *layer.parameters()]
    else:
        act = nn.GELU()
        yield lambda x: training.gelu_linear(x, act, layer)
        yield lambda x: layer(act(x))
        yield [*layer.parameters()]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_layers(kind: str, bias: bool) -> None:
    short, long, parameters = _layers(kind, bias)
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(short(x), long(x), rtol=1e-12, atol=1e-12)
    first, second = [], []
    for way in (short, long):
        found = torch.autograd.grad(way(x).square().sum(), [x, *parameters], create_graph=True)
        first.append(found)
        total = sum(one.square().sum() for one in found)
        second.append(torch.autograd.grad(total, [x, *parameters], allow_unused=True))
    for pair in (first, second):
        for one, other in zip(*pair, strict=True):
            if one is not None or other is not None:
                torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
    assert torch.autograd.gradcheck(short, (x,))


@pytest.mark.parametrize("kind", ["linear", "norm", "gelu"])
def test_gradients_in_float32_go_through_onednn(kind: str, calls: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    layer, norm, act = nn.Linear(6, 4), nn.LayerNorm(6), nn.GELU()
    ways: dict[str, tuple[Any, Any]] = {
        "linear": (lambda x: training.linear(x, layer), layer),
        "norm": (lambda x: training.norm_linear(x, norm, layer), lambda x: layer(norm(x))),
        "gelu": (lambda x: training.gelu_linear(x, act, layer), lambda x: layer(act(x))),
    }
    short, long = ways[kind]
    x = torch.randn(2, 3, 6, requires_grad=True)
    y = short(x)
    assert calls == [(2, 3, 6)]
    (one,) = torch.autograd.grad(y.square().sum(), x)
    assert calls == [(2, 3, 6), (2, 3, 4)]
    (other,) = torch.autograd.grad(long(x).square().sum(), x)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


# PyTorch scripts its own rules of forward derivatives when the first of them is needed.
@pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?`:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?`:FutureWarning")
def test_forward_derivatives_take_plain_layers() -> None:
    layer = nn.Linear(6, 4)
    x, tangent = torch.randn(3, 6), torch.randn(3, 6)
    with torch.autograd.forward_ad.dual_level():
        y = training.linear(torch.autograd.forward_ad.make_dual(x, tangent), layer)
        found = torch.autograd.forward_ad.unpack_dual(y).tangent
    torch.testing.assert_close(found, tangent @ layer.weight.T)


def test_parts_are_left_to_a_layer_that_somebody_listens_to() -> None:
    layer, norm = nn.Linear(6, 6), nn.LayerNorm(6)
    x = torch.randn(2, 6)
    with torch.no_grad():
        assert training.projections(x, norm, layer, 3) is None
    assert training.projections(x.double(), norm, layer, 3) is None
    assert training.projections(x, norm, layer, 3) is not None
    norm.register_forward_hook(lambda *_: None)
    assert training.projections(x, norm, layer, 3) is None
    assert training.projections(x, None, layer, 3) is not None
    layer.register_forward_hook(lambda *_: None)
    assert training.projections(x, None, layer, 3) is None


@pytest.mark.parametrize("kind", ["norm", "gelu", "norm_parts"])
def test_the_second_layers_input_is_not_kept(kind: str) -> None:
    short, long, _ = _layers(kind, True)
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)

    def kept(f: Any) -> int:
        sizes: dict[int, int] = {}

        def pack(t: Tensor) -> Tensor:
            if t.numel() == x.numel():
                sizes[t.data_ptr()] = t.numel()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            f(x)
        sizes.pop(x.data_ptr(), None)
        return len(sizes)

    assert kept(long) == 1
    assert kept(short) == 0


def test_gradients_under_autocast_have_the_weights_types() -> None:
    model = _model("mixste").train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(_input(model)).float().square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in model.parameters())


def test_a_model_learns_as_with_plain_layers(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for plain in (False, True):
        model = _model(host).train().double()
        for module in model.modules():
            if hasattr(module, "rate"):
                module.rate = 0.0
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        if plain:
            monkeypatch.setattr(training, "fast_path_applies", lambda: False)
        model.run(_input(model).double()).kept.square().mean().backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 10
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("n", [1, 2, 4, 9])
def test_the_nth_largest_with_ties(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 5, (3, 4, 11), generator=generator).float()
    before = x.clone()
    with torch.no_grad():
        found = inference.nth_largest(x, n)
    assert torch.equal(found, before.sort(dim=-1, descending=True).values[..., n - 1 : n])
    assert torch.equal(x, before)
