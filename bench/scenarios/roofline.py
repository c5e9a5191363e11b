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
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bench.models.build import blank_model
from bench.records import roofline_bound
from bench.records.case import Case
from bench.records.environment import environment
from bench.records.errors import UsageError
from bench.records.record import Record
from bench.records.session import opened, require_device, set_threads
from bench.records.status import excuse
from bench.records.store import read
from bench.timing.clock import trial
from h2ot_core import kernels

aten = torch.ops.aten
_SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices
_COPIED = {"cpu": 2**28, "cuda": 2**30}  # bytes, far beyond any cache
_AT_LEAST_S = 1.0
_EMPTY = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided}
_PICKING = {aten.gather, aten.index, aten.index_select, aten.take_along_dim, aten.embedding}


def peak_flops(device: str, dtype: str, *, side: int | None = None) -> list[float]:
    """Rates of a large square matrix product, in FLOP/s; one per repetition, the best counts.

    Measured with PyTorch's own product and, where it differs, that of the models' linear layers.

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
    return trial(work, device, at_least_s=_AT_LEAST_S)


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
        model: called with ``x``; best on the meta device, see ``build.blank_model``.
        x: the input; counts are for the whole batch.
    """
    own = [*model.parameters(), *model.buffers()]
    meter = _Meter({_storage(tensor) for tensor in own})
    with torch.no_grad(), _LayerMode(meter), _OperatorMode(meter):
        model(x)
    return meter.found


def case_traffic(case: Case) -> Traffic:
    """Count the bytes of a case's forward pass, at its batch size and dtype.

    Raises:
        h2ot_core.ConfigError: for a case that cannot be built.
    """
    dtype = getattr(torch, case.dtype)
    return traffic(*blank_model(case.build_arguments(), batch=case.batch, dtype=dtype))


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _size(tensor: Tensor) -> int:
    """Bytes in memory: a broadcast axis is stored once."""
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


class _LayerMode(TorchFunctionMode):
    """Counts linear layers and fused attention as one operator each."""

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


class _OperatorMode(TorchDispatchMode):
    """Counts every other operator."""

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


def run(
    path: Path, *, device: str = "cpu", dtype: str = "float32", threads: int = 0
) -> list[Record]:
    """Measure what the store at ``path`` lacks: rates of the machine, bytes of every timed case.

    Args:
        path: of the record file; the machine is measured in the settings of its timed cases.
        device, dtype, threads: to measure the machine in where nothing is timed.

    Returns:
        All records of the store.

    Raises:
        bench.records.errors.StoreError: if the store cannot be used.
        bench.records.errors.UsageError: if its records are of other code or another machine, or
            the device is not there.
    """
    known = read(path) if path.is_file() else []
    set_threads(known[-1].environment["threads"] if known else threads)
    here = environment(torch.get_num_threads())["fingerprint"]
    if any(r.environment.get("fingerprint") != here for r in known):
        raise UsageError(
            f"the records in {path} are of other code or another machine, whose limits cannot be "
            "measured here; measure again with python -m bench run, or name another --store"
        )
    timed = [r.case for r in known if r.metric == "latency_s" and r.status == "ok"]
    alone = Case(host="", frames=0, device=device, dtype=dtype, threads=threads)
    machines = dict.fromkeys(map(roofline_bound.machine_case, timed or [alone]))
    for machine in machines:
        require_device(machine.device)
    with opened(path) as (store, stamp):

        def measure(case: Case, metric: str, unit: str, read: Callable[[], dict[str, Any]]) -> None:
            """Store one metric of a case, or why there is none, unless it is there."""
            if (case, metric, "", 0) in store:
                return
            try:
                values = read()
            except Exception as error:  # such as a dtype without a product here; the others go on
                values = {"values": (), **excuse(error)}
            store.append([Record(case=case, metric=metric, unit=unit, **values, **stamp)])

        for machine in machines:
            flops, copied = partial(_flops, machine), partial(_bandwidth, machine)
            measure(machine, roofline_bound.FLOPS, "flop/s", flops)
            measure(machine, roofline_bound.BANDWIDTH, "B/s", copied)
        for case in dict.fromkeys(timed):
            measure(case, roofline_bound.MOVED, "B", partial(_bytes, case))
        return store.records


_BEST = {"best": "of all repetitions counts"}


def _flops(case: Case) -> dict[str, Any]:
    return {"values": tuple(peak_flops(case.device, case.dtype)), "protocol": _BEST}


def _bandwidth(case: Case) -> dict[str, Any]:
    return {"values": tuple(bandwidth(case.device)), "protocol": _BEST}


def _bytes(case: Case) -> dict[str, Any]:
    moved = case_traffic(case)
    return {
        "values": (moved.parameters, moved.activations),
        "labels": ("parameters", "activations"),
        "protocol": {"batch": case.batch, "counted": "inputs and outputs of every operator once"},
    }
