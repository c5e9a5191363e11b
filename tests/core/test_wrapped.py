"""Layers that somebody replaced or wrapped are called, wherever a model has them.

All layers of a host are wrapped at once, and those of each kind alone. What a wrapper does is
known, so the wrapped model has an equal of other modules, which runs as PyTorch runs it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks
from torch.nn.utils import parametrizations, parametrize, prune

import h2ot_core
from h2ot_core import kernels
from h2ot_core.layers import Attention, CrossAttention, DropPath, Mlp

HOSTS: dict[str, dict[str, Any]] = {
    "mixste": {"frames": 9, "prune": "tpa", "recover": "tra", "r": [5], "b": [1]},
    "motionbert": {"frames": 9, "prune": "tpa", "recover": "tra", "r": [5], "b": [1]},
    "motionagformer": {"frames": 9, "prune": "tpa", "recover": "tra", "r": [5], "b": [1]},
    "mhformer": {"frames": 36, "prune": "tpa", "r": [9], "b": [1], "pipeline": "seq2frame"},
    "mhformer, short": {"frames": 9, "prune": "tpa", "r": [5], "b": [1], "pipeline": "seq2frame"},
}
LAYERS = (nn.Linear, nn.LayerNorm, nn.BatchNorm1d, nn.Conv1d, nn.GELU, nn.Tanh, nn.Dropout)
OWN = (Attention, CrossAttention, Mlp, DropPath)
FACTOR = 1.25

Wrap = Callable[[nn.Module, list[str]], nn.Module]
"""From a layer and a list that grows with every call to what stands in the layer's place."""


class _Counted(nn.Module):
    """Holds the layer, and has nothing that the layer has."""

    def __init__(self, inner: nn.Module, calls: list[str]) -> None:
        super().__init__()
        self.inner = inner
        self.calls = calls

    def forward(self, *arguments: Any) -> Tensor:
        self.calls.append("module")
        return FACTOR * self.inner(*arguments)


def _subclass(layer: nn.Module, calls: list[str]) -> nn.Module:
    kind = type(layer)

    def forward(self: Any, *arguments: Any) -> Tensor:
        calls.append("subclass")
        return FACTOR * kind.forward(self, *arguments)

    layer.__class__ = type(f"My{kind.__name__}", (kind,), {"forward": forward})
    return layer


def _patched(layer: nn.Module, calls: list[str]) -> nn.Module:
    forward = layer.forward

    def changed(*arguments: Any) -> Tensor:
        calls.append("patched")
        return FACTOR * forward(*arguments)

    layer.forward = changed
    return layer


def _hooked(layer: nn.Module, calls: list[str]) -> nn.Module:
    def hook(module: nn.Module, arguments: Any, y: Tensor) -> Tensor:
        calls.append("hook")
        return FACTOR * y

    layer.register_forward_hook(hook)
    return layer


class _Scale(nn.Module):
    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append("scale")
        return FACTOR * x


def _sequence(layer: nn.Module, calls: list[str]) -> nn.Module:
    return nn.Sequential(layer, nn.Dropout(0.0), _Scale(calls))


WRAPS: dict[str, Wrap] = {
    "module": _Counted,
    "subclass": _subclass,
    "patched forward": _patched,
    "forward hook": _hooked,
    "sequential": _sequence,
}


class _Equal(nn.Module):
    """What a wrapped layer is: the layer, then a factor; a module that no fast path knows."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *arguments: Any) -> Tensor:
        return FACTOR * self.inner(*arguments)


def _replace(
    model: nn.Module, kinds: tuple[type[nn.Module], ...], wrap: Callable[[nn.Module], nn.Module]
) -> int:
    """Wrap every layer of the kinds; returns how many there were."""
    found = [
        (parent, name, child)
        for parent in [*model.modules()]
        for name, child in parent.named_children()
        if type(child) in kinds
    ]
    for parent, name, child in found:
        setattr(parent, name, wrap(child))
    return len(found)


def _build(host: str) -> tuple[h2ot_core.Hourglass, Tensor]:
    model, x = _built(host)
    return copy.deepcopy(model), x


@cache
def _built(host: str, **arguments: Any) -> tuple[h2ot_core.Hourglass, Tensor]:
    torch.manual_seed(0)
    name = host.partition(",")[0]
    model = h2ot_core.build(name, width=16, depth=2, heads=2, **{**HOSTS[host], **arguments})
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    for module in model.modules():  # in training too, results are to be compared
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, DropPath):
            module.rate = 0.0
    return model, torch.randn(2, model.schedule.frames, 17, model.host.channels)


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    return request.param


def _infer(model: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.inference_mode():
        return [model.eval()(x)]


def _no_grad(model: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [model.eval()(x)]


def _train(model: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    model.train()
    y = model(x)
    weights = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(y.square().sum(), [x, *weights], allow_unused=True)
    flat = [g.flatten() for g in grads[1:] if g is not None]
    assert len(flat) > 10
    # Weights may stand in another order where modules were put around them.
    return [y.detach(), grads[0], torch.cat(flat).abs().sort().values]


USES = {"inference_mode": _infer, "no_grad": _no_grad, "training": _train}


@pytest.fixture(params=USES)
def use(request: pytest.FixtureRequest) -> Callable[[nn.Module, Tensor], list[Tensor]]:
    return USES[request.param]


def _assert_equal(found: list[Tensor], wanted: list[Tensor]) -> None:
    for one, other in zip(found, wanted, strict=True):
        largest = float(other.abs().max())
        torch.testing.assert_close(one / largest, other / largest, rtol=0, atol=1e-6)


def _plain(use: Any, model: nn.Module, x: Tensor) -> list[Tensor]:
    with kernels.plain():
        return use(model, x)


@pytest.mark.parametrize("kind", WRAPS)
def test_every_layer_wrapped_is_called(host: str, kind: str, use: Any) -> None:
    """All layers of all kinds at once, in double precision, where orders of sums do not show."""
    model, x = _build(host)
    model, x = model.double(), x.double()
    other = copy.deepcopy(model)
    calls: list[str] = []
    wrapped = _replace(model, LAYERS, lambda layer: WRAPS[kind](layer, calls))
    assert _replace(other, LAYERS, _Equal) == wrapped > 20
    wanted = _plain(use, other, x)
    _assert_equal(use(model, x), wanted)
    assert len(calls) >= wrapped


@pytest.mark.parametrize("layer", [*LAYERS, *OWN])
def test_layers_of_one_kind_wrapped_are_called(host: str, layer: type[nn.Module], use: Any) -> None:
    """The others keep their fast path around them, in float32.

    What wraps an attention that scores frames hands the recorder on.
    """
    model, x = _build(host)
    other = copy.deepcopy(model)
    calls: list[str] = []
    wrapped = _replace(model, (layer,), lambda one: _Counted(one, calls))
    if not wrapped:
        pytest.skip(f"no {layer.__name__} there")
    _replace(other, (layer,), _Equal)
    _assert_equal(use(model, x), _plain(use, other, x))
    assert len(calls) >= wrapped


@pytest.mark.parametrize("kind", [kind for kind in WRAPS if kind != "module"])
@pytest.mark.parametrize("layer", [Attention, Mlp])
def test_parts_of_blocks_wrapped_are_called(kind: str, layer: type[nn.Module], use: Any) -> None:
    """What stands for an attention takes a recorder only where there is one, so it may be any."""
    model, x = copy.deepcopy(_built("mixste", prune="tps"))
    other = copy.deepcopy(model)
    calls: list[str] = []
    wrapped = _replace(model, (layer,), lambda one: WRAPS[kind](one, calls))
    _replace(other, (layer,), _Equal)
    _assert_equal(use(model, x), _plain(use, other, x))
    assert len(calls) >= wrapped > 0


# --- hooks on all modules -------------------------------------------------------------------------


class _Global(AbstractContextManager[None]):
    """Hooks on every module of the process."""

    def __init__(self, kind: str, calls: list[str]) -> None:
        self.kind = kind
        self.calls = calls
        self._stack = ExitStack()

    def __enter__(self) -> None:
        handle = {
            "forward": lambda: global_hooks.register_module_forward_hook(self._after),
            "forward pre": lambda: global_hooks.register_module_forward_pre_hook(self._before),
        }[self.kind]()
        self._stack.callback(handle.remove)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _after(self, module: nn.Module, arguments: Any, y: Any) -> Any:
        if type(module) is not nn.Linear:
            return None
        self.calls.append("global")
        return FACTOR * y

    def _before(self, module: nn.Module, arguments: Any) -> Any:
        if type(module) is not nn.LayerNorm:
            return None
        self.calls.append("global")
        return (arguments[0] + 0.25,)


class _Added(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x + 0.25)


@pytest.mark.parametrize("kind", ["forward", "forward pre"])
def test_hooks_on_all_modules_are_heard(host: str, kind: str, use: Any) -> None:
    model, x = _build(host)
    model, x = model.double(), x.double()
    other = copy.deepcopy(model)
    layers, equal = ((nn.Linear,), _Equal) if kind == "forward" else ((nn.LayerNorm,), _Added)
    wrapped = _replace(other, layers, equal)
    wanted = _plain(use, other, x)
    calls: list[str] = []
    with _Global(kind, calls):
        found = use(model, x)
    _assert_equal(found, wanted)
    assert len(calls) >= wrapped > 0


@pytest.mark.parametrize("everywhere", [True, False])
def test_backward_hooks_are_heard(host: str, everywhere: bool) -> None:
    model, x = _build(host)
    model, x = model.double(), x.double()
    wanted = _plain(_train, model, x)
    heard: set[nn.Module] = set()

    def hook(module: nn.Module, *_: Any) -> None:
        heard.add(module)

    linears = {m for m in model.modules() if type(m) is nn.Linear}
    if everywhere:
        handles = [global_hooks.register_module_full_backward_hook(hook)]
    else:
        handles = [m.register_full_backward_hook(hook) for m in linears]
    try:
        found = _train(model, x)
    finally:
        for handle in handles:
            handle.remove()
    _assert_equal(found, wanted)
    # MHFormer's first encoder hears all; the layers after the choice of TPA do too.
    assert linears <= heard


def test_a_tracker_may_hook_into_all_modules_without_changing_what_training_keeps() -> None:
    model, x = _build("mixste")

    def kept() -> int:
        sizes: dict[int, int] = {}

        def pack(value: Tensor) -> Tensor:
            sizes[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            y = model.train()(x)
        assert y.requires_grad
        return sum(sizes.values())

    alone = kept()
    handle = global_hooks.register_module_forward_hook(lambda *_: None)
    try:
        assert kept() > alone
        with kernels.ignoring_global_hooks():
            assert kept() == alone
    finally:
        handle.remove()


# --- what libraries do ----------------------------------------------------------------------------


class _Lora(nn.Module):
    """A low-rank adapter around a linear layer; it has no weight of its own."""

    def __init__(self, base: nn.Module, calls: list[str]) -> None:
        super().__init__()
        assert isinstance(base, nn.Linear)
        self.base = base
        self.down = nn.Linear(base.in_features, 2, bias=False, dtype=base.weight.dtype)
        self.up = nn.Linear(2, base.out_features, bias=False, dtype=base.weight.dtype)
        self.calls = calls

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append("lora")
        return self.base(x) + self.up(self.down(x))

    def merged(self) -> nn.Module:
        layer = copy.deepcopy(self.base)
        with torch.no_grad():
            layer.weight += self.up.weight @ self.down.weight
        return layer


@pytest.mark.parametrize("use", [_infer, _no_grad])
def test_adapters_give_what_their_merged_weights_give(host: str, use: Any) -> None:
    model, x = _build(host)
    model, x = model.double(), x.double()
    calls: list[str] = []
    wrapped = _replace(model, (nn.Linear,), lambda layer: _Lora(layer, calls))
    merged = copy.deepcopy(model)
    _replace(merged, (_Lora,), lambda adapter: adapter.merged())
    _assert_equal(use(model, x), _plain(use, merged, x))
    assert len(calls) >= wrapped


def _scaled(layer: nn.Module) -> None:
    class Scaled(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return FACTOR * weight

    parametrize.register_parametrization(layer, "weight", Scaled())


def _masked(layer: nn.Module) -> None:
    prune.l1_unstructured(layer, "weight", amount=0.5)


def _renormed(layer: nn.Module) -> None:
    parametrizations.weight_norm(layer)
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(FACTOR)  # type: ignore[union-attr]


@pytest.mark.parametrize("change", [_scaled, _masked, _renormed])
def test_weights_computed_from_others(host: str, change: Any, use: Any) -> None:
    model, x = _build(host)
    model, x = model.double(), x.double()
    other = copy.deepcopy(model)
    for module, same in zip([*model.modules()], [*other.modules()], strict=True):
        if type(module) is nn.Linear:
            change(module)
            with torch.no_grad():
                same.weight.copy_(module.weight)  # type: ignore[operator]
    limit = slice(0, 2) if use is _train else slice(None)  # the weights' gradients differ
    _assert_equal(use(model, x)[limit], _plain(use, other, x)[limit])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("use", [_infer, _no_grad])
def test_dynamic_quantisation(host: str, use: Any) -> None:
    """Where a host's linear layers are replaced by ones whose weight is a method."""
    from torch.ao.nn.quantized.dynamic import Linear as Quantised
    from torch.ao.quantization import quantize_dynamic

    model, x = _build(host)
    model = quantize_dynamic(model.eval(), {nn.Linear}, dtype=torch.qint8)
    calls: list[str] = []
    linears = [m for m in model.modules() if isinstance(m, Quantised)]
    assert len(linears) > 10
    for layer in linears:
        layer.register_forward_hook(lambda *_: calls.append("quantised"))
    wanted = _plain(use, model, x)
    calls.clear()
    _assert_equal(use(model, x), wanted)
    assert len(calls) >= len(linears)
    with torch.enable_grad():
        _assert_equal([model(x).detach()], use(model, x))


class _Halved(Tensor):
    """A type of weights that computes for itself, as quantised ones do."""

    @classmethod
    def __torch_function__(
        cls, function: Any, kinds: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        if function is nn.functional.linear:
            x, weight, bias = (*arguments, None)[:3]
            with torch._C.DisableTorchFunctionSubclass():
                weight = weight.as_subclass(Tensor)
                return nn.functional.linear(x, weight / 2, bias)
        return super().__torch_function__(function, kinds, arguments, options or {})


def test_weights_of_another_tensor_type() -> None:
    model, x = _build("mixste")
    other = copy.deepcopy(model)
    for module, same in zip([*model.modules()], [*other.modules()], strict=True):
        if type(module) is nn.Linear:
            value = module.weight.detach().as_subclass(_Halved)
            module.weight = nn.Parameter(value, requires_grad=False)
            with torch.no_grad():
                same.weight.div_(2)  # type: ignore[operator, union-attr]
    _assert_equal(_infer(model, x), _plain(_infer, other, x))


# --- layers that are known, but not there ---------------------------------------------------------

OTHERS: dict[str, tuple[type[nn.Module], Callable[[nn.Module], nn.Module]]] = {
    "another activation": (nn.GELU, lambda _: nn.SiLU()),
    "a known activation elsewhere": (nn.GELU, lambda _: nn.Tanh()),
    "an approximate GELU": (nn.GELU, lambda _: nn.GELU(approximate="tanh")),
    "GELU for tanh": (nn.Tanh, lambda _: nn.GELU()),
    "no dropout": (nn.Dropout, lambda _: nn.Identity()),
    "no norm": (nn.LayerNorm, lambda _: nn.Identity()),
    "a norm without weights": (
        nn.LayerNorm,
        lambda norm: nn.LayerNorm(norm.normalized_shape, elementwise_affine=False),  # type: ignore
    ),
    "a norm without shift": (
        nn.LayerNorm,
        lambda norm: nn.LayerNorm(norm.normalized_shape, bias=False),  # type: ignore
    ),
    "no stochastic depth": (DropPath, lambda _: nn.Identity()),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("use", [_infer, _train])
def test_other_layers_of_known_kinds(host: str, other: str, use: Any) -> None:
    model, x = _build(host)
    model, x = model.double(), x.double()
    if other == "no norm":
        with torch.no_grad():  # larger weights would amplify what is rounded
            for parameter in model.parameters():
                parameter.mul_(0.5)
    kind, make = OTHERS[other]
    before = use(model, x)
    replaced = _replace(model, (kind,), lambda layer: make(layer).to(x.dtype))
    if not replaced:
        pytest.skip(f"no {kind.__name__} there")
    equal = copy.deepcopy(model)
    _replace(equal, tuple({type(make(nn.LayerNorm(2)))}), lambda m: nn.Sequential(m))
    found = use(model, x)
    _assert_equal(found, _plain(use, equal, x))
    if "no " not in other or "norm" in other:
        assert not torch.allclose(found[0], before[0], rtol=0, atol=1e-7)


def test_a_class_whose_forward_was_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = _build("mixste")
    other = copy.deepcopy(model)
    _replace(other, (nn.Linear,), _Equal)
    wanted = _plain(_infer, other, x)
    forward = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: FACTOR * forward(self, x))
    _assert_equal(_infer(model, x), wanted)


@pytest.mark.parametrize("part", ["attn", "mlp"])
def test_a_patched_class_of_our_own(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = {"attn": Attention, "mlp": Mlp}[part]
    model, x = _build("mixste")
    forward = kind.forward
    calls: list[int] = []

    def patched(self: Any, *arguments: Any) -> Tensor:
        calls.append(1)
        return forward(self, *arguments)

    wanted = _infer(model, x)
    monkeypatch.setattr(kind, "forward", patched)
    _assert_equal(_infer(model, x), wanted)
    assert len(calls) == 4
