"""The errors raised on bad input: each says what was given, what was expected, how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A model cannot be built from the arguments given."""


class InputError(ValueError):
    """A tensor handed to a model has the wrong shape, type or content."""


class CheckpointError(ValueError):
    """A weight file cannot be read safely or does not fit the model."""


def unknown(kind: str, given: object, known: Iterable[str]) -> ConfigError:
    """Build the error for a name that is in no registry, with the nearest known name."""
    names = list(known)
    near = difflib.get_close_matches(str(given).lower(), names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return ConfigError(f"unknown {kind} {given!r}{hint} Known: {', '.join(names)}.")
