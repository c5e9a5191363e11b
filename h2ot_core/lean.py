"""Layers in training: pairs that keep less for the backward pass, and oneDNN on a CPU.

Between two layers autograd keeps what the second one was given. Where the first is a norm or an
activation, that is quickly had again from what the first was given, which is kept anyway: so the
second layer's input is worked out anew in the backward pass. Nothing else is recomputed. Since each
backward pass is written out here, its products can go the way of ``h2ot_core.fused`` on a CPU, but
for the weights' gradients, for which oneDNN would first turn both factors around.
"""

from __future__ import annotations

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


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        grad_x, *of_layer = _of_linear(grad, x, weight, ctx.needs_input_grad[2])
        return (grad_x.to(x.dtype), *of_layer)


class _NormLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float, weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:  # fmt: skip
        y, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], scale, shift, eps)
        ctx.eps = eps
        ctx.save_for_backward(x, mean, rstd, scale, shift, weight)
        return _product(y, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        x, mean, rstd, scale, shift, weight = ctx.saved_tensors
        # A second derivative needs both moments to depend on x; a GPU is quicker with one kernel.
        if torch.is_grad_enabled() or not x.is_cpu:
            y = functional.layer_norm(x, x.shape[-1:], scale, shift, ctx.eps)
        else:
            y = (x - mean).mul_(rstd).mul_(scale).add_(shift)
        grad_y, *of_layer = _of_linear(grad, y, weight, ctx.needs_input_grad[5])
        of_norm = torch.ops.aten.native_layer_norm_backward(
            grad_y.to(x.dtype), x, x.shape[-1:], mean, rstd, scale, shift, [True, True, True]
        )
        return (*of_norm, None, *of_layer)


class _GeluLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(functional.gelu(x), weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        grad_y, *of_layer = _of_linear(grad, functional.gelu(x), weight, ctx.needs_input_grad[2])
        return (torch.ops.aten.gelu_backward(grad_y.to(x.dtype), x), *of_layer)


def _of_linear(
    grad: Tensor, y: Tensor, weight: Tensor, biased: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of a linear layer's input, weight and bias.

    Under autocast the layer computed in the type of its result; so does this.
    """
    flat = grad.flatten(0, -2)
    of_weight = flat.T @ y.flatten(0, -2).to(grad.dtype)
    of_bias = flat.sum(0).to(weight.dtype) if biased else None
    return _product(grad, weight.to(grad.dtype).T), of_weight.to(weight.dtype), of_bias
