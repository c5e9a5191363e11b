"""Layers in training: pairs that keep less for the backward pass, and oneDNN on a CPU.

Between two layers autograd keeps what the second one was given. Where the first is a norm or an
activation, that is quickly had again from what the first was given, which is kept anyway: so the
second layer's input is worked out anew in the backward pass. Nothing else is recomputed. Since each
backward pass is written out here, its products can go the way of
``h2ot_core.kernels.inference`` on a CPU, but
for the weights' gradients, for which oneDNN would first turn both factors around.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from h2ot_core.kernels import detect, inference, private
from h2ot_core.kernels.inference import added, dot_product, record
from h2ot_core.kernels.private import is_unmodified

_ignoring_global_hooks = False


@contextmanager
def ignoring_global_hooks() -> Iterator[None]:
    """Within it, hooks on all modules do not keep layers from their fast path in training.

    For a tracker of memory, which hooks into every module and only counts tensors: with it a
    training step keeps what it keeps without.
    """
    global _ignoring_global_hooks
    before, _ignoring_global_hooks = _ignoring_global_hooks, True
    try:
        yield
    finally:
        _ignoring_global_hooks = before


def fast_path_applies() -> bool:
    """True if gradients are recorded, and nothing looks at the function as a whole."""
    return (
        torch.is_grad_enabled()
        and inference.is_wanted()
        and not private.is_transformed()
        and (_ignoring_global_hooks or not private.has_global_hooks())
        and detect.trains()
    )


# --- layers ---------------------------------------------------------------------------------------
# Each does what the forward of the same name does, or returns None: then the caller runs that.


def attention(
    module: Any,
    x: Tensor,
    recorder: list[tuple[Tensor, Tensor]] | None = None,
    residual: Tensor | None = None,
    scale: Tensor | None = None,
    norm: Any = None,
) -> Tensor | None:
    """As :func:`h2ot_core.kernels.inference.attention`."""
    own = private.children(module)
    qkv, proj = own["qkv"], own["proj"]
    if not is_unmodified(x, (nn.Linear, nn.Linear), qkv, proj):
        return None
    parts = _projections(x, norm, qkv, 3)
    if parts is None:
        return None
    q, k, v = parts
    record(recorder, q, k, module.heads)
    y = dot_product(q, k, v, module.heads, module.along)
    return added(own["drop"](_linear(y, proj)), residual, scale)


def mlp(
    module: Any,
    x: Tensor,
    recorder: object = None,
    residual: Tensor | None = None,
    scale: Tensor | None = None,
    norm: Any = None,
) -> Tensor | None:
    """As :func:`h2ot_core.kernels.inference.mlp`."""
    own = private.children(module)
    fc1, act, fc2, drop = own["fc1"], own["act"], own["fc2"], own["drop"]
    if not is_unmodified(x, (nn.Linear, nn.Linear), fc1, fc2):
        return None
    hidden: Tensor
    if norm is None:
        hidden = _linear(x, fc1)
    else:
        parts = _projections(x, norm, fc1, 1)
        if parts is None:
            return None
        (hidden,) = parts
    if (
        is_unmodified(x, (nn.GELU, nn.Dropout), act, drop)
        and act.approximate == "none"
        and inference.is_identity(drop)
    ):
        y = _GeluLinear.apply(hidden, fc2.weight, fc2.bias)
    else:
        y = drop(fc2(drop(act(hidden))))
    return added(y, residual, scale)


def _projections(x: Tensor, norm: Any, layer: nn.Linear, parts: int) -> tuple[Tensor, ...] | None:
    """``layer(norm(x))``, (..., C) to (..., C'), in equal parts that do not share their memory.

    Attention takes such parts as they lie, and their gradients come as they are needed. Where there
    is a norm, x alone is kept.

    Args:
        x: (..., C).
        norm: any module, or None.
        layer: unmodified.
        parts: how many.

    Returns:
        ``parts`` tensors (..., C' / parts), or None where the norm was modified or types differ (as
        under autocast, which brings them together); then nothing was done.
    """
    found: Any
    if norm is None:
        if x.dtype != layer.weight.dtype:
            return None
        found = _Linear.apply(x, layer.weight, layer.bias, parts)
    else:
        if (
            not is_unmodified(x, (nn.LayerNorm,), norm)
            or norm.weight is None
            or norm.bias is None
            or norm.normalized_shape != x.shape[-1:]
            or x.dtype != norm.weight.dtype
            or x.dtype != layer.weight.dtype
        ):
            return None
        found = _NormLinear.apply(
            x, norm.weight, norm.bias, norm.eps, layer.weight, layer.bias, parts
        )
    return found if isinstance(found, tuple) else (found,)


def _linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """``layer(x)`` of an unmodified layer, on a CPU through oneDNN."""
    return _Linear.apply(x, layer.weight, layer.bias) if x.is_cpu else layer(x)


# --- former names, each with the plain way beside it ----------------------------------------------


def norm_linear(x: Tensor, norm: nn.Module, layer: Any) -> Tensor:
    """``layer(norm(x))``, (..., C) to (..., C'); keeps x alone where gradients are recorded."""
    parts = projections(x, norm, layer, 1)
    return layer(norm(x)) if parts is None else parts[0]


def projections(x: Tensor, norm: Any, layer: Any, parts: int) -> tuple[Tensor, ...] | None:
    """As :func:`norm_linear`, the result in parts; None where layers were modified.

    Returns:
        ``parts`` tensors (..., C' / parts), or None where gradients are not recorded or the
        layers are not what they were; then nothing was done.
    """
    if not (fast_path_applies() and is_unmodified(x, (nn.Linear,), layer)):
        return None
    return _projections(x, norm, layer, parts)


def gelu_linear(x: Tensor, act: Any, layer: Any) -> Tensor:
    """``layer(act(x))`` of the exact GELU, likewise."""
    known = fast_path_applies() and is_unmodified(x, (nn.GELU, nn.Linear), act, layer)
    if not (known and act.approximate == "none"):
        return layer(act(x))
    return _GeluLinear.apply(x, layer.weight, layer.bias)


def linear(x: Tensor, layer: Any) -> Tensor:
    """``layer(x)``, on a CPU through oneDNN also where gradients are recorded."""
    if not (fast_path_applies() and is_unmodified(x, (nn.Linear,), layer)):
        return layer(x)
    return _linear(x, layer)


# --- gradients ------------------------------------------------------------------------------------


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer's result, where autograd does not look."""
    if inference.fast_path_applies(x) and x.dtype == weight.dtype:
        return inference.linear(x, weight, bias)
    return functional.linear(x, weight, bias)


def _products(
    x: Tensor, weight: Tensor, bias: Tensor | None, parts: int
) -> Tensor | tuple[Tensor, ...]:
    """A linear layer's result; several parts of it lie apart."""
    if parts == 1:
        return _product(x, weight, bias)
    biases = (None,) * parts if bias is None else bias.chunk(parts)
    return tuple(_product(x, w, b) for w, b in zip(weight.chunk(parts), biases, strict=True))


class _Linear(torch.autograd.Function):
    """A linear layer, its result in equal parts."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, parts: int = 1) -> Any:
        ctx.save_for_backward(x, weight)
        return _products(x, weight, bias, parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        grad_x, *of_layer = _of_linear(grads, x, weight, ctx.needs_input_grad[2])
        return (grad_x.to(x.dtype), *of_layer, None)


class _NormLinear(torch.autograd.Function):
    """A layer norm and a linear layer; keeps the norm's input and moments."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float, weight: Tensor,
        bias: Tensor | None, parts: int = 1,
    ) -> Any:  # fmt: skip
        y, mean, rstd = private.native_layer_norm(x, x.shape[-1:], scale, shift, eps)
        ctx.eps = eps
        ctx.save_for_backward(x, mean, rstd, scale, shift, weight)
        return _products(y, weight, bias, parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, mean, rstd, scale, shift, weight = ctx.saved_tensors
        # A second derivative needs both moments to depend on x; a GPU is quicker with one kernel.
        if torch.is_grad_enabled() or not x.is_cpu:
            y = functional.layer_norm(x, x.shape[-1:], scale, shift, ctx.eps)
        else:
            y = (x - mean).mul_(rstd).mul_(scale).add_(shift)
        grad_y, *of_layer = _of_linear(grads, y, weight, ctx.needs_input_grad[5])
        of_norm = private.native_layer_norm_backward(
            grad_y.to(x.dtype), x, x.shape[-1:], mean, rstd, scale, shift, [True, True, True]
        )
        return (*of_norm, None, *of_layer, None)


class _GeluLinear(torch.autograd.Function):
    """The exact GELU and a linear layer; keeps the input of GELU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(functional.gelu(x), weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        grad_y, *of_layer = _of_linear(grads, functional.gelu(x), weight, ctx.needs_input_grad[2])
        return (private.gelu_backward(grad_y.to(x.dtype), x), *of_layer)


def _of_linear(
    grads: Sequence[Tensor], y: Tensor, weight: Tensor, biased: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of a linear layer's input, weight and bias, from those of the parts of its result.

    Under autocast the layer computed in the type of its result; so does this.
    """
    kind = grads[0].dtype
    rows = y.flatten(0, -2).to(kind)
    flat = [grad.flatten(0, -2) for grad in grads]
    weights = weight.to(kind).chunk(len(grads))
    of_y = _product(grads[0], weights[0].T)
    for grad, one, w in zip(grads[1:], flat[1:], weights[1:], strict=True):
        if grad.is_cpu and inference.fast_path_applies(grad):
            of_y += _product(grad, w.T)
        else:  # the sum within the product
            of_y.view(-1, of_y.shape[-1]).addmm_(one, w)
    of_weight = _joined([one.T @ rows for one in flat])
    of_bias = _joined([one.sum(0) for one in flat]).to(weight.dtype) if biased else None
    return of_y, of_weight.to(weight.dtype), of_bias


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat([*parts])
