"""How fast this machine could be at best, and how far from that a model is.

A forward pass takes at least as long as its arithmetic at the machine's highest rate, and as long
as moving its data at the machine's bandwidth (Williams et al., *Roofline*, CACM 2009):

    bound = max(flops_full / FLOP/s, bytes / (bytes/s))

The rates are measured: a large matrix product per dtype, and a large copy. Bytes are counted on a
model without values: every operator reads its inputs once and writes its outputs once, a linear
layer and fused attention being one operator each; views and uninitialised memory are free, what
an operator picks out of a tensor counts as much as it picks, and what is broadcast is read once.
So the bound is that of operators run one by one. A compiler that fuses them, or a cache that holds
what passes between them, can come below it where memory rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import h2ot_core
from bench.case import Case
from bench.models import kernels
from bench.visits import visit

aten = torch.ops.aten
_SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices
_COPIED = {"cpu": 2**28, "cuda": 2**30}  # bytes, far beyond any cache
_AT_LEAST_S = 1.0
_EMPTY = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided}
_PICKING = {aten.gather, aten.index, aten.index_select, aten.take_along_dim, aten.embedding}


def peak_flops(device: str, dtype: str, *, side: int | None = None) -> list[float]:
    """Rates of a large square matrix product, in FLOP/s; one per repetition, the best counts.

    Taken by PyTorch's own product and, where it is another, by that of the models' linear layers.

    Args:
        device: "cpu" or "cuda".
        dtype: such as "float32", by its name in torch. On a GPU float32 is as exact as
            ``torch.get_float32_matmul_precision()`` says.
        side: of the matrices; a size that fills the device if left out.
    """
    n = side or _SIDE[device]
    a, b, out = (torch.rand(n, n, device=device).to(getattr(torch, dtype)) for _ in range(3))
    with torch.inference_mode():
        seconds = _seconds(lambda: torch.mm(a, b, out=out), out.device)
        if out.is_cpu and kernels.fast_path_applies(a):
            seconds += _seconds(lambda: kernels.linear(a, b, None), out.device)
    return [2 * n**3 / s for s in seconds]


def bandwidth(device: str, *, size: int | None = None) -> list[float]:
    """Rates of a large copy, in bytes/s, a byte read and written counting as two.

    Args:
        device: "cpu" or "cuda".
        size: bytes to copy; far more than a cache holds if left out.
    """
    size = size or _COPIED[device]
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()
    return [moved / s for s in _seconds(lambda: target.copy_(source), source.device)]


def _seconds(work: Callable[[], object], device: torch.device) -> list[float]:
    work()
    return visit(work, device, at_least_s=_AT_LEAST_S)


@dataclass
class Traffic:
    """Bytes that one forward pass moves.

    Attributes:
        parameters: read as parameters or buffers of the model, as often as an operator reads them.
        activations: everything else that is read or written.
    """

    parameters: int = 0
    activations: int = 0

    @property
    def total(self) -> int:
        """Both."""
        return self.parameters + self.activations


def traffic(model: nn.Module, x: Tensor) -> Traffic:
    """Count the bytes of one forward pass by the convention above.

    Args:
        model: called with ``x``; best on the meta device, see ``bench.counters.blank_model``.
        x: the input; counts are for the whole batch.
    """
    own = [*model.parameters(), *model.buffers()]
    meter = _Meter({_storage(tensor) for tensor in own})
    with torch.no_grad(), _Whole(meter), _Each(meter):
        model(x)
    return meter.found


def case_traffic(case: Case) -> Traffic:
    """Count the bytes of a case's forward pass, at its batch size and dtype.

    Raises:
        h2ot_core.ConfigError: for a case that cannot be built.
    """
    dtype = getattr(torch, case.dtype)
    with torch.device("meta"):
        model = h2ot_core.build(**case.build_arguments()).eval().requires_grad_(False).to(dtype)
        host = model.host
        x = torch.empty(case.batch, host.frames, host.joints, host.channels, dtype=dtype)
    return traffic(model, x)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _size(tensor: Tensor) -> int:
    """Bytes that differ: what is broadcast is there once."""
    axes = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(n for n, step in axes if step) * tensor.element_size() if tensor.numel() else 0


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(tuple(values.values()))


class _Meter:
    def __init__(self, own: set[int]) -> None:
        self.found = Traffic()
        self._own = own
        self._paused = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def operator(self, read: Any, written: Any) -> None:
        """Count one operator."""
        if self._paused:
            return
        for tensor in _tensors(read):
            if _storage(tensor) in self._own:
                self.found.parameters += _size(tensor)
            else:
                self.found.activations += _size(tensor)
        self.found.activations += sum(_size(tensor) for tensor in _tensors(written))


class _Whole(TorchFunctionMode):
    """Sees linear layers and fused attention before they are taken apart."""

    def __init__(self, meter: _Meter) -> None:
        super().__init__()
        self.meter = meter

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        functional = nn.functional
        if func not in (functional.linear, functional.scaled_dot_product_attention):
            return func(*args, **kwargs)
        with self.meter.paused():
            out = func(*args, **kwargs)
        self.meter.operator((args, kwargs), out)
        return out


class _Each(TorchDispatchMode):
    """Sees every other operator."""

    def __init__(self, meter: _Meter) -> None:
        super().__init__()
        self.meter = meter

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        op = func.overloadpacket
        if op in _EMPTY or func.namespace == "prim":
            return out
        if op in _PICKING:
            indices = [t for t in _tensors((args[1:], kwargs)) if not t.is_floating_point()]
            self.meter.operator((out, indices), out)
            return out
        inputs = list(_tensors((args, kwargs)))
        shared = {_storage(tensor) for tensor in inputs}
        view = all(_storage(tensor) in shared for tensor in _tensors(out))
        if not (view and not func._schema.is_mutable):
            self.meter.operator(inputs, out)
        return out
