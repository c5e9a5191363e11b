"""Simulated suites: records with a known spread, drift and slowdown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.gate.verdicts import SAMPLED
from bench.records.case import Case
from bench.records.record import Record

CASES, PAIRS, TURNS = 4, 10, 8
"""What ``bench.gate.sampled`` measures within two and a half minutes."""


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """The distribution of a suite.

    Attributes:
        spread: standard deviation between processes of one program, as a share; drawn anew for
            every process and case.
        slowdown: of head against base, as a share.
        slowed: how many of the cases are slowed down; all of them as by an injection into every
            forward pass, one as by a change to a single strategy.
        cases, pairs, turns: how much is measured.
        noise: standard deviation between turns of one process.
        correlation: of that noise from one turn to the next.
        bursts, burst: how often a turn is disturbed, and by how much at most.
        drift: by how much the machine slows down over the run, for both sides.
    """

    spread: float
    slowdown: float = 0.0
    slowed: int = CASES
    cases: int = CASES
    pairs: int = PAIRS
    turns: int = TURNS
    noise: float = 0.02
    correlation: float = 0.3
    bursts: float = 0.03
    burst: float = 0.5
    drift: float = 0.1


def draw(plan: Simulated, seed: int) -> tuple[list[Record], list[Record]]:
    """Records of base and head, as the sampled part of the gate writes them."""
    rng = np.random.default_rng([seed, *(int(1e6 * v) for v in (plan.spread, plan.slowdown))])
    logs = plan.spread * rng.standard_normal((2, plan.cases, plan.pairs, 1))
    logs = logs + plan.noise * _correlated(plan, rng)
    logs[1, : plan.slowed] += np.log1p(plan.slowdown)
    burst = rng.random(logs.shape) < plan.bursts
    values = np.exp(logs) * (1 + burst * plan.burst * rng.random(logs.shape)) * _drift(plan)
    return _records(values[0], "base"), _records(values[1], "head")


def _correlated(plan: Simulated, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Noise of unit variance, correlated along the last axis."""
    noise = rng.standard_normal((2, plan.cases, plan.pairs, plan.turns))
    for i in range(1, plan.turns):
        fresh = (1 - plan.correlation**2) ** 0.5 * noise[..., i]
        noise[..., i] = plan.correlation * noise[..., i - 1] + fresh
    return noise


def _drift(plan: Simulated) -> npt.NDArray[np.float64]:
    """How slow the machine is at each measurement; (2, 1, pairs, turns)."""
    steps = np.arange(2 * plan.pairs * plan.turns).reshape(plan.pairs, plan.turns, 2)
    first = np.arange(plan.pairs)[:, None] + np.arange(plan.turns)
    # Base goes first in every other turn, and head in those between.
    swapped = (first % 2)[..., None]
    order = np.where(swapped, steps[..., ::-1], steps)
    slow: npt.NDArray[np.float64] = 1 + plan.drift * order / steps.max()
    return np.moveaxis(slow, -1, 0)[:, None]


def _records(values: npt.NDArray[np.float64], side: str) -> list[Record]:
    """One record per case and process; values are (cases, pairs, turns)."""
    return [
        Record(
            case=Case(host="simulated", frames=number + 1),
            metric=SAMPLED,
            unit="s",
            values=tuple(series.tolist()),
            group="gate",
            part=pair,
            session=f"{side}-{pair}",
            protocol={"side": side, "pair": pair, "run": "simulated", "per_turn": 1},
        )
        for number, processes in enumerate(values)
        for pair, series in enumerate(processes)
    ]
