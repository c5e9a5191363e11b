"""Numbers to text: the only place that rounds. Standard library only."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal


def rounded(value: float, digits: int) -> str:
    """Round half up to a fixed number of digits."""
    return str(Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def millions(count: float) -> str:
    """Parameters in millions, two digits, as the paper prints them."""
    return rounded(count / 1e6, 2)


def giga(flops: float, digits: int = 2) -> str:
    """FLOPs in billions, two digits, as the paper prints them."""
    return rounded(flops / 1e9, digits)


def percent(ratio: float) -> str:
    """A change against the baseline as the paper prints it: ``↓ 57.4%`` for 0.426."""
    change = 100 * (ratio - 1)
    return f"{'↑' if change >= 0 else '↓'} {rounded(abs(change), 1)}%"
