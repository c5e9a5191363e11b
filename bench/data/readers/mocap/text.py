"""Text files of motion capture."""

from __future__ import annotations

from pathlib import Path

from bench.data.sequences import DataError


def read_text(path: Path, kind: str) -> str:
    """Return the text of a file of some kind, such as "BVH".

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected a {kind} file, so check it") from None


def words_of(line: str) -> list[str]:
    """Return the words of a line without its comment."""
    return line.partition("#")[0].split()
