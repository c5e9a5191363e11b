"""Weight files of any kind, by their name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import h2ot_core
from bench.errors import UsageError


@dataclass(frozen=True)
class Weights:
    """What a record says of the weights of a model.

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
            with path.open("rb") as file:
                return cls(path.name, hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise UsageError(f"cannot read weights {path}: {error.strerror}") from None


def load_weights(model: h2ot_core.Hourglass, path: Path) -> h2ot_core.Hourglass:
    """Load a checkpoint of a published repository into a model.

    Args:
        model: changed in place.
        path: the file.

    Returns:
        The model.

    Raises:
        UsageError: for a .safetensors file, which is not read yet.
        h2ot_core.CheckpointError: if the file cannot be read or does not fit.
    """
    if path.suffix == ".safetensors":
        raise UsageError(
            f"{path} is a safetensors file, which this version cannot read; give a checkpoint of a "
            f"published repository (.pth, .bin, .tr)"
        )
    return h2ot_core.load_published(model, path)
