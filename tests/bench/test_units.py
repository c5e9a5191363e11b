"""Rounding, against what the paper prints and against what people do by hand."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.paper import rows
from bench.records.units import giga, millions, percent, rounded


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (2.675, 2, "2.68"),  # below the half in binary, at it in digits
        (1.005, 2, "1.01"),
        (0.125, 2, "0.13"),
        (0.5, 0, "1"),
        (1.5, 0, "2"),
        (2.5, 0, "3"),
        (153.885, 2, "153.89"),
        (153.884999, 2, "153.88"),
        (9.995, 2, "10.00"),
        (0.0049, 2, "0.00"),
        (-2.675, 2, "-2.68"),
        (3, 2, "3.00"),
        (1e-9, 3, "0.000"),
        (1234567.5, 0, "1234568"),
    ],
)
def test_halves_go_up(value: float, digits: int, text: str) -> None:
    assert rounded(value, digits) == text


@given(st.integers(0, 10**12), st.integers(0, 4))
def test_within_half_a_digit_of_the_value(count: int, digits: int) -> None:
    value = count / 1e6
    text = rounded(value, digits)
    exact, unit = Fraction(repr(value)), Fraction(1, 10**digits)
    assert -unit / 2 < Fraction(text) - exact <= unit / 2 or Fraction(text) - exact == unit / 2
    assert len(text.partition(".")[2]) == digits


@pytest.mark.parametrize(
    ("count", "text"), [(33_783_811, "33.78"), (35_000_323, "35.00"), (33_705_000, "33.71")]
)
def test_millions(count: int, text: str) -> None:
    assert millions(count) == text


@pytest.mark.parametrize(
    ("flops", "digits", "text"),
    [(277_247_868_000, 2, "277.25"), (95_405_000_000, 2, "95.41"), (294_845_000_000, 3, "294.845")],
)
def test_giga(flops: int, digits: int, text: str) -> None:
    assert giga(flops, digits) == text


@pytest.mark.parametrize(
    ("value", "baseline", "text"),
    [
        (118.23, 277.25, "↓ 57.4%"),
        (167.52, 277.25, "↓ 39.6%"),
        (95.41, 277.25, "↓ 65.6%"),
        (184.55, 277.25, "↓ 33.4%"),
        (82, 41, "↑ 100.0%"),
        (56, 41, "↑ 36.6%"),
        (84, 41, "↑ 104.9%"),
        (18745, 9982, "↑ 87.8%"),
        (5.6, 11.4, "↓ 50.9%"),
        (7.3, 11.4, "↓ 36.0%"),
        (41, 41, "↑ 0.0%"),
    ],
)
def test_changes_as_the_paper_prints_them(value: float, baseline: float, text: str) -> None:
    assert percent(value / baseline) == text


@pytest.mark.data
def test_every_change_printed_in_table_4(shared_dir: Path) -> None:
    text = (shared_dir / "paper/h2ot_paper.md").read_text(encoding="utf-8")
    table = text[text.index("TABLE 4:") : text.index("TABLE 5:")]
    lines = [line for line in table.splitlines() if re.match(r"(HoT|H <sub>).*\(", line)]
    columns = ("flops_g", "fps_per_frame", "gpu_memory_g", "training_time_min")
    first = rows(4)[0]
    assert len(lines) == len(rows(4)) - 1
    for row, line in zip(rows(4)[1:], lines, strict=True):
        printed = re.findall(r"\(([↓↑] [\d.]+%)\)", line)
        pairs = ((row.value(name), first.value(name)) for name in columns)
        assert [percent(ours / base) for ours, base in pairs if ours and base] == printed
