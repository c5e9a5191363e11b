"""Layers that the hosts share. Tensors keep one layout, (B, F, S, C), from embedding to head.

Legend: B batch, F or K frames, S streams (joints, or hypotheses), C width, H heads, d = C / H.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from h2ot_core import kernels
from h2ot_core.kernels import FastPath
from h2ot_core.kernels.inference import is_identity


class AttentionRecorder(list[tuple[Tensor, Tensor]]):
    """Collects (query, key) pairs, each (B, S, H, F, d), of the temporal attentions recorded.

    Attributes:
        received: (B, F) float32 for each pair whose attention had its weights at hand: the weight
            that each frame received from all queries, averaged over S and H. Empty where none had.
    """

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Tensor] = []


def _scaled_dot_product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Fused attention over the last but one axis; leading axes are folded into one batch axis."""
    lead = q.shape[:-3]
    q, k, v = (t.flatten(0, -4) for t in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v).unflatten(0, lead)


# Folding of (B, F, S, 3, H, d) into (3, B, ., H, ., d) per direction, and of the result back.
_SPLIT = {"spatial": (3, 0, 1, 4, 2, 5), "temporal": (3, 0, 2, 4, 1, 5)}
_MERGE = {"spatial": (0, 1, 3, 2, 4), "temporal": (0, 3, 1, 2, 4)}
# Axes of (B, F, S, C) that one stochastic-depth draw covers: the published hosts fold the other
# two into the batch.
_SHARED = {"spatial": (2, 3), "temporal": (1, 3)}


class Attention(nn.Module):
    """Multi-head self-attention, (B, F, S, C) to the same.

    Args:
        width: C.
        heads: H, divides C.
        along: "spatial" attends among the streams of each frame, "temporal" along the frames of
            each stream.
        qkv_bias: whether the joint query, key and value projection has a bias.
        dropout: rate after the output projection, in training.
    """

    def __init__(
        self, width: int, heads: int, along: str, *, qkv_bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads = heads
        self.along = along
        self.qkv = nn.Linear(width, width * 3, bias=qkv_bias)
        self.proj = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, recorder: AttentionRecorder | None = None) -> Tensor:
        """(B, F, S, C) to the same; ``recorder`` takes queries and keys."""
        fast = kernels.attention(self, x, recorder)
        if fast is not None:
            return fast
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(_SPLIT[self.along]).unbind(0)
        if recorder is not None:
            recorder.append((q.detach(), k.detach()))
        y = _scaled_dot_product(q, k, v)
        return self.drop(self.proj(y.permute(_MERGE[self.along]).flatten(-2)))

    fast_path: ClassVar = FastPath("attention", forward)


class CrossAttention(nn.Module):
    """Multi-head attention of one sequence on another, along the frames of each stream."""

    def __init__(
        self, width: int, heads: int, *, qkv_bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads = heads
        self.linear_q = nn.Linear(width, width, bias=qkv_bias)
        self.linear_k = nn.Linear(width, width, bias=qkv_bias)
        self.linear_v = nn.Linear(width, width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend from the query's frames to the key's.

        Args:
            query: (B, F, S, C), or (1, F, 1, C) for the same in every row and stream, which is
                then projected once.
            key, value: (B, K, S, C).

        Returns:
            (B, F, S, C).
        """
        fast = kernels.cross_attention(self, query, key, value)
        if fast is not None:
            return fast
        q = self._split(self.linear_q(query)).expand(key.shape[0], key.shape[2], -1, -1, -1)
        k, v = self._split(self.linear_k(key)), self._split(self.linear_v(value))
        y = _scaled_dot_product(q, k, v).permute(_MERGE["temporal"]).flatten(-2)
        return self.drop(self.proj(y))

    def _split(self, x: Tensor) -> Tensor:
        """(B, F, S, C) to (B, S, H, F, d)."""
        return x.unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1, 4)


class Mlp(nn.Module):
    """Two linear layers with GELU between; (..., C) to (..., C)."""

    def __init__(self, width: int, hidden: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to the same."""
        fast = kernels.mlp(self, x)
        if fast is not None:
            return fast
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))

    fast_path: ClassVar = FastPath("mlp", forward)


def linear_tanh(x: Tensor, layers: nn.Module) -> Tensor:
    """A linear layer and a tanh, in sequence; (..., C) to (..., C')."""
    fast = kernels.linear_tanh(x, layers)
    return layers(x) if fast is None else fast


def blend(one: Tensor, other: Tensor, gate: nn.Module) -> Tensor:
    """Average of two streams, weighted token by token.

    Args:
        one, other: (..., C).
        gate: linear layer (2 C) to 2, the logits of both weights.

    Returns:
        (..., C).
    """
    fast = kernels.blend(one, other, gate)
    if fast is not None:
        return fast
    weights = gate(torch.cat([one, other], dim=-1)).softmax(dim=-1)
    return one * weights[..., :1] + other * weights[..., 1:]


class DropPath(nn.Module):
    """Stochastic depth: in training, drop a residual branch per sample (Huang et al., 2016).

    A sample is one frame for a spatial half and one stream for a temporal half, as in the
    published hosts, which fold those axes into the batch.

    Args:
        rate: probability of dropping, in [0, 1).
        shared: axes of (B, F, S, C) that one draw covers.
    """

    def __init__(self, rate: float, shared: tuple[int, ...]) -> None:
        super().__init__()
        self.rate = rate
        self.shared = shared

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, S, C) to the same."""
        if not self.training or self.rate == 0:
            return x
        shape = [1 if axis in self.shared else n for axis, n in enumerate(x.shape)]
        keep = 1 - self.rate
        return x * (torch.rand(shape, device=x.device, dtype=x.dtype) < keep).to(x.dtype).div_(keep)

    fast_path: ClassVar = FastPath("drop_path", forward)

    def extra_repr(self) -> str:
        """The drop rate, for ``print(model)``."""
        return f"rate={self.rate:.3f}"


def attend(attention: nn.Module, x: Tensor, recorder: AttentionRecorder | None = None) -> Tensor:
    """Call an attention, or what somebody put in its place, which need not know recorders."""
    return attention(x) if recorder is None else attention(x, recorder)


class Block(nn.Module):
    """Pre-norm transformer block in one direction: attention, then MLP, each with a residual."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        along: str,
        *,
        drop_path: float = 0.0,
        dropout: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, along, dropout=dropout)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, hidden, dropout=dropout)
        self.drop_path = DropPath(drop_path, shared=_SHARED[along])

    def forward(self, x: Tensor, recorder: AttentionRecorder | None = None) -> Tensor:
        """(B, F, S, C) to the same; queries and keys go to ``recorder``."""
        drop = self.drop_path
        y = kernels.residual(x, self.attn, norm=self.norm1, drop=drop, recorder=recorder)
        x = x + drop(attend(self.attn, self.norm1(x), recorder)) if y is None else y
        y = kernels.residual(x, self.mlp, norm=self.norm2, drop=drop)
        return x + drop(self.mlp(self.norm2(x))) if y is None else y


class StreamMean(nn.Module):
    """Average over the streams of each frame (paper, Section 3.1.1)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, S, C) to (B, F, C)."""
        return x.mean(dim=2)


# Former names.
Tap = AttentionRecorder
features = linear_tanh
idle = is_identity
