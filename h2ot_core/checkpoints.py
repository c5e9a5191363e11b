"""Weights under the key names of the published repositories, read safely and loaded strictly."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from h2ot_core.errors import CheckpointError
from h2ot_core.files import replacing
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
        hint = f" {model.host.misfit}" if misshapen and model.host.misfit else ""
        raise CheckpointError(
            f"{where} does not fit this model ({model.extra_repr()}): {'; '.join(faults)}. "
            f"Build the model with the sizes, scheme and r that the weights were trained with."
            f"{hint}"
        )
    model.load_state_dict({ours: weights[theirs] for theirs, ours in names.items()})
    return model


def save_published(model: Hourglass, path: str | os.PathLike[str]) -> None:
    """Write the weights as the published repositories do: a bare state dict under their names.

    The file appears whole or not at all. HoT, MixSTE and MHFormer read it as it is; others expect
    it under a key of its own, which :func:`load_published` does not need.

    Args:
        model: built by :func:`h2ot_core.build`.
        path: where to write; an existing file is replaced.
    """
    path = Path(path)
    own = model.state_dict()
    content = {theirs: own[ours].detach().cpu() for theirs, ours in published_names(model).items()}
    with replacing(path) as temporary:
        torch.save(content, temporary)


def published_names(model: Hourglass) -> dict[str, str]:
    """Published key to this model's own, for every weight and buffer it has."""
    names = {}
    for ours in model.state_dict():
        part, _, rest = ours.partition(".")
        names[model.host.published_name(rest) if part == "host" else rest] = ours
    return names


def read_weights(path: str | os.PathLike[str]) -> Any:
    """Read a checkpoint without running anything that it contains.

    Admits what ``weights_only`` does, and numpy scalars, arrays and generator states, which
    published checkpoints carry beside the weights. Those come back as inert placeholders.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no weight file at {path}.")
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in _NUMPY]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make the reader raise nearly anything
        # torch surrounds the cause with advice on how to read the file unsafely.
        refused = re.search(r"GLOBAL ([\w.]+)|<class '([\w.]+)'>", str(error))
        if refused and isinstance(error, pickle.UnpicklingError):
            raise CheckpointError(
                f"{path} was not loaded: it refers to {refused[1] or refused[2]}. Only tensors, "
                f"plain containers, numpy scalars, arrays and generator states are admitted; "
                f"save the bare state dict instead."
            ) from None
        lines = str(error).rpartition("WeightsUnpickler error:")[2].strip().splitlines()
        cause = ": ".join([type(error).__name__, *lines[:1]])
        raise CheckpointError(f"{path} is not a complete PyTorch checkpoint ({cause}).") from None


class _Inert:
    """Stands in for everything of numpy in a checkpoint: takes whatever it is given, does nothing.

    No weight is a numpy object, and numpy's own constructors are not safe to call from a file:
    ``ndarray`` makes Python objects out of any bytes.
    """

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# The functions and classes by which numpy 1 and 2 pickle scalars, arrays and generators.
_NUMPY = (
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.core.numeric._frombuffer",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.numeric._frombuffer",
    "numpy.random.__RandomState_ctor",
    "numpy.random._pickle.__randomstate_ctor",
    "numpy.random._pickle.__generator_ctor",
    "numpy.random._pickle.__bit_generator_ctor",
    "numpy.random._mt19937.MT19937",
    "numpy.random._pcg64.PCG64",
    "numpy.random._pcg64.PCG64DXSM",
    "numpy.random._philox.Philox",
    "numpy.random._sfc64.SFC64",
    "numpy.random.bit_generator.SeedSequence",
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
)


def _unwrap(content: Any, where: str) -> dict[str, Tensor]:
    """The weights themselves, without wrapper and data-parallel prefix."""
    if isinstance(content, (list, tuple)) and content:
        content = content[0]
    if isinstance(content, Mapping):
        wrapped = (content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping))
        content = next(wrapped, content)
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        mapping = isinstance(content, Mapping)
        found = _some(map(str, content)) or "nothing" if mapping else type(content).__name__
        raise CheckpointError(
            f"{where} holds no state dict: found {found}; expected tensors by name, bare or under "
            f"{', '.join(_WRAPPERS)}."
        )
    weights = {str(key): value for key, value in content.items()}
    if all(key.startswith("module.") for key in weights):
        weights = {key.removeprefix("module."): value for key, value in weights.items()}
    return weights


def _some(keys: Iterable[str]) -> str:
    keys = list(keys)
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return ", ".join(keys[:_LISTED]) + more
