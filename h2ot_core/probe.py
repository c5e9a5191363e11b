"""A seam through which a caller learns what the forward pass is doing; it holds no clock itself."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Probe(Protocol):
    """What a caller hands to ``model.run(..., probe=...)``.

    ``section(name)`` is entered around each piece of work that pruning and recovering add, with
    name "prune" (scores, selection and gathering of one stage) or "recover" (token embedding,
    attention or interpolation back to F frames). Sections do not nest.
    """

    def section(self, name: str) -> AbstractContextManager[object]:
        """A context manager that spans the named piece of work."""
        ...


class NullProbe:
    """The probe of a call without one: every section is the same inert context manager."""

    _inert: AbstractContextManager[None] = nullcontext()

    def section(self, name: str) -> AbstractContextManager[None]:
        """An inert context manager, shared by all sections."""
        return self._inert


NULL_PROBE = NullProbe()
