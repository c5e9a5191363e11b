"""Layers where nothing records gradients: on a CPU through oneDNN, with their activations.

PyTorch hands products in float32 to MKL, which on an AMD processor reached half the rate of oneDNN,
which PyTorch carries as well and which puts bias and GELU on a tile of the result while it is still
in the cache (docs/performance.md). The operators are those that ``torch.compile`` emits for a CPU;
weights are read as they lie, so nothing is kept that could grow stale, but within :func:`packing`.

They have no gradient and show their products to no counter, so they are used in plain inference
alone, see :func:`fast_path_applies`; everything else takes the layers' own ``forward`` to the same
result. On a GPU PyTorch's own products stay, and what is saved is copies: where nothing records
gradients, layers may lay out their tensors and work in place as on a CPU.

Layouts as in :mod:`h2ot_core.layers`: (B, F, S, C).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from h2ot_core.kernels import detect, private
from h2ot_core.kernels.private import is_unmodified

_WEIGHTS = 2**20  # attention weights held at once where they are recorded: 4 MB stay in the cache
_FEW_TOKENS = 128  # up to which queries, keys and values come from one product
_FEW_NEIGHBOURS = 8  # up to which they are looked for one after the other

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


def is_wanted() -> bool:
    """False within :func:`plain`."""
    return _wanted


def fast_path_applies(x: Tensor) -> bool:
    """True if layers may run on ``x`` through this module.

    They may without gradients and autocast, on a CPU for float32 and bfloat16 values, and with
    nothing watching single operators or all modules: no compilation, tracing, dispatch mode,
    function transform or global module hook. On a CUDA device they may also be compiled, since the
    operators there are PyTorch's own.
    """
    if not _wanted or type(x) is not Tensor or torch.is_grad_enabled():
        return False
    if torch.compiler.is_compiling():
        usable = not private.UNUSABLE and detect.requested()
        return x.is_cuda and usable and not torch.is_autocast_enabled("cuda")
    cpu = x.is_cpu
    if (
        not (torch.backends.mkldnn.enabled if cpu else x.is_cuda)
        or private.is_watched()
        or torch.is_autocast_enabled("cpu" if cpu else "cuda")
    ):
        return False
    status = detect.status()
    return x.dtype in status.types if cpu else status.inference


# --- operators -----------------------------------------------------------------------------------


class PackedWeights:
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
            packed = private.reorder_linear_weight(plain.contiguous(), rows)
            self._found[key] = (rows, packed, shift)
        made_for, packed, shift = self._found[key]
        return (packed, shift) if made_for == rows else None


_packed: ContextVar[PackedWeights | None] = ContextVar("packed", default=None)


@contextmanager
def packing(weights: PackedWeights) -> Iterator[None]:
    """Within it, layers in plain inference on a CPU take their weights from ``weights``."""
    token = _packed.set(weights)
    try:
        yield
    finally:
        _packed.reset(token)


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
        x: (..., C_in), to which :func:`fast_path_applies`.
        weight: (C_out, C_in), in the type of x.
        bias: (C_out,) or None.
        act: of the result; "gelu" is the exact one.
        add: (..., C_out), added to the result; not together with an activation.
        scale: (C_out,), factors of the result before anything is added.

    Returns:
        (..., C_out), contiguous.
    """
    packed = _packed.get() if x.is_cpu else None
    found = packed.of(x.shape[:-1].numel(), weight, bias, scale) if packed is not None else None
    weight, bias = _scaled(weight, bias, scale) if found is None else found
    if x.is_cpu:
        y = private.linear_pointwise(x, weight, bias, act, [], "none")
    else:
        y = functional.linear(x, weight, bias)
        if act != "none":
            y = functional.gelu(y) if act == "gelu" else y.tanh_()
    # Faster than the operator that adds within the kernel (docs/performance.md).
    return y if add is None else y.add_(add)


def layer(x: Tensor, module: nn.Linear, **after: Any) -> Tensor:
    """As :func:`linear`, with the weights of a module."""
    return linear(x, *private.weights(module), **after)


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
    y = private.convolution_pointwise(
        image, kernels, None, [0, 0], one, one, groups, "none", [], ""
    )
    return y.permute(0, 2, 3, 1).reshape(x.shape[0], groups, -1)


def normed(x: Tensor, norm: Any) -> Tensor:
    """A layer norm; where it is unmodified, without the way through its module."""
    if not is_unmodified(x, (nn.LayerNorm,), norm):
        return norm(x)
    return private.layer_norm(x, norm.normalized_shape, *private.weights(norm), norm.eps)


def _scaled(
    weight: Tensor, bias: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Rows times a scale each; a pass over the weights costs less than one over the tokens."""
    if scale is None:
        return weight, bias
    return weight * scale.unsqueeze(1), None if bias is None else bias * scale


# --- layers ---------------------------------------------------------------------------------------
# Each does what the forward of the same name does, or returns None: then the caller runs that.


def is_identity(drop: Any) -> bool:
    """True if an unmodified dropout or stochastic depth passes everything on."""
    own = vars(drop)
    return not (own["training"] and (own["p"] if "p" in own else own["rate"]))


def attention(
    module: Any,
    x: Tensor,
    recorder: list[tuple[Tensor, Tensor]] | None = None,
    residual: Tensor | None = None,
    scale: Tensor | None = None,
    norm: Any = None,
) -> Tensor | None:
    """``residual + scale * module(norm(x))`` of an :class:`h2ot_core.layers.Attention`.

    Queries, keys and values come from a product each, so that no two share their memory. Of few
    tokens among streams they come from one, since each product costs its start.
    """
    own = private.children(module)
    qkv, proj, drop = own["qkv"], own["proj"], own["drop"]
    known = is_unmodified(x, (nn.Linear, nn.Linear, nn.Dropout), qkv, proj, drop)
    if not (known and is_identity(drop)):
        return None
    heads, along = module.heads, module.along
    x = x if norm is None else normed(x, norm)
    weight, bias = private.weights(qkv)
    if along == "spatial" and x.shape[:3].numel() <= _FEW_TOKENS:
        q, k, v = linear(x, weight, bias).chunk(3, dim=-1)
    else:
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        q, k, v = map(linear, (x, x, x), weight.chunk(3), biases)
    record(recorder, q, k, heads)
    # In 16 bits the weights would be rounded before their softmax.
    sums: list[Tensor] | None = getattr(recorder, "received", None)
    if sums is not None and q.is_cpu and q.dtype == torch.float32:
        y, received = _recorded(q, k, v, heads)
        sums.append(received)
    else:
        y = dot_product(q, k, v, heads, along)
    return layer(y, proj, add=residual, scale=scale)


def cross_attention(module: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor | None:
    """As :class:`h2ot_core.layers.CrossAttention`."""
    own = private.children(module)
    layers = (own["linear_q"], own["linear_k"], own["linear_v"])
    proj, drop = own["proj"], own["drop"]
    if not (
        is_unmodified(key, (*(nn.Linear,) * 4, nn.Dropout), *layers, proj, drop)
        and is_identity(drop)
    ):
        return None
    q, k, v = (layer(x, one) for x, one in zip((query, key, value), layers, strict=True))
    q = q.expand(key.shape[0], -1, key.shape[2], -1)
    return layer(dot_product(q, k, v, module.heads, "temporal"), proj)


def mlp(
    module: Any,
    x: Tensor,
    recorder: object = None,
    residual: Tensor | None = None,
    scale: Tensor | None = None,
    norm: Any = None,
) -> Tensor | None:
    """``residual + scale * module(norm(x))`` of an :class:`h2ot_core.layers.Mlp`."""
    own = private.children(module)
    fc1, act, fc2, drop = own["fc1"], own["act"], own["fc2"], own["drop"]
    known = is_unmodified(x, (nn.Linear, nn.GELU, nn.Linear, nn.Dropout), fc1, act, fc2, drop)
    if not (known and act.approximate == "none" and is_identity(drop)):
        return None
    hidden = layer(x if norm is None else normed(x, norm), fc1, act="gelu")
    return layer(hidden, fc2, add=residual, scale=scale)


def linear_tanh(x: Tensor, layers: Any) -> Tensor | None:
    """``layers(x)`` of a linear layer and a tanh in sequence; (..., C) to (..., C')."""
    if not is_unmodified(x, (nn.Sequential,), layers) or len(layers) != 2:
        return None
    first, act = layers
    if not is_unmodified(x, (nn.Linear, nn.Tanh), first, act):
        return None
    return layer(x, first, act="tanh")


def blend(one: Tensor, other: Tensor, gate: Any) -> Tensor | None:
    """As :func:`h2ot_core.layers.blend`.

    A softmax of two is a sigmoid of their difference, and a weighted mean is a lerp.
    """
    if not is_unmodified(one, (nn.Linear,), gate):
        return None
    weight = (gate.weight[0] - gate.weight[1]).view(2, -1, 1)
    share = one @ weight[0] + other @ weight[1]
    if gate.bias is not None:
        share += gate.bias[0] - gate.bias[1]
    return torch.lerp(other, one, share.sigmoid_())


def spatial_graph(
    module: Any,
    x: Tensor,
    recorder: object = None,
    residual: Tensor | None = None,
    scale: Tensor | None = None,
    norm: Any = None,
) -> Tensor | None:
    """``residual + scale * module(norm(x))`` of MotionAGFormer's ``SpatialGraph``."""
    own = private.children(module)
    u, v, batch_norm = own["U"], own["V"], own["batch_norm"]
    if not is_unmodified(x, (nn.Linear, nn.Linear, nn.BatchNorm1d), u, v, batch_norm):
        return None
    x = x if norm is None else norm(x)
    update = layer(x, u, add=module.normalised() @ layer(x, v))
    return added(_rectified(x, batch_norm(update.flatten(0, 1))), residual, scale)


def temporal_graph(
    module: Any,
    x: Tensor,
    recorder: object = None,
    residual: Tensor | None = None,
    scale: Tensor | None = None,
    norm: Any = None,
) -> Tensor | None:
    """``residual + scale * module(norm(x))`` of MotionAGFormer's ``TemporalGraph``."""
    own = private.children(module)
    u, v, batch_norm = own["U"], own["V"], own["batch_norm"]
    if not is_unmodified(x, (nn.Linear, nn.Linear, nn.BatchNorm1d), u, v, batch_norm):
        return None
    x = x if norm is None else norm(x)
    y = x.transpose(1, 2)  # (B, J, N, C)
    similarity = y @ y.transpose(-2, -1)
    near = similarity.ge_(nth_largest(similarity, module.neighbours))
    root = near.sum(dim=-1, keepdim=True).rsqrt()
    aggregate = (near @ (root * layer(x, v).transpose(1, 2))).mul_(root)
    update = layer(x, u, add=aggregate.transpose(1, 2))
    return added(_rectified(x, batch_norm(update.flatten(2))), residual, scale)


def nth_largest(x: Tensor, n: int) -> Tensor:
    """The n-th largest value along the last axis, which is kept with length 1; ties all count.

    Some passes that find a maximum take a fraction of a partial sort on a CPU. What was found is
    put out of the way, and back in the end.
    """
    if n > _FEW_NEIGHBOURS or not x.is_cpu:
        return x.topk(n, dim=-1).values[..., -1:]
    found = []
    for _ in range(n - 1):
        value, place = x.max(dim=-1, keepdim=True)
        x.scatter_(-1, place, -torch.inf)
        found.append((value, place))
    least = x.amax(dim=-1, keepdim=True)
    for value, place in found:
        x.scatter_(-1, place, value)
    return least


def _rectified(x: Tensor, y: Tensor) -> Tensor:
    """ReLU of ``x + y``, in place of y, of any shape with as many elements in the order of x."""
    return y.view_as(x).add_(x).relu_()


def convolution(x: Tensor, module: Any) -> Tensor | None:
    """A convolution over single frames as a linear layer; (B, C, F) to (B, F, C')."""
    if not _is_pointwise(x, module):
        return None
    return linear(x.transpose(1, 2), module.weight.squeeze(-1), module.bias)


def norm_convolution(x: Tensor, layers: Any) -> Tensor | None:
    """A batch norm of known moments and the linear layer it goes into; (B, N, C) to (B, N, C')."""
    if not is_unmodified(x, (nn.Sequential,), layers) or len(layers) != 2:
        return None
    norm, last = layers
    if not (
        is_unmodified(x, (nn.BatchNorm1d,), norm) and not norm.training and _is_pointwise(x, last)
    ):
        return None
    parts = (norm.weight, norm.bias, norm.running_mean, norm.running_var, last.bias)
    if any(part is None for part in parts):
        return None
    weight = last.weight.squeeze(-1)
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = last.bias + weight @ (norm.bias - norm.running_mean * scale)
    return linear(x, weight * scale, bias)


def _is_pointwise(x: Tensor, module: Any) -> bool:
    """Whether a layer is a convolution over single frames, which is a linear layer."""
    return (
        is_unmodified(x, (nn.Conv1d,), module)
        and not module.training
        and (module.kernel_size, module.stride, module.groups) == ((1,), (1,), 1)
        and module.padding in ((0,), 0)
    )


# --- attention ------------------------------------------------------------------------------------


def dot_product(q: Tensor, k: Tensor, v: Tensor, heads: int, along: str) -> Tensor:
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


def _recorded(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Temporal attention on a CPU that also tells what each frame receives.

    Args:
        q, k, v: (B, N, S, C) as projected.
        heads: H.

    Returns:
        (B, N, S, C), and (B, N) float32: sums of weights over the queries, averaged over S and H.
    """
    batch, frames, streams, width = q.shape
    d, groups = width // heads, streams * heads
    y = torch.empty_like(q).unflatten(-1, (heads, d)).flatten(2, 3)
    received = q.new_zeros((batch, frames), dtype=torch.float32)
    q, k, v = (t.unflatten(-1, (heads, d)).flatten(2, 3) for t in (q, k, v))
    some = max(1, _WEIGHTS // frames**2)
    for row in range(batch):
        for i in range(0, groups, some):
            one = slice(i, min(i + some, groups))
            keys = (k[row, :, one] * d**-0.5).transpose(0, 1)  # (G, N, d)
            weights = grouped(q[row, :, one], keys)
            weights = torch.softmax(weights, dim=-1, out=weights)
            received[row] += weights.sum(dim=0, dtype=torch.float32).sum(dim=0)
            y[row, :, one] = grouped(weights, v[row, :, one].permute(1, 2, 0))
    return y.view(batch, frames, streams, width), received / groups


def record(recorder: list[tuple[Tensor, Tensor]] | None, q: Tensor, k: Tensor, heads: int) -> None:
    """Queries and keys, (B, F, S, C) as projected, for whoever records them."""
    if recorder is not None:
        one, other = (t.detach().unflatten(-1, (heads, -1)) for t in (q, k))
        recorder.append((one.permute(0, 2, 3, 1, 4), other.permute(0, 2, 3, 1, 4)))


def added(y: Tensor, residual: Tensor | None, scale: Tensor | None) -> Tensor:
    """``residual + scale * y``, without what is None."""
    if scale is None:
        return y if residual is None else residual + y
    return scale * y if residual is None else torch.addcmul(residual, y, scale)
