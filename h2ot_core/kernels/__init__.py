"""Faster ways to what the layers compute, and when they may be taken.

Every layer's ``forward`` is the plain model. It first asks here for the same result: from
:mod:`~h2ot_core.kernels.inference` where nothing records gradients, from
:mod:`~h2ot_core.kernels.training` where something does. The answer is None wherever a layer was
replaced, wrapped or hooked, somebody watches what runs, or PyTorch lacks something; then the plain
forward runs. :mod:`~h2ot_core.kernels.private` alone knows private names of PyTorch, and
:mod:`~h2ot_core.kernels.detect` finds out once whether they do what they should.
``H2OT_KERNELS=plain`` in the environment keeps to the plain model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from h2ot_core.kernels import inference, training
from h2ot_core.kernels.detect import requested, status
from h2ot_core.kernels.inference import PackedWeights, fast_path_applies, linear, packing, plain
from h2ot_core.kernels.private import INLINABLE, fast_path_of, is_unmodified
from h2ot_core.kernels.training import ignoring_global_hooks

__all__ = [
    "INLINABLE",
    "FastPath",
    "PackedWeights",
    "attention",
    "blend",
    "convolution",
    "cross_attention",
    "fast_path_applies",
    "hypotheses",
    "ignoring_global_hooks",
    "is_unmodified",
    "linear",
    "linear_tanh",
    "mlp",
    "norm_convolution",
    "packing",
    "plain",
    "requested",
    "residual",
    "spatial_graph",
    "status",
    "supported_types",
    "temporal_graph",
]

Recorder = list[tuple[Tensor, Tensor]]


class FastPath(NamedTuple):
    """Mark of a layer whose work may be done without calling it, as a class attribute.

    Attributes:
        name: of the functions that do it, in ``inference`` and perhaps in ``training``.
        forward: what they stand for; a class whose ``forward`` is another is called.
    """

    name: str
    forward: Callable[..., Tensor]


def supported_types() -> tuple[torch.dtype, ...]:
    """Types of values on a CPU for which layers run through oneDNN; empty where it cannot be used.

    Raises:
        ConfigError: if ``H2OT_KERNELS`` has an unknown value.
    """
    return status().types


def _way(x: Tensor) -> Any:
    """The module whose functions apply to ``x``, or None."""
    if fast_path_applies(x):
        return inference
    return training if training.fast_path_applies() else None


def attention(module: nn.Module, x: Tensor, recorder: Recorder | None) -> Tensor | None:
    """As :class:`h2ot_core.layers.Attention`, or None."""
    way = _way(x)
    return None if way is None else way.attention(module, x, recorder)


def mlp(module: nn.Module, x: Tensor) -> Tensor | None:
    """As :class:`h2ot_core.layers.Mlp`, or None."""
    way = _way(x)
    return None if way is None else way.mlp(module, x)


def residual(
    x: Tensor,
    module: nn.Module,
    *,
    y: Tensor | None = None,
    norm: nn.Module | None = None,
    drop: nn.Module | None = None,
    scale: Tensor | None = None,
    recorder: Recorder | None = None,
) -> Tensor | None:
    """``x + drop(scale * module(norm(y)))``, or None.

    Args:
        x: (..., C).
        module: a layer with a :class:`FastPath`.
        y: what the module is given, by default x.
        norm: a layer norm, taken of y before.
        drop: a :class:`h2ot_core.layers.DropPath`; not together with a scale.
        scale: (C,).
        recorder: takes queries and keys of an attention.
    """
    way = _way(x)
    if way is None:
        return None
    run = getattr(way, fast_path_of(module), None)
    if run is None:
        return None
    y = x if y is None else y
    if drop is None or (fast_path_of(drop) == "drop_path" and inference.is_identity(drop)):
        return run(module, y, recorder, x, scale, norm)
    branch = run(module, y, recorder, None, None, norm)
    return None if branch is None else x + drop(branch)


def cross_attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> Tensor | None:
    """As :class:`h2ot_core.layers.CrossAttention`, or None."""
    if not fast_path_applies(key):
        return None
    return inference.cross_attention(module, query, key, value)


def linear_tanh(x: Tensor, layers: nn.Module) -> Tensor | None:
    """A linear layer and a tanh in sequence, or None."""
    return inference.linear_tanh(x, layers) if fast_path_applies(x) else None


def blend(one: Tensor, other: Tensor, gate: nn.Module) -> Tensor | None:
    """As :func:`h2ot_core.layers.blend`, or None."""
    return inference.blend(one, other, gate) if fast_path_applies(one) else None


def spatial_graph(module: nn.Module, x: Tensor) -> Tensor | None:
    """As MotionAGFormer's ``SpatialGraph``, or None."""
    return inference.spatial_graph(module, x) if fast_path_applies(x) else None


def temporal_graph(module: nn.Module, x: Tensor) -> Tensor | None:
    """As MotionAGFormer's ``TemporalGraph``, or None."""
    return inference.temporal_graph(module, x) if fast_path_applies(x) else None


def convolution(x: Tensor, module: nn.Module) -> Tensor | None:
    """A convolution over single frames, (B, C, F) to (B, F, C'), or None."""
    return inference.convolution(x, module) if fast_path_applies(x) else None


def norm_convolution(x: Tensor, layers: nn.Module) -> Tensor | None:
    """A batch norm and a convolution over single frames, (B, N, C) to (B, N, C'), or None."""
    return inference.norm_convolution(x, layers) if fast_path_applies(x) else None


def hypotheses(x: Tensor, count: int, width: int, drop: nn.Module) -> Tensor | None:
    """Uninitialised memory in which each hypothesis is put where it belongs, or None.

    Args:
        x: (B, F, ...), on a CPU.
        count, width: S and C.
        drop: what the hypotheses go through after it.

    Returns:
        (B, F, S, C).
    """
    if not (
        x.is_cpu
        and fast_path_applies(x)
        and is_unmodified(x, (nn.Dropout,), drop)
        and inference.is_identity(drop)
    ):
        return None
    return x.new_empty(*x.shape[:2], count, width)
