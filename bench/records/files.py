"""Files that appear whole or not at all, and digests. Standard library only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.records.errors import UsageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file beside ``path`` to write, which takes its place when the block ends well.

    The content is on disk before it does, so a crash leaves the old file or the new one.

    Raises:
        UsageError: if the system refuses.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def text_digest(text: str, digits: int = 12) -> str:
    """The first hexadecimal digits of a text's sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def file_digest(path: Path) -> str:
    """The sha256 of a file's content, hexadecimal.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(*folders: Path, suffixes: Sequence[str] = (".py",)) -> str:
    """Twelve digits that name the contents of all files below folders with these suffixes.

    Raises:
        FileNotFoundError: if a folder has no such file, as a wrong path would name all code alike.
    """
    digest = hashlib.sha256()
    for folder in folders:
        files = sorted(file for file in folder.rglob("*") if file.suffix in suffixes)
        if not files:
            raise FileNotFoundError(f"no {' or '.join(suffixes)} files in {folder}")
        for file in files:
            name = file.relative_to(folder).as_posix()
            digest.update(name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]
