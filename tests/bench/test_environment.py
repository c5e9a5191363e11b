"""Where a measurement was taken: what is told of it, and what follows where it differs."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from bench.cli import main
from bench.records import environment as module
from bench.records.case import Case
from bench.records.environment import differences, environment
from bench.records.record import SCHEMA, Record
from bench.records.store import open_store, read

HERE = {
    "fingerprint": "f", "system": "Plan 9 z80", "cpu": "Abacus 9000", "cores": 3,
    "memory_bytes": 2**32, "threads": 3, "python": "3.99", "torch": "9.9", "numpy": "9",
    "gpu": "", "driver": "", "h2ot": "0.1.0", "code": "c", "commit": "abc123", "dirty": False,
}  # fmt: skip


# --- what is told ------------------------------------------------------------------------------

TOLD: dict[str, Callable[[Any], bool]] = {
    "system": lambda v: platform.system() in v and platform.machine() in v,
    "cpu": lambda v: isinstance(v, str) and v != "",
    "cores": lambda v: v >= 1,
    "memory_bytes": lambda v: v == psutil.virtual_memory().total,
    "gpu": lambda v: isinstance(v, str),
    "driver": lambda v: isinstance(v, str),
    "threads": lambda v: v == 7,
    "python": lambda v: v == platform.python_version(),
    "torch": lambda v: v.split("+")[0] == torch.__version__.split("+")[0],
    "numpy": lambda v: v == np.__version__,
    "h2ot": lambda v: isinstance(v, str) and v != "",
    "code": lambda v: len(v) == 12,
    "fingerprint": lambda v: len(v) == 12,
    "commit": lambda v: isinstance(v, str),
    "dirty": lambda v: v in (True, False, None),
}


@pytest.mark.parametrize("name", TOLD)
def test_it_is_told(name: str) -> None:
    assert TOLD[name](environment(7)[name])


def test_settings_of_memory_make_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    usual = environment.__wrapped__(7)
    assert "THP_MEM_ALLOC_ENABLE" not in usual
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    changed = environment.__wrapped__(7)
    assert changed["THP_MEM_ALLOC_ENABLE"] == "1"
    assert changed["fingerprint"] != usual["fingerprint"]


def test_it_is_plain() -> None:
    told = environment(7)
    assert json.loads(json.dumps(told)) == told


def test_the_version_of_this_package(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"h2ot": "1.2.3", "torch": "2.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(module.metadata, "version", version)
    told = environment.__wrapped__(7)
    assert (told["h2ot"], told["torch"], told["numpy"]) == ("1.2.3", "2.0", "absent")
    versions["h2ot"] = "1.2.4"  # a release of the same code goes on in the same store
    assert environment.__wrapped__(7)["fingerprint"] == told["fingerprint"]
    versions["torch"] = "2.1"
    assert environment.__wrapped__(7)["fingerprint"] != told["fingerprint"]


def test_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml")
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda i: i)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: "Abacus GPU")
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "1.2")
    told = environment.__wrapped__(7)
    assert (told["gpu"], told["driver"]) == ("Abacus GPU", "1.2")
    assert told["fingerprint"] != environment(7)["fingerprint"]


# --- files of an older version -----------------------------------------------------------------

# As schema 1 was written, before the version of this package stood in it.
SCHEMA_1 = (
    '{"case": {"host": "mixste", "frames": 243, "prune": "tps", "recover": "tri", "r": [121, 81], '
    '"b": [0, 3], "pipeline": "seq2seq", "options": [["width", 512]], "batch": 1, "device": "cpu", '
    '"dtype": "float32", "threads": 0, "motion": "generated:0"}, "metric": "latency_s", "unit": '
    '"s", "values": [1.25, 1.5], "labels": [], "group": "0a1b2c3d", "part": 3, "session": '
    '"abcdef012345", "protocol": {"warmup": 1}, "environment": {"system": "Linux x86_64", "cpu": '
    '"Abacus 9000", "threads": 2, "fingerprint": "0123456789ab", "commit": "93b24ae", "dirty": '
    'false}, "status": "ok", "reason": "", "schema": 1}\n'
)


def test_a_file_of_schema_1_still_reads(tmp_path: Path) -> None:
    assert SCHEMA >= 1
    path = tmp_path / "records.jsonl"
    path.write_text(SCHEMA_1)
    (record,) = read(path)
    assert record.case == Case(
        host="mixste", frames=243, prune="tps", recover="tri", r=(121, 81), b=(0, 3),
        options=(("width", 512),),
    )  # fmt: skip
    assert (record.metric, record.unit, record.values) == ("latency_s", "s", (1.25, 1.5))
    assert (record.group, record.part, record.session) == ("0a1b2c3d", 3, "abcdef012345")
    assert record.environment["commit"] == "93b24ae"
    assert record.status == "ok"


# --- environments that differ ------------------------------------------------------------------


def counted(frames: int, **changes: Any) -> Record:
    return Record(
        case=Case(host="mixste", frames=frames), metric="param_count", unit="1", values=(frames,),
        environment={**HERE, **changes},
    )  # fmt: skip


def stored(path: Path, *records: Record) -> Path:
    with open_store(path, environment="f", note=[]) as opened:
        opened.append(records)
    return path


def test_what_differs_is_named_and_code_is_not() -> None:
    one, other = counted(9), counted(27, cpu="Other", threads=1)
    assert differences([one, other]) == [
        "cpu is Abacus 9000 or Other", "threads is 3 or 1",
    ]  # fmt: skip
    assert differences([one, counted(27, code="d", commit="e", dirty=True, h2ot="0.2")]) == []


def test_a_report_of_several_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = stored(tmp_path / "a.jsonl", counted(9), counted(27))
    same = stored(tmp_path / "b.jsonl", counted(27, commit="def"), counted(45))
    out = tmp_path / "out"
    words = ["report", "--store", str(first), str(same), "--out", str(out)]
    assert main(words) == 0
    report = (out / "ablation.md").read_text()
    assert all(f"mixste-f{frames} " in report for frames in (9, 27, 45))
    assert "Forced" not in report


def test_a_report_of_different_environments_is_refused_unless_forced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = stored(tmp_path / "a.jsonl", counted(9))
    other = stored(tmp_path / "b.jsonl", counted(27, cpu="Other"))
    out = tmp_path / "out"
    words = ["report", "--store", str(first), str(other), "--out", str(out)]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: incomparable: cpu is Abacus 9000 or Other. Name files of one")
    assert not out.exists()
    assert main([*words, "--force"]) == 0
    report = (out / "ablation.md").read_text()
    assert "**Forced**: these records differ: cpu is Abacus 9000 or Other" in report
