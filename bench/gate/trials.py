"""The result of a calibration of the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.gate.verdicts import Rules


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One suite that the gate judged.

    Attributes:
        kind: "all cases" or "one case" slowed down in a simulation, or "real".
        spread: between processes, as simulated; None for a real run.
        slowdown: injected, as a share.
        status: exit status.
        half_width: of the widest interval, as a share of its ratio.
    """

    kind: str
    spread: float | None
    slowdown: float
    status: int
    half_width: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """All trials of a plan, the rules they were judged by, and the machine of the real ones."""

    simulated: Sequence[Trial]
    real: Sequence[Trial]
    rules: Rules
    environment: dict[str, Any]
