"""Linear layers of plain inference: on a CPU through oneDNN, bias and activation in one kernel.

PyTorch hands products in float32 to MKL, which on an AMD processor reached half the rate of oneDNN,
which PyTorch carries as well and which puts bias and GELU on a tile of the result while it is still
in the cache (docs/performance.md). The operators are those that
``torch.compile`` emits for a CPU; weights are read as they lie, so nothing is kept that could grow
stale, but within :func:`packing`.

They have no gradient and show their products to no counter, so they are used in plain inference
alone, see :func:`ready`; everything else takes PyTorch's own way to the same result. On a GPU
PyTorch's own products stay, and what is saved is copies: where nothing records gradients, layers
may lay out their tensors and work in place as on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as _module

MADE: set[type[nn.Module]] = {
    nn.BatchNorm1d, nn.Conv1d, nn.Dropout, nn.GELU, nn.LayerNorm, nn.Linear, nn.Sequential, nn.Tanh,
}  # fmt: skip
"""Kinds of modules that may be left out, see :func:`untouched`; layers of this package join in."""

_POINTWISE: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
_REORDER: Any = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
_CONVOLUTION: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)


def grouped(x: Tensor, weights: Tensor) -> Tensor:
    """A product per group, as a convolution over single pixels: for it oneDNN takes x as it lies.

    Args:
        x: (N, G, A), on a CPU.
        weights: (G, B, A).

    Returns:
        (N, G, B), contiguous.
    """
    groups, one = x.shape[1], [1, 1]
    image = x.flatten(1)[None, None].permute(0, 3, 1, 2)  # (1, G A, 1, N), its channels innermost
    kernels = weights.flatten(0, 1)[..., None, None]
    y = _CONVOLUTION(image, kernels, None, [0, 0], one, one, groups, "none", [], "")
    return y.permute(0, 2, 3, 1).reshape(x.shape[0], groups, -1)


def _found() -> bool:
    """Whether this build of PyTorch has the operators, in the form used here."""
    try:
        x = torch.ones(2, 3, device="cpu")
        with torch.inference_mode():
            _POINTWISE(x, _REORDER(x, 2), None, "gelu", [], "none")
            grouped(x.unsqueeze(0), x.unsqueeze(1))
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False
    return True


def _types() -> tuple[torch.dtype, ...]:
    """What this build and this processor can do."""
    if not (torch.backends.mkldnn.is_available() and _found()):
        return ()
    bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return (torch.float32, torch.bfloat16) if bfloat16 else (torch.float32,)


TYPES = _types()
"""Types of values that oneDNN is used for here; none where PyTorch was built without it."""


_wanted = True


@contextmanager
def plain() -> Iterator[None]:
    """Within it, layers run as PyTorch runs them; for comparisons."""
    global _wanted
    before, _wanted = _wanted, False
    try:
        yield
    finally:
        _wanted = before


class Packs:
    """Weights laid out as oneDNN's kernels read them, kept for as long as this object is.

    For weights that do not change: a change would not be seen. Made when first needed, for the
    number of rows (tokens) met then, which may decide the layout; with other rows the weights are
    read as they lie.

    Args:
        weights: what may be kept, whole; parts of them may too. Nothing else is.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        # By where they lie, and held, so that nothing else comes to lie there.
        self._weights = {one.untyped_storage().data_ptr(): one for one in weights}
        self._found: dict[tuple[Any, ...], tuple[int, Tensor, Tensor | None]] = {}

    def of(
        self, rows: int, weight: Tensor, bias: Tensor | None, scale: Tensor | None
    ) -> tuple[Tensor, Tensor | None] | None:
        """The weights of a linear layer, packed.

        Args:
            rows: tokens that the layer is given.
            weight, bias, scale: as of :func:`linear`.

        Returns:
            Packed weight (C_out, C_in) and bias (C_out,), both scaled, or None: take them plain.
        """
        parts = (weight,) if scale is None else (weight, scale)
        if any(part.untyped_storage().data_ptr() not in self._weights for part in parts):
            return None
        # Layers that share a weight may each have a scale of their own.
        key = (*(part.data_ptr() for part in parts), *weight.shape, *weight.stride())
        if key not in self._found:
            plain, shift = _scaled(weight, bias, scale)
            self._found[key] = (rows, _REORDER(plain.contiguous(), rows), shift)
        made_for, packed, shift = self._found[key]
        return (packed, shift) if made_for == rows else None


_packs: ContextVar[Packs | None] = ContextVar("packs", default=None)


@contextmanager
def packing(packs: Packs) -> Iterator[None]:
    """Within it, layers in plain inference on a CPU take their weights from ``packs``."""
    token = _packs.set(packs)
    try:
        yield
    finally:
        _packs.reset(token)


def ready(x: Tensor) -> bool:
    """Whether layers may run on ``x`` through this module.

    They may without gradients and autocast, on a CPU for float32 and bfloat16 values, and with
    nothing watching single operators: no compilation, tracing, dispatch mode or function transform.
    On a CUDA device they may also be compiled, since the operators there are PyTorch's own.
    """
    if not _wanted or type(x) is not Tensor or torch.is_grad_enabled():
        return False
    if torch.compiler.is_compiling():
        return x.is_cuda and not torch.is_autocast_enabled("cuda")
    kind = "cpu" if x.is_cpu else "cuda"
    return (
        (x.is_cuda or (x.is_cpu and x.dtype in TYPES and torch._C._get_mkldnn_enabled()))
        and not transformed()
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch.is_autocast_enabled(kind)
    )


def transformed() -> bool:
    """Whether a compiler, a tracer or a transform of functions looks at what runs."""
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


def untouched(*modules: nn.Module | None, everywhere: bool = True) -> bool:
    """Whether modules are as they were made, and nobody listens to their calls.

    Then they may be left out: what they do is known, and nobody misses them. A module that was
    replaced or wrapped, as for quantisation or adapters, is called as ever.

    Args:
        modules: to be left out.
        everywhere: ask also for hooks on all modules of a process, as trackers of memory set them.
    """
    if everywhere and (_module._global_forward_hooks or _module._global_forward_pre_hooks):
        return False
    for module in modules:  # asked of every layer in every pass, hence plainly
        if (
            type(module) not in MADE
            or "forward" in (own := vars(module))
            or own["_forward_hooks"]
            or own["_forward_pre_hooks"]
            or own["_backward_hooks"]
            or own["_backward_pre_hooks"]
        ):
            return False
    return True


def called(module: nn.Module, *arguments: Any) -> Any:
    """Call a module that is :func:`untouched`, the short way where nobody listens to all calls."""
    listened = _module._has_any_global_hook() or torch.compiler.is_compiling()
    return (module if listened else module.forward)(*arguments)


def normed(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """A layer norm; where it is untouched, without the way through its module."""
    if not untouched(norm):
        return norm(x)
    return torch.layer_norm(x, norm.normalized_shape, *weights(norm), norm.eps)


def weights(module: nn.Module) -> tuple[Any, Any]:
    """Weight and bias, without the way through getattr where they are parameters."""
    own = module._parameters
    if "weight" in own and "bias" in own:
        return own["weight"], own["bias"]
    return module.weight, module.bias


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    act: Literal["none", "gelu", "tanh"] = "none",
    add: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """A linear layer, then an activation or a sum.

    Args:
        x: (..., C_in), :func:`ready`.
        weight: (C_out, C_in), in the type of x.
        bias: (C_out,) or None.
        act: of the result; "gelu" is the exact one.
        add: (..., C_out), added to the result; not together with an activation.
        scale: (C_out,), factors of the result before anything is added.

    Returns:
        (..., C_out), contiguous.
    """
    packs = _packs.get() if x.is_cpu else None
    found = packs.of(x.shape[:-1].numel(), weight, bias, scale) if packs is not None else None
    weight, bias = _scaled(weight, bias, scale) if found is None else found
    if x.is_cpu:
        y = _POINTWISE(x, weight, bias, act, [], "none")
    else:
        y = functional.linear(x, weight, bias)
        if act != "none":
            y = functional.gelu(y) if act == "gelu" else y.tanh_()
    # Faster than the operator that adds within the kernel (docs/performance.md).
    return y if add is None else y.add_(add)


def _scaled(
    weight: Tensor, bias: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Rows times a scale each; a pass over the weights costs less than one over the tokens."""
    if scale is None:
        return weight, bias
    return weight * scale.unsqueeze(1), None if bias is None else bias * scale


def layer(x: Tensor, module: nn.Linear, **after: Any) -> Tensor:
    """As :func:`linear`, with the weights of a module."""
    return linear(x, *weights(module), **after)
