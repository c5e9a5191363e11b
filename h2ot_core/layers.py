"""Layers that the hosts share. Tensors keep one layout, (B, F, S, C), from embedding to head.

Legend: B batch, F or K frames, S streams (joints, or hypotheses), C width, H heads, d = C / H.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from h2ot_core import fused, lean

# Attention weights held at once by an attention that is listened to, in elements: 4 MB stay in the
# cache of a CPU.
_WEIGHTS = 2**20
_FEW = 128  # tokens up to which queries, keys and values come from one product


class Tap(list[tuple[Tensor, Tensor]]):
    """Collects (query, key) pairs, each (B, S, H, F, d), of temporal attentions listened to.

    Attributes:
        received: (B, F) float32 for each pair whose attention had its weights at hand: what each
            frame was given by all queries, averaged over S and H. Empty where none had.
    """

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Tensor] = []


def _scaled_dot_product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Fused attention over the last but one axis; leading axes are folded into one batch axis."""
    lead = q.shape[:-3]
    q, k, v = (t.flatten(0, -4) for t in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v).unflatten(0, lead)


def _attention(q: Tensor, k: Tensor, v: Tensor, heads: int, along: str) -> Tensor:
    """Fused attention on (B, N, S, C) as projected, N frames; returns the same layout.

    Along the frames, streams and heads are one axis, and among the streams, batch and frames are:
    so all three are views (but for a query that is expanded), and so is what is returned, since
    attention on a CPU puts out heads innermost.
    """
    shape, d = q.shape, q.shape[-1] // heads
    if along == "temporal":
        q, k, v = (t.reshape(shape[0], t.shape[1], -1, d).transpose(1, 2) for t in (q, k, v))
    else:
        q, k, v = (t.reshape(-1, shape[2], heads, d).transpose(1, 2) for t in (q, k, v))
    y = functional.scaled_dot_product_attention(q, k, v)
    return y.transpose(1, 2).reshape(shape)


def _weighed(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Temporal attention on a CPU that also tells what each frame is given.

    Args:
        q, k, v: (B, N, S, C) as projected.
        heads: H.

    Returns:
        (B, N, S, C), and (B, N) float32: sums of weights over the queries, averaged over S and H.
    """
    batch, frames, streams, width = q.shape
    d, groups = width // heads, streams * heads
    y = torch.empty_like(q).unflatten(-1, (heads, d)).flatten(2, 3)
    given = q.new_zeros((batch, frames), dtype=torch.float32)
    q, k, v = (t.unflatten(-1, (heads, d)).flatten(2, 3) for t in (q, k, v))
    some = max(1, _WEIGHTS // frames**2)
    for row in range(batch):
        for i in range(0, groups, some):
            one = slice(i, min(i + some, groups))
            keys = (k[row, :, one] * d**-0.5).transpose(0, 1)  # (G, N, d)
            weights = fused.grouped(q[row, :, one], keys)
            weights = torch.softmax(weights, dim=-1, out=weights)
            given[row] += weights.sum(dim=0, dtype=torch.float32).sum(dim=0)
            y[row, :, one] = fused.grouped(weights, v[row, :, one].permute(1, 2, 0))
    return y.view(batch, frames, streams, width), given / groups


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

    def forward(
        self,
        x: Tensor,
        tap: Tap | None = None,
        residual: Tensor | None = None,
        scale: Tensor | None = None,
        norm: nn.LayerNorm | None = None,
    ) -> Tensor:
        """(B, F, S, C) to the same.

        Args:
            x: what attends to itself.
            tap: takes queries and keys.
            residual: (B, F, S, C), added in the end.
            scale: (C,), factors of what it is added to.
            norm: taken of x before.
        """
        own: Mapping[str, Any] = self._modules  # without the way through getattr
        if fused.ready(x) and idle(own["drop"]) and fused.untouched(*own.values()):
            return self._fused(x if norm is None else fused.normed(x, norm), tap, residual, scale)
        parts = lean.projections(x, norm, self.qkv, 3)
        if parts is not None:
            q, k, v = parts
            self._tell(tap, q, k)
            y = _attention(q, k, v, self.heads, self.along)
            return added(self.drop(lean.linear(y, self.proj)), residual, scale)
        qkv = lean.linear(x, self.qkv) if norm is None else lean.norm_linear(x, norm, self.qkv)
        qkv = qkv.unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(_SPLIT[self.along]).unbind(0)
        if tap is not None:
            tap.append((q.detach(), k.detach()))
        y = _scaled_dot_product(q, k, v)
        return added(
            self.drop(lean.linear(y.permute(_MERGE[self.along]).flatten(-2), self.proj)),
            residual,
            scale,
        )

    def _fused(
        self, x: Tensor, tap: Tap | None, residual: Tensor | None, scale: Tensor | None
    ) -> Tensor:
        """Queries, keys and values from a product each, so that no two share their memory.

        Of few tokens among streams they come from one, since each product costs its start.
        """
        weight, bias = fused.weights(self.qkv)
        if self.along == "spatial" and x.shape[:3].numel() <= _FEW:
            q, k, v = fused.linear(x, weight, bias).chunk(3, dim=-1)
        else:
            biases = (None,) * 3 if bias is None else bias.chunk(3)
            q, k, v = map(fused.linear, (x, x, x), weight.chunk(3), biases)
        self._tell(tap, q, k)
        # In 16 bits the weights would be rounded before their softmax.
        if isinstance(tap, Tap) and q.is_cpu and q.dtype == torch.float32:
            y, received = _weighed(q, k, v, self.heads)
            tap.received.append(received)
        else:
            y = _attention(q, k, v, self.heads, self.along)
        return fused.layer(y, self.proj, add=residual, scale=scale)

    def _tell(self, tap: Tap | None, q: Tensor, k: Tensor) -> None:
        """Queries and keys, (B, F, S, C) as projected, for whoever listens."""
        if tap is not None:
            one, other = (t.detach().unflatten(-1, (self.heads, -1)) for t in (q, k))
            tap.append((one.permute(0, 2, 3, 1, 4), other.permute(0, 2, 3, 1, 4)))


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
        if fused.ready(key) and idle(self.drop) and fused.untouched(*self._modules.values()):
            return self._fused(query, key, value)
        q = self._split(self.linear_q(query)).expand(key.shape[0], key.shape[2], -1, -1, -1)
        k, v = self._split(self.linear_k(key)), self._split(self.linear_v(value))
        y = _scaled_dot_product(q, k, v).permute(_MERGE["temporal"]).flatten(-2)
        return self.drop(self.proj(y))

    def _fused(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        layers = (self.linear_q, self.linear_k, self.linear_v)
        q, k, v = (
            fused.layer(x, layer) for x, layer in zip((query, key, value), layers, strict=True)
        )
        q = q.expand(key.shape[0], -1, key.shape[2], -1)
        y = _attention(q, k, v, self.heads, "temporal")
        return fused.layer(y, self.proj)

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

    def forward(
        self,
        x: Tensor,
        residual: Tensor | None = None,
        scale: Tensor | None = None,
        norm: nn.LayerNorm | None = None,
    ) -> Tensor:
        """(..., C) to the same; further arguments as of :class:`Attention`."""
        own: Mapping[str, Any] = self._modules  # without the way through getattr
        if fused.ready(x) and idle(own["drop"]) and fused.untouched(*own.values()):
            x = x if norm is None else fused.normed(x, norm)
            hidden = fused.layer(x, own["fc1"], act="gelu")
            return fused.layer(hidden, own["fc2"], add=residual, scale=scale)
        hidden = lean.linear(x, self.fc1) if norm is None else lean.norm_linear(x, norm, self.fc1)
        if idle(self.drop) and fused.untouched(self.drop, everywhere=False):
            y = lean.gelu_linear(hidden, self.act, self.fc2)
        else:
            y = self.drop(self.fc2(self.drop(self.act(hidden))))
        return added(y, residual, scale)


def added(y: Tensor, residual: Tensor | None, scale: Tensor | None) -> Tensor:
    """``residual + scale * y``, without what is None."""
    if scale is None:
        return y if residual is None else residual + y
    return scale * y if residual is None else torch.addcmul(residual, y, scale)


def features(x: Tensor, layers: Any) -> Tensor:
    """A linear layer and a tanh, in sequence; (..., C) to (..., C')."""
    if fused.ready(x) and fused.untouched(layers, *layers):
        return fused.layer(x, layers[0], act="tanh")
    return layers(x)


def blend(one: Tensor, other: Tensor, gate: Any) -> Tensor:
    """Average of two streams, weighed token by token.

    Args:
        one, other: (..., C).
        gate: linear layer (2 C) to 2, the logits of both weights.

    Returns:
        (..., C).
    """
    if fused.ready(one) and fused.untouched(gate):
        # A softmax of two is a sigmoid of their difference, and a weighted mean is a lerp.
        weight = (gate.weight[0] - gate.weight[1]).view(2, -1, 1)
        share = one @ weight[0] + other @ weight[1]
        if gate.bias is not None:
            share += gate.bias[0] - gate.bias[1]
        return torch.lerp(other, one, share.sigmoid_())
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

    def extra_repr(self) -> str:
        """The drop rate, for ``print(model)``."""
        return f"rate={self.rate:.3f}"


def idle(drop: nn.Dropout | DropPath) -> bool:
    """Whether a dropout or a stochastic depth passes everything on."""
    rate = drop.rate if isinstance(drop, DropPath) else drop.p
    return not (drop.training and rate)


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

    def forward(self, x: Tensor, tap: Tap | None = None) -> Tensor:
        """(B, F, S, C) to the same; queries and keys go to ``tap``."""
        own: Mapping[str, Any] = self._modules
        norm1, attn, norm2 = own["norm1"], own["attn"], own["norm2"]
        mlp, drop = own["mlp"], own["drop_path"]
        if not fused.untouched(attn, mlp, drop, everywhere=False):
            x = x + drop(attn(norm1(x), tap))
            return x + drop(mlp(norm2(x)))
        if not idle(drop):
            x = x + drop(attn(x, tap, norm=norm1))
            return x + drop(mlp(x, norm=norm2))
        x = fused.called(attn, x, tap, x, None, norm1)
        return fused.called(mlp, x, x, None, norm2)


class StreamMean(nn.Module):
    """Average over the streams of each frame (paper, Section 3.1.1)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, S, C) to (B, F, C)."""
        return x.mean(dim=2)


fused.MADE.update((Attention, Mlp, DropPath))
