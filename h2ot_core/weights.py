"""Our own weight files: safetensors, with the configuration in the header."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from h2ot_core.elastic import Elastic
from h2ot_core.errors import CheckpointError, ConfigError
from h2ot_core.factory import build
from h2ot_core.files import replacing
from h2ot_core.hourglass import Hourglass

FORMAT = "h2ot-1"
"""Name and version of the header: ``kind`` ("model" or "trunk"), ``arguments``, ``card``."""


def save(
    model: nn.Module, path: str | os.PathLike[str], card: Mapping[str, Any] | None = None
) -> None:
    """Write the weights of a model or trunk; the file appears whole or not at all.

    Args:
        model: an :class:`Hourglass` or an :class:`Elastic`.
        path: where to write, by custom ending in ``.safetensors``; an existing file is replaced.
        card: how the weights came about, as plain JSON values; kept in the header.
    """
    path = Path(path)
    if isinstance(model, Elastic):
        kind, arguments = "trunk", {**model.sizes, "host": model.arguments["host"]}
        arguments["frames"] = model.frames
    elif isinstance(model, Hourglass):
        kind, arguments = "model", model.config.arguments
    else:
        raise TypeError(f"expected a model of h2ot_core.build or an Elastic, got {type(model)}")
    header = {
        "format": FORMAT,
        "kind": kind,
        "arguments": json.dumps(arguments),
        "card": json.dumps(dict(card or {})),
    }
    tensors = {
        name: value.detach().to("cpu").contiguous().clone()
        for name, value in model.state_dict().items()
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, header)


def load(path: str | os.PathLike[str]) -> Hourglass:
    """Build the model of a file and give it its weights, in evaluation mode.

    Raises:
        CheckpointError: if the file is missing, damaged, of another format, or holds a trunk.
    """
    kind, arguments, tensors, _ = _read(path)
    if kind != "model":
        raise CheckpointError(f"{path} holds a trunk, from which models are drawn; use load_trunk.")
    model: Hourglass = _filled(build, arguments, tensors, path)
    return model


def load_trunk(path: str | os.PathLike[str]) -> Elastic:
    """Read a trunk, in evaluation mode.

    Raises:
        CheckpointError: if the file is missing, damaged, of another format, or holds a model.
    """
    kind, arguments, tensors, _ = _read(path)
    if kind != "trunk":
        raise CheckpointError(f"{path} holds one model, not a trunk; use load.")
    trunk: Elastic = _filled(Elastic, arguments, tensors, path)
    return trunk


def read_card(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What the file says of itself: its kind, arguments and card.

    Raises:
        CheckpointError: if the file is missing, damaged, or of another format.
    """
    kind, arguments, _, card = _read(path)
    return {"kind": kind, "arguments": arguments, **card}


def _filled(make: Any, arguments: dict[str, Any], tensors: dict[str, Any], path: Any) -> Any:
    try:
        model = make(**arguments)
        model.load_state_dict(tensors)
    except (ConfigError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()
        raise CheckpointError(
            f"{path} does not fit the model that its header describes ({' '.join(reason)}); it was "
            f"changed or damaged after it was written."
        ) from None
    return model.eval()


def _read(path: Any) -> tuple[str, dict[str, Any], dict[str, torch.Tensor], dict[str, Any]]:
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no weight file at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a complete safetensors file ({error}).") from None
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is a safetensors file of format {header.get('format', 'none')!r}, expected "
            f"{FORMAT!r} as written by h2ot_core.weights.save."
        )
    try:
        arguments, card = json.loads(header["arguments"]), json.loads(header["card"])
        return header["kind"], dict(arguments), tensors, dict(card)
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"the header of {path} is damaged ({error}).") from None
