"""Layers in training: pairs that keep less for the backward pass, and oneDNN on a CPU.

Between two layers autograd keeps what the second one was given. Where the first is a norm or an
activation, that is quickly had again from what the first was given, which is kept anyway: so the
second layer's input is worked out anew in the backward pass. Nothing else is recomputed. Since each
backward pass is written out here, its products can go the way of ``h2ot_core.fused`` on a CPU, but
for the weights' gradients, for which oneDNN would first turn both factors around.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from h2ot_core import fused
from h2ot_core.fused import untouched


def norm_linear(x: Tensor, norm: nn.LayerNorm, layer: nn.Linear) -> Tensor:
    """``layer(norm(x))``, (..., C) to (..., C'); keeps x alone where gradients are recorded."""
    same = x.dtype == norm.weight.dtype  # not so under autocast, which brings both together
    if not (same and _recording() and untouched(norm, layer, everywhere=False)):
        return layer(norm(x))
    return _NormLinear.apply(x, norm.weight, norm.bias, norm.eps, layer.weight, layer.bias)


def projections(
    x: Tensor, norm: nn.LayerNorm | None, layer: nn.Linear, parts: int
) -> tuple[Tensor, ...] | None:
    """As :func:`norm_linear`, the result in equal parts that do not share their memory.

    Attention takes such parts as they lie, and their gradients come as they are needed.

    Returns:
        ``parts`` tensors (..., C' / parts), or None where gradients are not recorded or the
        layers are not what they were; then nothing was done.
    """
    same = x.dtype == layer.weight.dtype  # not so under autocast
    if not (same and _recording() and untouched(layer, everywhere=False)):
        return None
    if norm is None:
        return _Linear.apply(x, layer.weight, layer.bias, parts)
    if not untouched(norm, everywhere=False):
        return None
    return _NormLinear.apply(x, norm.weight, norm.bias, norm.eps, layer.weight, layer.bias, parts)


def gelu_linear(x: Tensor, act: nn.Module, layer: nn.Linear) -> Tensor:
    """``layer(act(x))`` of the exact GELU, likewise."""
    if not (_recording() and untouched(act, layer, everywhere=False)):
        return layer(act(x))
    return _GeluLinear.apply(x, layer.weight, layer.bias)


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """``layer(x)``, on a CPU through oneDNN also where gradients are recorded."""
    if not (x.is_cpu and _recording() and untouched(layer, everywhere=False)):
        return layer(x)
    return _Linear.apply(x, layer.weight, layer.bias)


def _recording() -> bool:
    """Whether autograd records, and nothing looks at the function as a whole."""
    return torch.is_grad_enabled() and not fused.transformed()


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer's result, where autograd does not look."""
    if fused.ready(x) and x.dtype == weight.dtype:
        return fused.linear(x, weight, bias)
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
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float, weight: Tensor,
        bias: Tensor | None, parts: int = 1,
    ) -> Any:  # fmt: skip
        y, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], scale, shift, eps)
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
        of_norm = torch.ops.aten.native_layer_norm_backward(
            grad_y.to(x.dtype), x, x.shape[-1:], mean, rstd, scale, shift, [True, True, True]
        )
        return (*of_norm, None, *of_layer, None)


class _GeluLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(functional.gelu(x), weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        grad_y, *of_layer = _of_linear(grads, functional.gelu(x), weight, ctx.needs_input_grad[2])
        return (torch.ops.aten.gelu_backward(grad_y.to(x.dtype), x), *of_layer)


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
        if grad.is_cpu and fused.ready(grad):
            of_y += _product(grad, w.T)
        else:  # the sum within the product
            of_y.view(-1, of_y.shape[-1]).addmm_(one, w)
    of_weight = _joined([one.T @ rows for one in flat])
    of_bias = _joined([one.sum(0) for one in flat]).to(weight.dtype) if biased else None
    return of_y, of_weight.to(weight.dtype), of_bias


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat([*parts])
