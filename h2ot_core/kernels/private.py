"""Every private or undocumented name of PyTorch that the package uses; no other file knows one.

Each is looked up with a default, so a PyTorch that lacks it can be imported all the same. What is
lacking stands in :data:`MISSING`, and :mod:`h2ot_core.kernels.detect` then keeps to plain layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

EVERYTHING, TRAINING, ONEDNN, BFLOAT16 = "everything", "training", "oneDNN", "bfloat16"

NAMES: dict[str, str] = {
    "torch.ops.mkldnn._linear_pointwise": ONEDNN,
    "torch.ops.mkldnn._reorder_linear_weight": ONEDNN,
    "torch.ops.mkldnn._convolution_pointwise": ONEDNN,
    "torch.ops.mkldnn._is_mkldnn_bf16_supported": BFLOAT16,
    "torch.native_layer_norm": TRAINING,
    "torch.ops.aten.native_layer_norm_backward": TRAINING,
    "torch.ops.aten.gelu_backward": TRAINING,
    "torch.layer_norm": EVERYTHING,
    "torch._C._len_torch_dispatch_stack": EVERYTHING,
    "torch._C._functorch.peek_interpreter_stack": EVERYTHING,
    "torch.autograd.forward_ad._current_level": EVERYTHING,
    "torch.nn.modules.module._has_any_global_hook": EVERYTHING,
}
"""Dotted name to what cannot be done without it."""

_STATE = (
    "_parameters", "_modules", "_forward_hooks", "_forward_pre_hooks", "_backward_hooks",
    "_backward_pre_hooks",
)  # fmt: skip
"""What every ``nn.Module`` keeps in its ``__dict__``."""


def _lookup(name: str) -> Any:
    """The object of a dotted name that begins with torch, or None."""
    found: Any = torch
    for part in name.split(".")[1:]:
        found = getattr(found, part, None)
    return found


_found = {name: _lookup(name) for name in NAMES}
_state = vars(nn.Module())

MISSING: dict[str, str] = {name: NAMES[name] for name, found in _found.items() if found is None}
_lacking = [name for name in _STATE if name not in _state]
MISSING.update({f"torch.nn.Module().{name}": EVERYTHING for name in _lacking})
"""Names that this PyTorch lacks, and what cannot be done without them."""

UNUSABLE = EVERYTHING in MISSING.values()
"""Whether something is missing without which nothing can be done, or known of a module."""

linear_pointwise: Any = _found["torch.ops.mkldnn._linear_pointwise"]
reorder_linear_weight: Any = _found["torch.ops.mkldnn._reorder_linear_weight"]
convolution_pointwise: Any = _found["torch.ops.mkldnn._convolution_pointwise"]
is_bfloat16_supported: Any = _found["torch.ops.mkldnn._is_mkldnn_bf16_supported"]
native_layer_norm: Any = _found["torch.native_layer_norm"]
native_layer_norm_backward: Any = _found["torch.ops.aten.native_layer_norm_backward"]
gelu_backward: Any = _found["torch.ops.aten.gelu_backward"]
layer_norm: Any = _found["torch.layer_norm"]
has_global_hooks: Callable[[], bool] = (
    _found["torch.nn.modules.module._has_any_global_hook"] or bool
)
_dispatch_modes: Callable[[], int] = _found["torch._C._len_torch_dispatch_stack"] or int
_transform: Any = _found["torch._C._functorch.peek_interpreter_stack"] or (lambda: None)
_forward_ad = torch.autograd.forward_ad
_Parameter = nn.Parameter

INLINABLE: Mapping[type[nn.Module], Any] = {
    kind: kind.forward
    for kind in (
        nn.BatchNorm1d, nn.Conv1d, nn.Dropout, nn.GELU, nn.LayerNorm, nn.Linear, nn.Sequential,
        nn.Tanh,
    )
}  # fmt: skip
"""PyTorch's layers whose work may be done without calling them, and what they do when called."""


def is_transformed() -> bool:
    """True if a compiler, a tracer or a transform of functions looks at what runs."""
    return torch.compiler.is_compiling() or _is_transformed()


def is_watched() -> bool:
    """True if something sees every operator or hears every module, other than a compiler.

    A dispatch mode (a counter, a tracer, fake tensors), a hook on all modules, tracing, or a
    transform of functions.
    """
    return bool(_dispatch_modes() or has_global_hooks() or _is_transformed())


def _is_transformed() -> bool:
    return (
        getattr(_forward_ad, "_current_level", -1) >= 0
        or _transform() is not None
        or torch.jit.is_tracing()  # type: ignore[attr-defined]
    )


def weights(module: nn.Module) -> tuple[Any, Any]:
    """Weight and bias, without the way through ``getattr`` where they are parameters."""
    own = module._parameters
    if "weight" in own and "bias" in own:
        return own["weight"], own["bias"]
    return module.weight, module.bias


def children(module: nn.Module) -> Mapping[str, Any]:
    """A module's children, without the way through ``getattr``."""
    return module._modules


def is_unmodified(x: Tensor, kinds: Sequence[type[nn.Module]], *modules: nn.Module) -> bool:
    """True if every module is an unmodified layer of the given kind without hooks.

    Then its work is known, and may be done without calling it. A module that was replaced, wrapped,
    parametrised or patched, or whose weights are of a tensor type of their own (quantised ones),
    is called.

    Args:
        x: what they are given; weights are parameters, or of its type.
        kinds: of PyTorch's layers in :data:`INLINABLE`, one for each module.
        modules: of which to tell; anything at all.
    """
    if UNUSABLE:
        return False
    tensor = type(x)
    for kind, module in zip(kinds, modules):  # noqa: B905 - asked in every pass, hence plainly
        if (
            type(module) is not kind
            or kind.forward is not INLINABLE[kind]
            or "forward" in (own := module.__dict__)
            or own["_forward_hooks"]
            or own["_forward_pre_hooks"]
            or own["_backward_hooks"]
            or own["_backward_pre_hooks"]
        ):
            return False
        for value in own["_parameters"].values():
            if type(value) is not _Parameter and type(value) is not tensor and value is not None:
                return False
    return True


def fast_path_of(module: nn.Module) -> str:
    """Name of the fast path of one of this package's layers; "" if it was modified or has none."""
    mark = getattr(type(module), "fast_path", None)
    if (
        mark is None
        or UNUSABLE
        or type(module).forward is not mark.forward
        or "forward" in (own := module.__dict__)
        or own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
    ):
        return ""
    return mark.name
