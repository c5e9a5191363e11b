"""An append-only file of records, one JSON object per line. Standard library only."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bench.records.errors import StoreError
from bench.records.files import replacing
from bench.records.record import Record

try:
    import fcntl
except ImportError:  # Windows: no lock, the user starts one command at a time
    fcntl = None  # type: ignore[assignment]


_START = b'{"case": {'  # of every record


def read(path: Path) -> list[Record]:
    """All records of a file, in the order they were written.

    Raises:
        StoreError: if the file is missing, torn, or no record file; naming the line.
    """
    if not path.is_file():
        raise StoreError(
            f"no record file at {path}; measure first: python -m bench run --table 2 --store {path}"
        )
    records, torn = _parse(path)
    if torn:
        raise StoreError(
            f"{path} ends in a torn line ({len(torn)} bytes), as after a crash; the next "
            f"`python -m bench run --store {path}` sets it aside and measures the rest."
        )
    return records


def _parse(path: Path) -> tuple[list[Record], bytes]:
    """Records of all complete lines, and the bytes after the last newline."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from None
    body, newline, torn = content.rpartition(b"\n")
    records = []
    for number, line in enumerate((body + newline).splitlines(), start=1):
        try:
            records.append(Record.from_json(json.loads(line)))
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"line {number} of {path} is not a benchmark record ({error}); expected a file "
                f"written by `python -m bench run`. Move it away or name another --store."
            ) from None
    if not records and not torn.startswith(_START[: len(torn)]):
        raise StoreError(
            f"line 1 of {path} is not a benchmark record; expected a file written by "
            f"`python -m bench run`. Move it away or name another --store."
        )
    return records, torn


class Store:
    """A record file opened for appending; every record is on disk when :meth:`append` returns.

    Use :func:`open_store`.
    """

    def __init__(self, path: Path, records: list[Record], file: IO[bytes]) -> None:
        self.path = path
        self._records = {record.identity: record for record in records}
        self._file = file
        self._torn_at: int | None = None  # start of a partial line that could not be removed

    @property
    def records(self) -> list[Record]:
        """What the file holds."""
        return list(self._records.values())

    def __contains__(self, identity: object) -> bool:
        return identity in self._records

    def append(self, records: Iterable[Record]) -> None:
        """Write records that are not there yet, all at once.

        Raises:
            StoreError: if the disk refuses; what was there before stays intact.
        """
        fresh: dict[object, Record] = {}
        for record in records:
            if record.identity not in self._records:
                fresh.setdefault(record.identity, record)
        if not fresh:
            return
        lines = (json.dumps(r.to_json(), allow_nan=False) + "\n" for r in fresh.values())
        left = "".join(lines).encode()
        start = self._file.seek(0, os.SEEK_END) if self._torn_at is None else self._torn_at
        try:
            if self._torn_at is not None:
                self._file.truncate(start)
                self._torn_at = None
            while left:  # a nearly full disk writes a part before it refuses
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._undo(start)
            raise StoreError(
                f"cannot write to {self.path}: {error.strerror}; the {len(self._records)} records "
                f"there are kept. Make room and run the same command again to go on."
            ) from None
        self._records.update({record.identity: record for record in fresh.values()})

    def _undo(self, start: int) -> None:
        """Remove what was written after ``start``; if that fails, do it before the next write."""
        try:
            self._file.truncate(start)
        except OSError:
            self._torn_at = start


@contextmanager
def open_store(path: Path, *, environment: str, note: list[str]) -> Iterator[Store]:
    """Open a record file to resume or start a sweep.

    A torn last line (from a crash) is moved to ``<path>.torn``. A file whose records come from
    other code or another machine is kept under a new name, and an empty one is started.

    Args:
        path: the file; its folder is made.
        environment: fingerprint of the code and machine now; see ``bench.records.environment``.
        note: list to which messages for the user are appended.

    Raises:
        StoreError: if the folder cannot be written, the file is foreign, or another sweep has
            it open.
    """
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    try:
        _lock(file, path)
        records, torn = _parse(path)
        if torn:
            aside = path.with_name(path.name + ".torn")
            with _writing(path):
                with aside.open("ab") as keep:
                    keep.write(torn + b"\n")
                file.truncate(os.fstat(file.fileno()).st_size - len(torn))
            note.append(f"set aside a torn last line of {path} ({len(torn)} bytes) in {aside.name}")
        strangers = {r.environment.get("fingerprint") for r in records} - {environment}
        if strangers:
            stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
            aside = path.with_name(f"{path.stem}.{stamp}{path.suffix}")
            while aside.exists():
                aside = aside.with_name(f"{aside.stem}+{path.suffix}")
            with _writing(path):
                path.rename(aside)
                file.close()
                file = path.open("a+b", buffering=0)
            note.append(
                f"the {len(records)} records in {path} are of other code or another machine; kept "
                f"as {aside.name}, starting anew"
            )
            _lock(file, path)
            records = []
        yield Store(path, records, file)
    finally:
        file.close()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn an error of the system into one line for the user."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write to {path}: {error.strerror}; name another --store"
        ) from None


def _lock(file: IO[bytes], path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise StoreError(
            f"another sweep is writing to {path}; wait for it or name another --store"
        ) from None


def write(path: Path, records: Sequence[Record]) -> None:
    """Write records, whole or not at all; the folder is made.

    Raises:
        UsageError: if the disk refuses.
    """
    lines = (json.dumps(record.to_json(), allow_nan=False) + "\n" for record in records)
    with replacing(path) as temporary:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text("".join(lines), encoding="utf-8")
