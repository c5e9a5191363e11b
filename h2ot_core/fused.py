"""Former name of :mod:`h2ot_core.kernels`, for inference."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from h2ot_core.kernels import private, supported_types
from h2ot_core.kernels.inference import PackedWeights as Packs
from h2ot_core.kernels.inference import fast_path_applies as ready
from h2ot_core.kernels.inference import grouped, layer, linear, normed, packing, plain

__all__ = [
    "MADE", "Packs", "called", "grouped", "layer", "linear", "normed", "packing", "plain",
    "ready", "transformed", "untouched", "weights",
]  # fmt: skip

MADE = set(private.INLINABLE)
transformed = private.is_transformed
weights = private.weights


def untouched(*modules: nn.Module | None, everywhere: bool = True) -> bool:
    """True if every module is an unmodified known type without hooks."""
    if everywhere and private.has_global_hooks():
        return False
    x = Tensor()
    return all(
        private.is_unmodified(x, (type(module),), module)
        if type(module) in private.INLINABLE
        else private.fast_path_of(module) != ""
        for module in modules
        if module is not None
    )


def called(module: nn.Module, *arguments: Any) -> Any:
    """``module(*arguments)``."""
    return module(*arguments)


def __getattr__(name: str) -> Any:
    if name == "TYPES":
        return supported_types()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
