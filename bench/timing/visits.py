"""One visit to a piece of work: as many samples as make it worth the while."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.timing import clock


def visit(
    work: Callable[[], object], device: torch.device, *, at_least_s: float = 0.2, at_most: int = 20
) -> list[float]:
    """Time a call one or several times.

    Args:
        work: warmed up by the caller.
        device: waited for before and after each call.
        at_least_s: samples are taken until they add up to this, in seconds ...
        at_most: ... or there are as many as this.

    Returns:
        Seconds of each call, at least one.
    """
    samples = clock.repeat(
        lambda: clock.Sample(clock.time_call(work, device), 0.0, 0.0),
        at_least_s=at_least_s,
        at_most=at_most,
    )
    return [sample.total_s for sample in samples]
