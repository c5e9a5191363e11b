"""Weights under the key names of the published repositories, read safely and loaded strictly."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from h2ot_core.errors import CheckpointError
from h2ot_core.hourglass import Hourglass

# Where the published repositories put the weights within a checkpoint.
_WRAPPERS = ("model_pos", "model", "state_dict", "model_state_dict")
_LISTED = 8  # keys named in an error before the rest is counted


def load_published(
    model: Hourglass, source: str | os.PathLike[str] | Mapping[str, Any]
) -> Hourglass:
    """Load weights saved by a published repository (HoT, MixSTE, ...) into a model.

    Every key must fit: nothing is skipped. A baseline checkpoint fits a TPS + TRI model, which
    has no weights of its own.

    Args:
        model: built by :func:`h2ot_core.build`; changed in place.
        source: a file, or a state dict. Both may be wrapped as the repositories do
            ("model_pos", "model", "state_dict", first element of a list) and may carry the
            "module." prefix of data-parallel training.

    Returns:
        The model.

    Raises:
        CheckpointError: if the file is missing, is no checkpoint or holds anything but tensors,
            plain containers, numpy scalars, arrays and generator states; or if keys are missing,
            surplus or of another shape, which are named.
    """
    where = "the state dict" if isinstance(source, Mapping) else str(source)
    content = source if isinstance(source, Mapping) else read_weights(source)
    weights = _unwrap(content, where)
    names = published_names(model)
    own = model.state_dict()
    missing = [theirs for theirs in names if theirs not in weights]
    surplus = [theirs for theirs in weights if theirs not in names]
    misshapen = [
        f"{theirs} (file {tuple(weights[theirs].shape)}, model {tuple(own[ours].shape)})"
        for theirs, ours in names.items()
        if theirs in weights and weights[theirs].shape != own[ours].shape
    ]
    faults = [
        f"{count} {what}: {_some(keys)}"
        for what, keys in (("missing", missing), ("surplus", surplus), ("misshapen", misshapen))
        if (count := len(keys))
    ]
    if faults:
        raise CheckpointError(
            f"{where} does not fit this model ({model.extra_repr()}): {'; '.join(faults)}. "
            f"Build the model with the sizes, scheme and r that the weights were trained with."
        )
    model.load_state_dict({ours: weights[theirs] for theirs, ours in names.items()})
    return model


def published_names(model: Hourglass) -> dict[str, str]:
    """Published key to this model's own, for every weight and buffer it has."""
    renames = model.host.published_names
    names = {}
    for ours in model.state_dict():
        part, _, rest = ours.partition(".")
        if part == "host":
            head, dot, tail = rest.partition(".")
            rest = renames.get(head, head) + dot + tail
        names[rest] = ours
    return names


def read_weights(path: str | os.PathLike[str]) -> Any:
    """Read a checkpoint without running anything that it contains.

    Admits what ``weights_only`` does, and numpy scalars, arrays and generator states, which
    published checkpoints carry beside the weights.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no weight file at {path}.")
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|global:?|function|class) `?([\w.]+)`?", str(error))
        what = f"it refers to {named.group(1)}" if named else str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} was not loaded: {what}. Only tensors, plain containers, numpy scalars, "
            f"arrays and generator states are admitted; save the bare state dict instead."
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is not a complete PyTorch checkpoint: {first}") from None


def _numpy_globals() -> list[Any]:
    try:
        import numpy as np
        from numpy.random import _pickle as pickles
    except ImportError:  # without numpy such files cannot be read, and are refused by name
        return []
    core = getattr(np, "_core", None) or np.core
    admitted: list[Any] = [np.ndarray, np.dtype, np.random.RandomState, np.random.Generator]
    admitted += {type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdSU"}
    admitted += [np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM]
    admitted += [np.random.Philox, np.random.SFC64, np.random.SeedSequence]
    functions = {
        "multiarray": (core.multiarray._reconstruct, core.multiarray.scalar),
        "numeric": (core.numeric._frombuffer,),
    }
    for module, members in functions.items():
        for member in members:
            # Files written under numpy 1 and 2 name the same function differently.
            admitted += [
                (member, f"{root}.{module}.{member.__name__}")
                for root in ("numpy.core", "numpy._core")
            ]
    for name in ("__randomstate_ctor", "__generator_ctor", "__bit_generator_ctor"):
        admitted.append((getattr(pickles, name), f"numpy.random._pickle.{name}"))
    return admitted


def _unwrap(content: Any, where: str) -> dict[str, Tensor]:
    """The weights themselves, without wrapper and data-parallel prefix."""
    if isinstance(content, (list, tuple)) and content:
        content = content[0]
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if isinstance(content, Mapping):
        for key in _WRAPPERS:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(v, Tensor) for v in content.values())
    ):
        found = (
            _some(str(k) for k in content)
            if isinstance(content, Mapping)
            else type(content).__name__
        )
        raise CheckpointError(
            f"{where} holds no state dict: found {found}; expected tensors by name, bare or under "
            f"{', '.join(_WRAPPERS)}."
        )
    weights = {str(k): v for k, v in content.items()}
    if all(key.startswith("module.") for key in weights):
        weights = {key.removeprefix("module."): value for key, value in weights.items()}
    return weights


def _some(keys: Iterable[str]) -> str:
    keys = list(keys)
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return ", ".join(keys[:_LISTED]) + more
