"""The trained supernet that accuracy is measured with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h2ot_core
from bench.records.case import Case
from bench.records.files import file_digest
from h2ot_core import weights
from h2ot_core.elastic import Elastic

SHIPPED = Path(h2ot_core.__file__).with_name("trunks") / "mixste.safetensors"


@dataclass(frozen=True, eq=False)
class Supernet:
    """A trained supernet and the contents of its file.

    Attributes:
        model: has the weights of any configuration.
        digest: first 12 hex digits of the file's sha256.
        card: how it was trained.
    """

    model: Elastic
    digest: str
    card: Mapping[str, Any]

    @property
    def options(self) -> tuple[tuple[str, Any], ...]:
        """The sizes of its host, as options of a case."""
        sizes = {name: size for name, size in self.model.sizes.items() if name != "joints"}
        return tuple(sorted(sizes.items()))

    def build(self, case: Case) -> h2ot_core.Hourglass:
        """The case's model, with the supernet's weights.

        Raises:
            ConfigError: for a case of another host or other sizes than the supernet's.
        """
        arguments = case.build_arguments()
        own = {"host": self.model.arguments["host"], **dict(self.options)}
        of_case = {name: arguments.pop(name) for name in own if name in arguments}
        if of_case != own:
            raise h2ot_core.ConfigError(f"the supernet is {own}, the case is {of_case}.")
        return self.model.build(**arguments)

    def header(self) -> dict[str, Any]:
        """The file's card, with the digest and the number of parameters."""
        count = sum(p.numel() for p in self.model.parameters())
        return {**self.card, "digest": self.digest, "parameters": count}

    def describe(self) -> dict[str, Any]:
        """The weights, for the protocol of a record."""
        before = self.card.get("before", {})
        return {
            "weights": self.digest,
            "steps": self.card.get("step", 0) + before.get("step", 0),
            "seed": self.card.get("recipe", {}).get("seed"),
            "learned_from": self.card.get("feed", {}).get("data"),
        }


def open_supernet(path: Path | None = None) -> Supernet:
    """Read a supernet; the shipped one by default.

    Raises:
        CheckpointError: if the file is missing, damaged or no supernet.
    """
    path = path or SHIPPED
    model = weights.load_trunk(path)
    return Supernet(model, file_digest(path)[:12], weights.read_card(path))
