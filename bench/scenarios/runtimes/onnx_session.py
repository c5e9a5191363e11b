"""ONNX Runtime: the model exported once, for any batch size, and run outside PyTorch.

PyTorch's exporter cannot translate two operators of pruning, so they are translated here: a stable
sort (ONNX's TopK prefers the earlier of two equal values, so it is stable) and a search in sorted
positions (by counting, as there are few of them).
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bench.scenarios.runtimes.base import Call, Unavailable
from h2ot_core import Hourglass

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def available(device: str) -> str:
    """Needs the extra ``onnx``; its sessions run on the CPU."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            return f"the package {package!r} is not installed; pip install -e '.[onnx]'"
    return "" if device == "cpu" else "sessions are made for the CPU alone"


def prepare(model: Hourglass, example: Tensor) -> Call:
    """Export the model and open a session with as many threads as PyTorch uses.

    Raises:
        Unavailable: where an operator cannot be exported, naming it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        export(model, example), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def call(x: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: x.numpy()})[0])

    call(example)
    return call


def export(model: Hourglass, example: Tensor) -> bytes:
    """The model as an ONNX file, its batch size open.

    Args:
        model: in evaluation mode, on the CPU.
        example: (B, F, J, C_in), B at least 1.

    Raises:
        Unavailable: as :func:`prepare`.
    """
    # The exporter would make a batch of one a constant.
    example = example.expand(max(2, len(example)), *example.shape[1:]).contiguous()
    # The exporter finds its range: some kernels have a largest size, which a named Dim refuses.
    batch = torch.export.Dim.AUTO
    before = [(p, p.requires_grad) for p in model.parameters()]
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                model.requires_grad_(False), (example,), dynamo=True, verbose=False,
                dynamic_shapes=({0: batch},), custom_translation_table=_translations(),
            )  # fmt: skip
    except Exception as error:  # the exporter wraps the cause in several layers
        raise Unavailable(f"cannot be exported to ONNX: {_cause(error)}") from None
    finally:
        for parameter, value in before:
            parameter.requires_grad_(value)
    assert program is not None
    (rows, *_) = program.model.graph.inputs[0].shape
    if isinstance(rows, int):
        raise Unavailable(f"exports to ONNX for batches of {rows} alone")
    return bytes(program.model_proto.SerializeToString())


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's deprecations and progress messages."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    from onnx import TensorProto
    from onnxscript import opset18 as op

    def stable_sort(
        self: Any, stable: bool = True, dim: int = -1, descending: bool = False
    ) -> tuple[Any, Any]:
        count = op.Gather(op.Shape(self), op.Constant(value_ints=[dim]))
        values, index = op.TopK(self, count, axis=dim, largest=int(descending), sorted=1)
        return values, index

    def searchsorted(
        sorted_sequence: Any,
        self: Any,
        out_int32: bool = False,
        right: bool = False,
        side: str | None = None,
        sorter: Any = None,
    ) -> Any:
        if out_int32 or sorter is not None:
            raise NotImplementedError("searchsorted with int32 results or a sorter")
        places = op.Unsqueeze(sorted_sequence, op.Constant(value_ints=[-2]))
        values = op.Unsqueeze(self, op.Constant(value_ints=[-1]))
        upper = right or side == "right"
        before = op.LessOrEqual(places, values) if upper else op.Less(places, values)
        ones = op.Cast(before, to=TensorProto.INT64)
        return op.ReduceSum(ones, op.Constant(value_ints=[-1]), keepdims=0)

    return {
        torch.ops.aten.sort.stable: stable_sort,
        torch.ops.aten.searchsorted.Tensor: searchsorted,
    }
