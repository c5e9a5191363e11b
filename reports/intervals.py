"""Intervals as text."""

from __future__ import annotations

from bench.records.units import percent, rounded
from bench.timing.statistics import Estimate

UNKNOWN = "no interval"


def spread(known: Estimate) -> str:
    """Half the interval as a share: ``±2%``, or that there is no interval."""
    if known.low is None:
        return f"({UNKNOWN})"
    share = 100 * known.width
    return f"±{rounded(share, 0 if share >= 0.95 else 1)}%"


def change(known: Estimate) -> str:
    """A ratio as a change with its interval in percent: ``↑ 87.8% [82, 94]``."""
    if known.low is None or known.high is None:
        return f"{percent(known.value)}, {UNKNOWN}"
    ends = [100 * (end - 1) for end in (known.low, known.high)]
    digits = 0 if ends[1] - ends[0] >= 2 else 1
    return f"{percent(known.value)} [{', '.join(_plain(end, digits) for end in ends)}]"


def factor(known: Estimate) -> str:
    """A ratio with its interval: ``1.88 [1.82, 1.94]``."""
    if known.low is None or known.high is None:
        return f"{rounded(known.value, 2)} ({UNKNOWN})"
    return f"{rounded(known.value, 2)} [{rounded(known.low, 2)}, {rounded(known.high, 2)}]"


def from_to(known: Estimate | None) -> str:
    """A ratio with its interval where it has one: ``1.88 (1.82 to 1.94)``; empty for None."""
    if known is None:
        return ""
    text = rounded(known.value, 2)
    if known.low is not None and known.high is not None:
        text += f" ({rounded(known.low, 2)} to {rounded(known.high, 2)})"
    return text


def ends(known: Estimate | None, scale: float = 1.0, *, less: float = 0.0) -> tuple[str, str]:
    """Both ends of an interval for a CSV file, after taking ``less`` off; empty without one."""
    if known is None or known.low is None or known.high is None:
        return "", ""
    return f"{scale * (known.low - less):.6g}", f"{scale * (known.high - less):.6g}"


def _plain(value: float, digits: int) -> str:
    text = rounded(value, digits)
    return text.removeprefix("-") if float(text) == 0 else text
