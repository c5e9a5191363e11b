"""Pieces of a markdown report: tables, a table with its CSV file, pictures, units of memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from bench.records.units import rounded

GIB = 2**30


def gib(size: float) -> str:
    """Bytes as GiB, two digits."""
    return rounded(size / GIB, 2)


def pipe_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts, without padding."""
    lines = [f"| {' | '.join(row)} |" for row in (headings, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(headings), *lines[1:]])


def with_csv(
    table: pd.DataFrame, folder: Path, name: str, *, hidden: Sequence[str] = (), texts: bool = True
) -> list[str]:
    """Write a table as a CSV file and return it in markdown, with a link to the file.

    Args:
        table: one line per row.
        folder: where the file is written; it exists.
        name: of the file.
        hidden: columns that only the file has.
        texts: show cells as they are; False aligns numbers and drops trailing zeros.
    """
    table.to_csv(folder / name, index=False)
    shown = table.drop(columns=list(hidden))
    return [shown.to_markdown(index=False, disable_numparse=texts), f"[{name}]({name})"]


def picture(name: str, caption: str) -> str:
    """A picture with its caption below."""
    return f"![{caption}]({name})\n\n{caption}"
