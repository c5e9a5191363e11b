"""Weight files of any kind, by their name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

import h2ot_core
from bench.records.errors import UsageError
from bench.records.files import file_digest
from h2ot_core import weights


@dataclass(frozen=True)
class Weights:
    """The weight file of a model, for records.

    Attributes:
        name: of the file, without its folder.
        sha256: of the file's content, hexadecimal.
    """

    name: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Name and digest of a file.

        Raises:
            UsageError: if the file cannot be read.
        """
        try:
            return cls(path.name, file_digest(path))
        except OSError as error:
            raise UsageError(f"cannot read weights {path}: {error.strerror}") from None


def load_weights(model: h2ot_core.Hourglass, path: Path) -> h2ot_core.Hourglass:
    """Load a weight file into a model.

    Args:
        model: changed in place.
        path: a checkpoint of a published repository, or a .safetensors file of ours, with one
            model or a supernet that has the model's weights.

    Returns:
        The model.

    Raises:
        h2ot_core.CheckpointError: if the file cannot be read or does not fit.
    """
    if path.suffix != ".safetensors":
        return h2ot_core.load_published(model, path)
    arguments = model.config.arguments
    if weights.read_card(path)["kind"] == "trunk":
        supernet = weights.load_trunk(path)
        own = {"host": supernet.arguments["host"], **supernet.sizes}
        differing = [
            f"{name} {arguments[name]}, not {own[name]}"
            for name in own
            if arguments[name] != own[name]
        ]
        if differing:
            options = " ".join(f"--option {name}={size}" for name, size in supernet.sizes.items())
            raise h2ot_core.CheckpointError(
                f"{path} is a supernet of other sizes than this model ({'; '.join(differing)}); "
                f"give {options}"
            )
        source = supernet.build(
            **{name: value for name, value in arguments.items() if name not in own}
        )
    else:
        source = weights.load(path)
    try:
        model.load_state_dict(source.state_dict())
    except RuntimeError:
        raise h2ot_core.CheckpointError(
            f"{path} holds {source.extra_repr()}, which does not fit this model "
            f"({model.extra_repr()}); build the model as the file says"
        ) from None
    return model


def check_options(weights: Path | None, untrained: bool, device: str, *, without: str) -> None:
    """Refuse options that exclude each other, before anything takes time.

    Args:
        weights: a checkpoint; None needs ``untrained``.
        untrained: whether random weights are meant.
        device: "cpu" or "cuda".
        without: what a model without weights is good for, for the message.

    Raises:
        UsageError: for neither or both of weights and untrained, or a device that is not there.
    """
    if weights is None and not untrained:
        raise UsageError(
            f"no --weights: {without}; give a checkpoint of a published repository, or --untrained "
            "to try the command all the same"
        )
    if weights is not None and untrained:
        raise UsageError("--weights and --untrained exclude each other; give one")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is there; leave --device out to use the CPU")
