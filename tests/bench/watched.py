"""What the hosts of ``spy.py`` noted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple


class Pass(NamedTuple):
    """A forward pass that was watched.

    Attributes:
        training: whether the host trained; None where its modules differ.
        gradients: whether gradients were recorded.
        process: its id.
    """

    training: bool | None
    gradients: bool
    process: int


class Spy:
    """Forward passes of every host, in this process and those it starts.

    Args:
        notes: the file that ``spy.py`` writes to.
    """

    def __init__(self, notes: Path) -> None:
        self._notes = notes

    def passes(self) -> list[Pass]:
        """The passes since this was last asked."""
        lines = self._notes.read_text().splitlines() if self._notes.is_file() else []
        self._notes.unlink(missing_ok=True)
        found = []
        for note in map(json.loads, lines):
            training = note["training"][0] if len(note["training"]) == 1 else None
            found.append(Pass(training, note["gradients"], note["process"]))
        return found

    def modes(self) -> set[tuple[bool | None, bool]]:
        """Whether hosts trained, and whether gradients were recorded, since this was asked."""
        return {(one.training, one.gradients) for one in self.passes()}
