"""Record files on disks that are full or read-only, and in the hands of two sweeps at once."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.cli import main
from bench.records.case import Case
from bench.records.errors import StoreError
from bench.records.record import Record
from bench.records.store import open_store, read

ROOT = Path(__file__).resolve().parents[2]

# What every process below can do; bench.records.store needs the standard library alone.
COMMON = """
import os, sys
from pathlib import Path
from bench.records.case import Case
from bench.records.errors import StoreError
from bench.records.record import Record
from bench.records.store import open_store, read

def record(i):
    return Record(case=Case(host="mixste", frames=1 + i), metric="latency_s", unit="s",
                  values=(0.25,) * 50, environment={"fingerprint": "here"})

def fill(path, wanted):
    '''Append until the disk refuses; how many there are then.'''
    with open_store(path, environment="here", note=[]) as store:
        try:
            for i in range(wanted):
                store.append([record(i)])
        except StoreError as error:
            print(error)
        return len(store.records)
"""


def python(code: str, *arguments: object, wrap: tuple[str, ...] = ()) -> list[str]:
    """Lines that a fresh process prints; it must end well and say nothing else."""
    done = subprocess.run(
        [*wrap, sys.executable, "-c", COMMON + code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def record(i: int = 0) -> Record:
    return Record(
        case=Case(host="mixste", frames=1 + i), metric="latency_s", unit="s",
        values=(0.25,) * 50, environment={"fingerprint": "here"},
    )  # fmt: skip


# --- full --------------------------------------------------------------------------------------

FULL = """
import resource
path, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
kept = fill(path, 100)
print(kept, path.stat().st_size)
assert [r.identity for r in read(path)] == [record(i).identity for i in range(kept)]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(fill(path, 100))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of files as on Linux")
@pytest.mark.parametrize("limit", [1, 2000, 5000, 50_001])
def test_a_limit_of_the_files_size(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "records.jsonl"
    error, kept, whole = python(FULL, path, limit)
    assert error.startswith(f"cannot write to {path}: File too large; the ")
    assert "run the same command again to go on" in error
    count, size = map(int, kept.split())
    assert error.count(f"the {count} records there are kept") == 1
    assert size <= limit
    assert int(whole) == 100
    assert [r.identity for r in read(path)] == [record(i).identity for i in range(100)]


TMPFS = """
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
path = folder / "records.jsonl"
kept = fill(path, 1000)
print(kept)
assert len(read(path)) == kept
out.write_bytes(path.read_bytes())
(folder / "ballast").unlink()
print(fill(path, kept + 5))
assert len(read(path)) == kept + 5
"""


def namespace(script: str) -> tuple[str, ...]:
    """Run a command after a shell script of mounts that no one else sees; or skip the test."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    wrap = ("unshare", "--map-root-user", "--mount", "sh", "-c", f'{script} && exec "$@"', "sh")
    if subprocess.run([*wrap, "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not mount here")
    return wrap


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    disk, out = tmp_path / "disk", tmp_path / "copy.jsonl"
    disk.mkdir()
    wrap = namespace(
        f"mount -t tmpfs -o size=128k none '{disk}' && head -c 65536 /dev/zero > '{disk}/ballast'"
    )
    error, kept, more = python(TMPFS, disk, out, wrap=wrap)
    assert error.startswith(f"cannot write to {disk}/records.jsonl: No space left on device; ")
    assert int(more) == int(kept) + 5
    assert 0 < int(kept) == len(read(out)) < 1000


class Refusing:
    """A file that takes some bytes of the first line, then neither more nor a repair."""

    def __init__(self, file: Any) -> None:
        self.file, self.broken, self.writes = file, True, 0

    def write(self, data: bytes) -> int:
        self.writes += 1
        if self.broken and self.writes > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self.file.write(data[:100] if self.broken else data))

    def truncate(self, size: int) -> int:
        if self.broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return int(self.file.truncate(size))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_a_disk_on_which_not_even_the_repair_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.jsonl"
    with open_store(path, environment="here", note=[]) as store:
        store.append([record()])
        file = Refusing(store._file)
        monkeypatch.setattr(store, "_file", file)
        for i in (1, 2):
            with pytest.raises(StoreError, match="cannot write to") as caught:
                store.append([record(i)])
            assert "\n" not in str(caught.value)
            assert record(i).identity not in store
        file.broken = False
        store.append([record(3)])
    assert read(path) == [record(), record(3)]


# --- read-only ---------------------------------------------------------------------------------

OPEN = """
os.chdir(sys.argv[1])
if os.geteuid() == 0:  # root may write everywhere
    os.setgid(65534)
    os.setuid(65534)
path = Path("records.jsonl")
try:
    with open_store(path, environment="here", note=[]):
        print("opened")
except StoreError as error:
    print(error)
print(len(read(path)) if path.exists() else "none")
"""


def refused(folder: Path, **options: Any) -> tuple[str, str]:
    before = sorted((p.name, p.read_bytes()) for p in folder.iterdir())
    error, count = python(OPEN, folder, **options)
    assert sorted((p.name, p.read_bytes()) for p in folder.iterdir()) == before
    return error, count


def filled(folder: Path) -> Path:
    folder.mkdir()
    with open_store(folder / "records.jsonl", environment="here", note=[]) as store:
        store.append([record(), record(1)])
    return folder


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="rights as on POSIX")
def test_a_file_that_may_not_be_written(tmp_path: Path) -> None:
    folder = filled(tmp_path / "store")
    (folder / "records.jsonl").chmod(0o444)
    folder.chmod(0o555)
    error, count = refused(folder)
    assert error == "cannot write to records.jsonl: Permission denied; name another --store"
    assert count == "2"


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="rights as on POSIX")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir(mode=0o555)
    error, count = refused(folder)
    assert error == "cannot write to records.jsonl: Permission denied; name another --store"
    assert count == "none"


@pytest.mark.parametrize("full", [False, True])
def test_a_disk_that_is_read_only(tmp_path: Path, full: bool) -> None:
    folder = filled(tmp_path / "store") if full else tmp_path / "store"
    folder.mkdir(exist_ok=True)
    mounts = f"mount --bind '{folder}' '{folder}' && mount -o remount,bind,ro '{folder}'"
    code = OPEN.replace("os.geteuid() == 0", "False")
    wrap = namespace(mounts)
    error, count = python(code, folder, wrap=wrap)
    assert error == "cannot write to records.jsonl: Read-only file system; name another --store"
    assert count == ("2" if full else "none")
    assert [p.name for p in folder.iterdir()] == (["records.jsonl"] if full else [])


def test_the_command_line_says_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_file = Path.open

    def refuse(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if set(mode) & set("wax+"):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return open_file(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    path = tmp_path / "records.jsonl"
    assert main(["run", "--frames", "9", "--r", "--b", "--store", str(path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == f"error: cannot write to {path}: Permission denied; name another --store"


# --- two at once -------------------------------------------------------------------------------

HOLD = """
path = Path(sys.argv[1])
with open_store(path, environment="here", note=[]) as store:
    store.append([record(0)])
    print("ready", flush=True)
    sys.stdin.readline()
    store.append([record(1)])
"""

INTRUDE = """
path = Path(sys.argv[1])
try:
    fill(path, 5)
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks of files as on POSIX")
def test_a_second_sweep_is_refused_at_once_and_the_first_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    first = subprocess.Popen(
        [sys.executable, "-c", COMMON + HOLD, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert first.stdout is not None
    try:
        assert first.stdout.readline() == "ready\n"
        # The first waits for this test, so that the second cannot have waited for the first.
        before = path.read_bytes()
        (error,) = python(INTRUDE, path)
        assert error == (f"another sweep is writing to {path}; wait for it or name another --store")
        assert path.read_bytes() == before
    finally:
        first.communicate("go on\n", timeout=60)
    assert first.returncode == 0
    assert read(path) == [record(), record(1)]
    assert os.listdir(tmp_path) == ["records.jsonl"]
