"""Counting floating-point operations, in two conventions, on models that hold no values.

"Flop is not a well-defined concept", so both conventions are spelled out:

``flops_paper``
    What the published numbers count: twice the multiply-adds of linear and convolution layers
    (without bias), 4 per batch-norm element, 2 x (S + 1) per pooled element where TPC averages S
    streams with a pooling layer, 10 per coordinate that TRI interpolates. Attention products,
    other norms and everything functional count 0. This is 2 x thop 0.0.31. That TRI is counted,
    as thop counts a linear upsampling layer, is inferred: it is the one reading under which each
    printed cell is its count rounded once.
``flops_full``
    What runs: 2 per multiply-add of every product (linear layers, attention, distance matrices,
    convolutions), and in pruning and recovering 1 per element operation as well (a softmax 5 per
    weight, a linear interpolation 3, a distance's root 1); sorting and moving data 0.

An operation that is in none of the tables below stops the count: silence would be a wrong number.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import h2ot_core
from bench.models.build import SkipNorms, blank_model
from bench.records.errors import UsageError
from h2ot_core.layers import CrossAttention, StreamMean
from h2ot_core.recover.interpolation import InterpolationRecoverer

aten = torch.ops.aten


class UncountedOperation(UsageError):
    """The model ran an operation that is in no table."""


class CountersDisagree(UsageError):
    """Two independent counters give different numbers for the same products."""


@dataclass
class Count:
    """Operations of one forward pass.

    Attributes:
        full: flops_full by kind: "product" (layers), "attention", "distance", "element".
        paper: flops_paper by kind: "linear", "conv", "norm", "pool", "repeated",
            "interpolation".
        modules: flops_full by module path.
        sections: flops_full by section: "prune", "recover" or "" for the host itself.
        calls: how often each operator ran.
    """

    full: Counter[str] = field(default_factory=Counter)
    paper: Counter[str] = field(default_factory=Counter)
    modules: Counter[str] = field(default_factory=Counter)
    sections: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)

    @property
    def flops_full(self) -> int:
        """All of :attr:`full`."""
        return sum(self.full.values())

    @property
    def flops_paper(self) -> int:
        """All of :attr:`paper`."""
        return sum(self.paper.values())


# --- flops_full: operator -> multiply-adds or element operations ------------------------------


def _mm(args: tuple[Any, ...], out: Tensor) -> int:
    return out.numel() * args[0].shape[-1]


def _addmm(args: tuple[Any, ...], out: Tensor) -> int:
    return out.numel() * args[1].shape[-1]


def _convolution(args: tuple[Any, ...], out: Tensor) -> int:
    weight, transposed = args[1], args[6]
    if transposed:
        return args[0].numel() * weight[0].numel()
    return out.numel() * weight[0].numel()


def _pairwise(args: tuple[Any, ...], out: Tensor) -> int:
    return out.numel() * args[0].shape[-1]


def _every_pair(args: tuple[Any, ...], out: Tensor) -> bool:
    """Whether both factors are broadcast: element by element, no such product is needed."""
    return all(isinstance(a, Tensor) and a.numel() < out.numel() for a in args[:2])


# Operator -> (kind, multiply-adds).
PRODUCTS: dict[Any, tuple[str, Callable[[tuple[Any, ...], Tensor], int]]] = {
    aten.mm: ("product", _mm),
    aten.bmm: ("product", _mm),
    aten.addmm: ("product", _addmm),
    aten.baddbmm: ("product", _addmm),
    aten.convolution: ("product", _convolution),
    aten._cdist_forward: ("distance", _pairwise),
    aten._euclidean_dist: ("distance", _pairwise),
}

_PER_OUTPUT: dict[Any, int] = {
    op: 1
    for op in (
        aten.add, aten.add_, aten.sub, aten.rsub, aten.mul, aten.mul_, aten.div, aten.div_,
        aten.neg, aten.exp, aten.abs, aten.square, aten.pow, aten.sqrt, aten.gt, aten.lt, aten.ge,
        aten.le, aten.eq, aten.ne, aten.where, aten.masked_fill, aten.minimum, aten.maximum,
        aten.clamp, aten.clamp_, aten.bitwise_and, aten.logical_not, aten.isfinite, aten.tanh,
        aten.relu, aten.relu_, aten.sigmoid, aten.rsqrt, aten.ge_,
    )
} | {aten.lerp: 3, aten.addcmul: 2, aten._softmax: 5, aten._safe_softmax: 5,
     aten.gelu: 1}  # fmt: skip
_PER_INPUT: dict[Any, int] = {
    op: 1
    for op in (aten.sum, aten.mean, aten.amax, aten.amin, aten.max, aten.min, aten.argmax,
               aten.argmin, aten.any, aten.all)
} | {aten.linalg_vector_norm: 2, aten.native_layer_norm: 1, aten.native_batch_norm: 1,
     aten._native_batch_norm_legit_no_training: 1, aten._native_batch_norm_legit: 1}  # fmt: skip
# Moving, naming, ordering and making data.
_FREE = {
    aten.view, aten._unsafe_view, aten.reshape, aten.expand, aten.permute, aten.transpose, aten.t,
    aten.unsqueeze, aten.squeeze, aten.select, aten.slice, aten.split, aten.split_with_sizes,
    aten.unbind, aten.clone, aten.copy_, aten._to_copy, aten.detach, aten.alias, aten.contiguous,
    aten.cat, aten.stack, aten.gather, aten.index, aten.index_select, aten.take_along_dim,
    aten.sort, aten.topk, aten.searchsorted, aten.arange, aten.empty, aten.empty_like,
    aten.new_empty, aten.new_zeros, aten.new_ones, aten.new_full, aten.zeros, aten.ones,
    aten.full, aten.full_like, aten.zeros_like, aten.ones_like, aten.scalar_tensor, aten.fill_,
    aten.empty_strided, aten.as_strided, aten.lift_fresh, aten.scatter, aten.unfold, aten.roll,
    aten._local_scalar_dense,
}  # fmt: skip


class _Dispatched(TorchDispatchMode):
    """Sees every operator that runs, below all composites."""

    def __init__(self, owner: _Full) -> None:
        super().__init__()
        self.owner = owner

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.owner.saw(func, args, out)
        return out


class _Fused(TorchFunctionMode):
    """Sees layers before they are decomposed, so that they count the same on every device."""

    def __init__(self, owner: _Full) -> None:
        super().__init__()
        self.owner = owner

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.linear:
            with self.owner.paused():  # the bias is an addition of its own in some layouts only
                out = func(*args, **kwargs)
            self.owner.add("product", 2 * out.numel() * args[0].shape[-1])
            self.owner.count.calls["linear"] += 1
            return out
        if func is torch.nn.functional.layer_norm and args[0].is_meta:
            self.owner.saw_norm(args[0])
            with self.owner.paused():
                return torch.empty_like(args[0])
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        named = (kwargs[name] for name in ("query", "key", "value")[len(args) :])
        query, key, value = (*args[:3], *named)
        weights = math.prod(query.shape[:-1]) * key.shape[-2]
        self.owner.add("attention", 2 * weights * (query.shape[-1] + value.shape[-1]))
        if self.owner.section_name:
            self.owner.add("element", 6 * weights)  # scale and softmax
        self.owner.count.calls["scaled_dot_product_attention"] += 1
        with self.owner.paused():
            return func(*args, **kwargs)


class _Full:
    """Counts flops_full; it is also the probe that knows which section runs."""

    def __init__(self, count: Count) -> None:
        self.count = count
        self.section_name = ""
        self.module = ""
        self._paused = False

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        self.section_name = name
        try:
            yield
        finally:
            self.section_name = ""

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def add(self, kind: str, flops: int) -> None:
        self.count.full[kind] += flops
        self.count.modules[self.module] += flops
        self.count.sections[self.section_name] += flops

    def saw(self, func: Any, args: tuple[Any, ...], out: Any) -> None:
        if self._paused or func.namespace == "prim":
            return
        op = func.overloadpacket
        self.count.calls[op.__name__] += 1
        if op in PRODUCTS:
            kind, multiply_adds = PRODUCTS[op]
            self.add(kind, 2 * multiply_adds(args, out))
            if kind == "distance" and self.section_name:
                self.add("element", out.numel())  # the root
        elif op is aten.mul and not self.section_name and _every_pair(args, out):
            raise UncountedOperation(
                f"{func} multiplies every pair of two tensors, as a matrix product does; write it "
                f"as one, so that it is counted (it ran in {self.module or 'the model'})"
            )
        elif op in _PER_OUTPUT:
            first = out[0] if isinstance(out, tuple) else out
            self._element(_PER_OUTPUT[op] * first.numel())
        elif op in _PER_INPUT:
            self._element(_PER_INPUT[op] * args[0].numel())
        elif op not in _FREE:
            raise UncountedOperation(
                f"{func} is in no table of operation counts; add it to PRODUCTS, _PER_OUTPUT, "
                f"_PER_INPUT or _FREE in bench/metrics/flop_counters.py (it ran in "
                f"{self.module or 'the model'})"
            )

    def saw_norm(self, x: Tensor) -> None:
        self.count.calls["native_layer_norm"] += 1
        self._element(_PER_INPUT[aten.native_layer_norm] * x.numel())

    def _element(self, flops: int) -> None:
        if self.section_name:
            self.add("element", flops)


# --- flops_paper: module type -> FLOPs --------------------------------------------------------


def _linear(module: Any, inputs: tuple[Any, ...], out: Tensor) -> tuple[str, int]:
    return "linear", 2 * out.numel() * module.in_features


def _conv(module: Any, inputs: tuple[Any, ...], out: Tensor) -> tuple[str, int]:
    return "conv", 2 * out.numel() * module.weight[0].numel()


def _norm(module: Any, inputs: tuple[Any, ...], out: Tensor) -> tuple[str, int]:
    return "norm", 4 * out.numel()


def _pool(module: Any, inputs: tuple[Any, ...], out: Tensor) -> tuple[str, int]:
    return "pool", 2 * (inputs[0].shape[2] + 1) * out.numel()


def _repeated_queries(module: Any, inputs: tuple[Any, ...], out: Tensor) -> tuple[str, int]:
    """The published code projects TRA's queries once per row and stream, this one once in all."""
    query = inputs[0]
    copies = out.shape[0] * out.shape[2] // (query.shape[0] * query.shape[2]) - 1
    return "repeated", copies * 2 * out.shape[1] * module.linear_q.weight.numel()


def _interpolation(module: Any, inputs: tuple[Any, ...], out: Tensor) -> tuple[str, int]:
    return "interpolation", 10 * out.numel()


PAPER_RULES: dict[type[nn.Module], Callable[[Any, tuple[Any, ...], Tensor], tuple[str, int]]] = {
    nn.Linear: _linear,
    nn.Conv1d: _conv,
    nn.BatchNorm1d: _norm,
    StreamMean: _pool,
    CrossAttention: _repeated_queries,
    InterpolationRecoverer: _interpolation,
}


@contextmanager
def _hooked(model: nn.Module, full: _Full) -> Iterator[None]:
    """Apply the paper's rules to every module, and keep track of which one runs."""
    handles = []

    def enter(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            full.module = name

        return hook

    def leave(name: str) -> Callable[..., None]:
        parent = name.rpartition(".")[0]

        def hook(module: nn.Module, inputs: tuple[Any, ...], out: Any) -> None:
            full.module = parent
            rule = PAPER_RULES.get(type(module))
            if rule is not None:
                kind, flops = rule(module, inputs, out)
                full.count.paper[kind] += flops

        return hook

    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(enter(name)))
            handles.append(module.register_forward_hook(leave(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def count(model: h2ot_core.Hourglass, x: Tensor) -> Count:
    """Count one forward pass.

    Args:
        model: preferably without values, see :func:`blank_model`; its parameters must not require
            gradients, which torch's counter cannot follow without them.
        x: (B, F, J, C_in); the counts are for the whole batch.

    Raises:
        UncountedOperation: for an operation that no table covers.
    """
    result = Count()
    full = _Full(result)
    with torch.no_grad(), _hooked(model, full), _Fused(full), _Dispatched(full):
        model.run(x, probe=full)
    return result


# --- independent counters ----------------------------------------------------------------------


def cross_check(model: h2ot_core.Hourglass, x: Tensor, ours: Count) -> dict[str, int]:
    """Compare our counts with those of torch, fvcore and thop, each in the part that it can see.

    Torch's FlopCounterMode counts every product but distance matrices; fvcore the same, with a
    rule for fused attention; thop linear and convolution layers.

    Returns:
        Counter to the FLOPs that it counts and we confirm.

    Raises:
        CountersDisagree: naming both numbers.
    """
    with warnings.catch_warnings():
        # Neither package is maintained; what they warn of is their own code.
        warnings.simplefilter("ignore")
        return _cross_check(model, x, ours)


def _cross_check(model: h2ot_core.Hourglass, x: Tensor, ours: Count) -> dict[str, int]:
    import thop
    from fvcore.nn import FlopCountAnalysis

    products = ours.full["product"] + ours.full["attention"]
    layers = ours.paper["linear"] + ours.paper["conv"]
    with torch.no_grad():
        with SkipNorms(), FlopCounterMode(display=False) as counter:
            model(x)
        counts = {"torch": counter.get_total_flops()}

        analysis = FlopCountAnalysis(*_traceable(model, x))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.set_op_handle("aten::scaled_dot_product_attention", _fvcore_attention)
        analysis.set_op_handle("aten::matmul", _fvcore_matmul)
        with SkipNorms():
            by_operator = analysis.by_operator()
        names = ("linear", "conv", "matmul", "bmm", "addmm", "einsum", "attention")
        counts["fvcore"] = 2 * sum(int(by_operator.get(name, 0)) for name in names)

        ignore = {
            kind: _ignored for kind in (nn.LayerNorm, nn.BatchNorm1d, nn.GELU, nn.Tanh, nn.Identity)
        }
        scratch = copy.deepcopy(model)  # thop leaves its sums behind
        with SkipNorms():
            macs, _ = thop.profile(scratch, inputs=(x,), custom_ops=ignore, verbose=False)
        counts["thop"] = 2 * int(macs)
    ours_by_counter = {"torch": products, "fvcore": products, "thop": layers}
    for name, flops in counts.items():
        if flops != ours_by_counter[name]:
            raise CountersDisagree(
                f"{name} counts {flops} FLOPs of products in {model.extra_repr()}, we count "
                f"{ours_by_counter[name]}; an operation is missed or counted twice."
            )
    return counts


def _traceable(model: h2ot_core.Hourglass, x: Tensor) -> tuple[h2ot_core.Hourglass, Tensor]:
    """What fvcore's tracer can follow: convolutions cannot be traced without values."""
    if not x.is_meta or not any(isinstance(m, nn.Conv1d) for m in model.modules()):
        return model, x
    return blank_model(model.config.arguments, batch=len(x), device="cpu")


def _ignored(module: nn.Module, inputs: Any, out: Any) -> None:
    """A thop rule: nothing."""


def _fvcore_attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    query, key, value = (v.type().sizes() for v in inputs[:3])
    weights = math.prod(query[:-1]) * key[-2]
    return Counter({"attention": weights * (query[-1] + value[-1])})


def _fvcore_matmul(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Fvcore's own rule looks at the first operand alone, and misses a batch it is broadcast to."""
    inner = inputs[0].type().sizes()[-1]
    return Counter({"matmul": math.prod(outputs[0].type().sizes()) * inner})
