"""Runtimes of PyTorch itself."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from bench.models.torch_private import compiler_errors
from bench.scenarios.runtimes.base import Call, Prepare, Unavailable
from h2ot_core import ConfigError, Hourglass, Packed, kernels

_WARMUP = {"cpu": 1, "cuda": 5}


def anywhere(device: str) -> str:
    """Available on every device."""
    return ""


def _warm(call: Call, example: Tensor) -> Call:
    with torch.inference_mode():
        for _ in range(_WARMUP[example.device.type]):
            call(example)
    return call


def eager(model: Hourglass, example: Tensor) -> Call:
    """The model as it is, in full float32."""
    return _warm(model, example)


def can_pack(device: str) -> str:
    """Needs oneDNN, which is for CPUs."""
    if device != "cpu":
        return "needs the CPU"
    return "" if kernels.supported_types() else "this build of PyTorch lacks oneDNN"


def packed(model: Hourglass, example: Tensor) -> Call:
    """The model with its weights packed for oneDNN once."""
    try:
        return _warm(Packed(model), example)
    except ConfigError as error:  # a type that the processor does not support
        raise Unavailable(str(error)) from None


# --- torch.compile -----------------------------------------------------------------------------


def can_compile(device: str) -> str:
    """A CPU needs a C++ compiler, a GPU Triton."""
    if device == "cuda":
        import importlib.util

        return "" if importlib.util.find_spec("triton") else "Triton is not installed"
    compilers = filter(None, (os.environ.get("CXX"), "g++", "clang++"))
    return "" if any(map(shutil.which, compilers)) else "there is no C++ compiler (g++ or clang++)"


def compiled(model: Hourglass, example: Tensor) -> Call:
    """Compile the model as one graph, for this shape alone.

    Raises:
        Unavailable: where it cannot be traced as one graph.
    """
    call: Call = torch.compile(model, fullgraph=True, dynamic=False)
    try:
        return _warm(call, example)
    except compiler_errors() as error:
        line = str(error).strip().splitlines()[0]
        raise Unavailable(f"torch.compile cannot make one graph of it: {line}") from None


# --- CUDA graphs -------------------------------------------------------------------------------


def has_cuda(device: str) -> str:
    """Needs CUDA."""
    return "" if device == "cuda" else "needs a CUDA device"


class _Recorded:
    """The kernels of one pass, and the model, which keeps alive the weights that they read."""

    def __init__(self, model: Call, example: Tensor) -> None:
        self.model = model
        self.input = example.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode(), torch.cuda.stream(stream):
            for _ in range(3):
                model(self.input)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(self.graph):
            self.result = model(self.input)

    def __call__(self, x: Tensor) -> Tensor:
        self.input.copy_(x)
        self.graph.replay()
        return self.result


def cuda_graph(model: Call, example: Tensor) -> Call:
    """Record the kernels of one pass and replay them; the input is copied to their input buffer.

    The result is overwritten by the next call.
    """
    return _warm(_Recorded(model, example), example)


def compiled_graph(model: Hourglass, example: Tensor) -> Call:
    """The kernels of torch.compile, recorded as a CUDA graph and replayed.

    Raises:
        Unavailable: as :func:`compiled`.
    """
    return cuda_graph(compiled(model, example), example)


def can_compile_graph(device: str) -> str:
    """Needs CUDA and Triton."""
    return has_cuda(device) or can_compile(device)


# --- other number formats ----------------------------------------------------------------------


def rounded(prepare: Callable[[Hourglass, Tensor], Call], dtype: torch.dtype) -> Prepare:
    """The same runtime with a copy of the model whose weights and input are rounded to a type.

    Everything is computed in that type; no autocast.
    """

    def prepared(model: Hourglass, example: Tensor) -> Call:
        call = prepare(copy.deepcopy(model).to(dtype), example.to(dtype))
        return lambda x: call(x.to(dtype)).float()

    return prepared


def has_tf32(device: str) -> str:
    """TF32 is a format of NVIDIA's tensor cores since Ampere."""
    if device != "cuda":
        return "needs a CUDA device"
    major, _ = torch.cuda.get_device_capability()
    return "" if major >= 8 else f"needs compute capability 8.0, this device has {major}"


def tf32(model: Hourglass, example: Tensor) -> Call:
    """Factors of products rounded to TF32 (10 bits of fraction), sums in float32."""

    def call(x: Tensor) -> Tensor:
        with _allowing_tf32():
            return model(x)

    return _warm(call, example)


@contextmanager
def _allowing_tf32() -> Iterator[None]:
    products = torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
