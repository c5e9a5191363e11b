"""The record file: nothing is lost, doubled or silently overwritten."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.records.case import Case
from bench.records.errors import StoreError
from bench.records.record import SCHEMA, Record
from bench.records.store import Store, open_store, read

HERE = "this code"


def record(i: int = 0, environment: str = HERE, **changes: Any) -> Record:
    values = {
        "case": Case(host="mixste", frames=27 + i),
        "metric": "latency_s",
        "unit": "s",
        "values": (0.25, 1e-3),
        "group": "g",
        "environment": {"fingerprint": environment, "cpu": "Größe"},
    }
    return Record(**{**values, **changes})


@contextmanager
def opened(path: Path, environment: str = HERE) -> Iterator[Store]:
    """A store of which nothing had to be set aside."""
    notes: list[str] = []
    with open_store(path, environment=environment, note=notes) as store:
        yield store
    assert notes == []


def fill(path: Path, *records: Record) -> None:
    with opened(path, str(records[0].environment["fingerprint"])) as store:
        store.append(records)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "records.jsonl"


# --- round trip --------------------------------------------------------------------------------


def test_what_was_appended_is_read_back_in_order(path: Path) -> None:
    written = [record(i) for i in (3, 1, 2)]
    fill(path, *written)
    assert read(path) == written
    assert len(path.read_text().splitlines()) == 3


@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1).map(tuple),
    reason=st.text(),
)
def test_any_number_and_text_survives(
    tmp_path_factory: pytest.TempPathFactory, values: tuple[float, ...], reason: str
) -> None:
    path = tmp_path_factory.mktemp("store") / "records.jsonl"
    written = [record(values=values, protocol={"note": reason}), record(1)]
    fill(path, *written)
    assert read(path) == written


def test_a_store_knows_what_it_holds(path: Path) -> None:
    with opened(path) as store:
        assert store.records == []
        assert record().identity not in store
        store.append([record()])
        assert record().identity in store
        assert record(part=1).identity not in store
    with opened(path) as store:
        assert store.records == [record()]
        assert record().identity in store


def test_a_record_is_on_disk_when_append_returns(path: Path) -> None:
    with opened(path) as store:
        for i in range(3):
            store.append([record(i)])
            assert read(path) == [record(n) for n in range(i + 1)]


def test_duplicates_are_not_written(path: Path) -> None:
    again = record(values=(9.0,))
    with opened(path) as store:
        store.append([record(), again, record(1), again])
        store.append([again])
        store.append([])
    with opened(path) as store:
        store.append([again, record(1)])
    assert read(path) == [record(), record(1)]


def test_values_that_json_does_not_have_are_refused_before_anything_is_written(path: Path) -> None:
    with opened(path) as store:
        store.append([record()])
        with pytest.raises(ValueError, match="JSON"):
            store.append([record(1), record(2, values=(float("nan"),))])
        store.append([record(3)])
    assert read(path) == [record(), record(3)]


# --- torn tails --------------------------------------------------------------------------------

LINE = len(json.dumps(record().to_json())) + 1


@pytest.mark.parametrize("left", [1, 2, 9, 10, LINE // 2, LINE - 1])
def test_a_torn_tail_is_reported_on_reading_and_set_aside_on_opening(path: Path, left: int) -> None:
    fill(path, record(), record(1), record(2))
    whole = path.read_bytes()
    kept = len(whole) - LINE
    path.write_bytes(whole[: kept + left])
    with pytest.raises(StoreError, match=rf"torn line \({left} bytes\)") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    notes: list[str] = []
    with open_store(path, environment=HERE, note=notes) as store:
        assert store.records == [record(), record(1)]
        store.append([record(2)])
    assert path.read_bytes() == whole
    (note,) = notes
    assert f"{left} bytes" in note
    aside = path.with_name("records.jsonl.torn")
    assert aside.name in note
    assert aside.read_bytes() == whole[kept : kept + left] + b"\n"


def test_a_file_torn_in_its_first_line(path: Path) -> None:
    fill(path, record())
    path.write_bytes(path.read_bytes()[:30])
    notes: list[str] = []
    with open_store(path, environment=HERE, note=notes) as store:
        assert store.records == []
    assert len(notes) == 1
    assert read(path) == []


def test_a_second_torn_tail_is_added_to_the_first(path: Path) -> None:
    torn = []
    for left in (20, 30):
        path.parent.mkdir(exist_ok=True)
        with open_store(path, environment=HERE, note=[]) as store:
            store.append([record(left)])
        whole = path.read_bytes()
        path.write_bytes(whole + whole[:left])
        torn.append(whole[:left])
    with open_store(path, environment=HERE, note=[]) as store:
        assert store.records == [record(20), record(30)]
    assert path.with_name("records.jsonl.torn").read_bytes().split(b"\n")[:-1] == torn


# --- files that are something else -------------------------------------------------------------

FOREIGN = {
    "text": b"Dear diary,\nnothing to report.\n",
    "text without a newline": b"Dear diary",
    "JSON list": b"[1, 2, 3]\n",
    "JSON list without a newline": b"[1, 2, 3]",
    "JSON object": b'{"a": 1}\n',
    "CSV": b"row,case,flops\n1,mixste,277.25\n",
    "blank line": b"\n",
    "bytes": b"\x89PNG\r\n\x1a\n\x00\x00",
    "number": b"3\n",
}


def refusals(path: Path) -> Iterator[StoreError]:
    """The errors of both ways to open a file, which must leave it as it is."""
    before = path.read_bytes()
    with pytest.raises(StoreError) as caught:
        read(path)
    yield caught.value
    with pytest.raises(StoreError) as caught, open_store(path, environment=HERE, note=[]):
        pytest.fail("opened")
    yield caught.value
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(FOREIGN[kind])
    for error in refusals(path):
        assert f"line 1 of {path} is not a benchmark record" in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "damage",
    [b"", b"garbage", b'{"case": 1}', b"{" * 5, b"\xff\xfe"],
    ids=["blank", "text", "other object", "half", "bytes"],
)
def test_a_damaged_line_in_the_middle_is_named(path: Path, damage: bytes) -> None:
    fill(path, record(), record(1), record(2))
    lines = path.read_bytes().splitlines()
    lines[1] = damage
    path.write_bytes(b"\n".join(lines) + b"\n")
    for error in refusals(path):
        assert f"line 2 of {path} is not a benchmark record" in str(error)
        assert "\n" not in str(error)


def test_a_newer_schema_is_named(path: Path) -> None:
    fill(path, record())
    newer = {**record(1).to_json(), "schema": SCHEMA + 1}
    with path.open("a") as file:
        file.write(json.dumps(newer) + "\n")
    for error in refusals(path):
        assert "line 2" in str(error)
        assert f"schema {SCHEMA + 1}" in str(error)


SCHEMA_1 = """{"case": {"host": "mixste", "frames": 27, "prune": "tps", "recover": "tri", \
"r": [13, 9], "b": [0, 2], "pipeline": "seq2seq", "options": [["depth", 3]], "batch": 1, \
"device": "cpu", "dtype": "float32", "threads": 1, "motion": "generated:0"}, \
"metric": "latency_s", "unit": "s", "values": [0.25, 0.5], "labels": [], "group": "1852c646", \
"part": 3, "session": "088b97bf3ad1", "protocol": {"warmup": 1, "interleaved": 2}, \
"environment": {"fingerprint": "this code"}, "status": "ok", "reason": "", "schema": 1}
"""


def test_files_of_the_first_schema_are_read_and_gone_on_with(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(SCHEMA_1)
    (old,) = read(path)
    assert old.schema == 1
    assert (old.case.r, old.values, old.part) == ((13, 9), (0.25, 0.5), 3)
    late = record(values=(), status="timeout", reason="no answer within 300 s")
    with opened(path) as store:
        assert old.identity in store
        store.append([late])
    assert read(path) == [old, late]
    assert path.read_text().startswith(SCHEMA_1)
    assert late.schema == SCHEMA == 2


def test_a_missing_file_says_how_to_measure(path: Path) -> None:
    with pytest.raises(StoreError, match=r"no record file at .* measure first"):
        read(path)


# --- records of other code or another machine --------------------------------------------------


def test_records_of_other_code_are_kept_under_another_name(path: Path) -> None:
    fill(path, record(environment="before"))
    old = path.read_bytes()
    notes: list[str] = []
    with open_store(path, environment=HERE, note=notes) as store:
        assert store.records == []
        store.append([record()])
    assert read(path) == [record()]
    (aside,) = (p for p in path.parent.iterdir() if p != path)
    assert aside.read_bytes() == old
    assert read(aside) == [record(environment="before")]
    (note,) = notes
    assert aside.name in note
    assert "1 records" in note


def test_nothing_set_aside_is_overwritten(path: Path) -> None:
    # All within the same second, which is what their names are made from.
    for turn in range(4):
        with open_store(path, environment=f"code {turn}", note=[]) as store:
            store.append([record(environment=f"code {turn}")])
    kept = {r.environment["fingerprint"] for p in path.parent.iterdir() for r in read(p)}
    assert kept == {f"code {turn}" for turn in range(4)}


def test_the_same_code_goes_on_in_the_same_file(path: Path) -> None:
    fill(path, record())
    fill(path, record(1))
    assert read(path) == [record(), record(1)]
    assert os.listdir(path.parent) == [path.name]


# --- two at once, and disks that refuse --------------------------------------------------------


def test_two_sweeps_at_once_are_refused(path: Path) -> None:
    with opened(path) as store:
        store.append([record()])
        with (
            pytest.raises(StoreError, match="another sweep is writing to"),
            open_store(path, environment=HERE, note=[]),
        ):
            pytest.fail("opened")
        store.append([record(1)])
    with opened(path) as store:
        assert store.records == [record(), record(1)]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / "file" / "records.jsonl"
    with (
        pytest.raises(StoreError, match=r"cannot write to .*; name another --store"),
        open_store(path, environment=HERE, note=[]),
    ):
        pytest.fail("opened")


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match="cannot write to"),
        open_store(tmp_path, environment=HERE, note=[]),
    ):
        pytest.fail("opened")


def test_a_folder_that_refuses_a_new_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path, record(environment="before"))

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "rename", refuse)
    with (
        pytest.raises(StoreError, match=r"cannot write to .*Permission denied"),
        open_store(path, environment=HERE, note=[]),
    ):
        pytest.fail("opened")
    assert read(path) == [record(environment="before")]


class FullDisk:
    """A file on a disk with room for so many bytes more; the last write is cut short first."""

    def __init__(self, file: Any, room: int) -> None:
        self.file = file
        self.room = room

    def write(self, data: bytes) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.file.write(data[: self.room])
        self.room -= written
        return int(written)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 1, LINE - 1, LINE, LINE + 40])
def test_a_write_that_fails_half_way_leaves_what_was_there(
    path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    with opened(path) as store:
        store.append([record()])
        before = path.read_bytes()
        full = FullDisk(store._file, room)
        with monkeypatch.context() as patch:
            patch.setattr(store, "_file", full)
            with pytest.raises(StoreError, match=r"cannot write to .*No space left"):
                store.append([record(1), record(2)])
        assert path.read_bytes() == before
        assert record(1).identity not in store
        store.append([record(1), record(2)])  # there is room again
    assert read(path) == [record(), record(1), record(2)]


def test_a_write_in_pieces_is_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Piecewise(FullDisk):
        def write(self, data: bytes) -> int:
            return int(self.file.write(data[:7]))

    with opened(path) as store:
        monkeypatch.setattr(store, "_file", Piecewise(store._file, 0))
        store.append([record(), record(1)])
    assert read(path) == [record(), record(1)]


def test_an_error_while_open_closes_the_file_and_keeps_the_records(path: Path) -> None:
    def measure() -> None:
        with opened(path) as store:
            store.append([record()])
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        measure()
    fill(path, record(1))
    assert read(path) == [record(), record(1)]


def test_reading_needs_no_right_to_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path, record())
    open_file = Path.open

    def read_only(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if set(mode) & set("wax+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return open_file(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", read_only)
    assert read(path) == [record()]
    assert os.listdir(path.parent) == [path.name]
    with (
        pytest.raises(StoreError, match=r"cannot write to .*Read-only file system"),
        open_store(path, environment=HERE, note=[]),
    ):
        pytest.fail("opened")
