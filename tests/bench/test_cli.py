"""The command line: what it prints, what it refuses, and how."""

from __future__ import annotations

import csv
import io
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.cli import main
from bench.metrics import METRICS, count_cases, flop_counters
from bench.metrics.base import Reading
from bench.models.context import Context
from bench.paper import DESCRIPTIVE, TABLES, rows
from bench.records import store
from bench.records.case import Case
from bench.scenarios import tables
from bench.timing import sampling

SIZES = "--frames 27 --option width=16 --option heads=2 --option depth=3"
PRUNED = f"--prune tps --recover tri --r 13 9 --b 0 2 {SIZES}"

Said = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Run a command; its exit status and what it wrote to both streams."""

    def run(command: str) -> tuple[int, str, str]:
        try:
            status = main(shlex.split(command))
        except SystemExit as end:  # how argparse ends
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return run


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# --- count -------------------------------------------------------------------------------------

OURS = ["param_m", "flops_paper_g", "flops_full_g"]
PAPERS = ["paper_param_m", "paper_flops_g", "note"]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """Do not count; note what would be."""
    asked: list[Case] = []

    def stand_in(cases: Sequence[Case]) -> dict[Case, dict[str, str]]:
        asked.extend(cases)
        return {case: dict.fromkeys(OURS, "1.00") for case in cases}

    monkeypatch.setattr("bench.cli.count._counted", stand_in)
    return asked


@pytest.mark.parametrize("number", TABLES)
def test_csv_of_a_table(number: int, said: Said, counted: list[Case]) -> None:
    status, out, err = said(f"count --table {number} --csv -")
    assert (status, err) == (0, "")
    header = next(csv.reader(io.StringIO(out)))
    described = [name for name in rows(number)[0].cells if name in DESCRIPTIVE and name != "note"]
    assert header == ["row", *described, *OURS, *PAPERS]
    lines = table(out)
    assert [line["row"] for line in lines] == [str(n + 1) for n in range(len(rows(number)))]
    for line, row in zip(lines, rows(number), strict=True):
        assert {name: line[name] for name in described} == {n: row.cells[n] for n in described}
        assert (line["paper_param_m"], line["paper_flops_g"]) == (
            row.cells["param_m"],
            row.cells["flops_g"],
        )
        assert all(line[name] for name in OURS) == (row.case() is not None)
        assert row.case() is not None or line["note"]
    assert counted == [row.case() for row in rows(number) if row.case() is not None]


def test_csv_of_two_tables(said: Said, counted: list[Case]) -> None:
    status, out, _ = said("count --table 5 --table 2 --table 5 --csv -")
    assert status == 0
    assert out.startswith("table,row,")
    lines = table(out)
    assert [(line["table"], line["row"]) for line in lines] == [
        *(("5", str(n)) for n in range(1, 12)),
        *(("2", str(n)) for n in range(1, 7)),
    ]
    assert lines[0]["pruning"] == ""  # a column of the other table


def test_counts_of_a_table_as_printed(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[tuple[Any, ...]] = []

    def check(model: Any, x: Any, count: Any) -> None:
        checked.append((model.config.prune, model.config.recover))

    monkeypatch.setattr(flop_counters, "cross_check", check)
    status, out, err = said("count --table 2 --csv -")
    assert (status, err) == (0, "")
    lines = table(out)
    assert [line["param_m"] for line in lines] == ["33.78", *["35.00"] * 4, "33.78"]
    assert [line["flops_paper_g"] for line in lines] == [
        "277.25", "167.52", "167.51", "167.51", "167.51", "161.73",
    ]  # fmt: skip
    assert lines[0]["flops_full_g"] == "294.845"
    assert lines[2]["paper_flops_g"] == "167.52"
    assert "pooling" in lines[2]["note"]
    assert len(checked) == len(set(checked)) == 6  # once per pair of strategies


@pytest.mark.slow
def test_many_counts_on_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (("depth", 2), ("heads", 2), ("width", 16))
    cases = [
        Case(host="mixste", frames=27, prune=prune, recover="tri", r=(r,), b=(1,), options=sizes)
        for r in (3, 5, 7, 9)
        for prune in ("tps", "tpmo")
    ]
    monkeypatch.setattr(count_cases.psutil, "cpu_count", lambda logical: 2)
    whole = count_cases.count_all(cases)
    assert list(map(set, (whole, cases))) == [set(cases)] * 2
    monkeypatch.setattr(count_cases, "_MANY", len(cases) + 1)
    assert count_cases.count_all(cases) == whole
    assert len({found.flops_full for found in whole.values()}) == len(cases)


def test_count_of_one_configuration(said: Said, tmp_path: Path) -> None:
    file = tmp_path / "counts.csv"
    status, out, err = said(f"count {PRUNED} --csv {file} --modules")
    assert (status, err) == (0, "")
    (line,) = table(file.read_text())
    assert line["case"] == "mixste-f27-tps+tri-r13,9-b0,2-depth=3-heads=2-width=16"
    modules = [entry.split() for entry in out.splitlines()]
    assert {unit for _, unit, _ in modules} == {"G"}
    assert "host.temporal_blocks.2.attn" in {path for _, _, path in modules}
    plain = said(f"count {PRUNED}")[1]
    assert all(name in plain for name in ("row", "case", *OURS))
    assert line["flops_full_g"] in plain


@pytest.mark.parametrize(
    ("given", "case"),
    [
        (
            "--scheme hot",
            Case(host="mixste", frames=243, prune="tpc", recover="tra", r=(81,), b=(3,)),
        ),
        (
            "--frames 27 --option tps_rounding=floor --option width=16",
            Case(
                host="mixste", frames=27, prune="tps", recover="tri", r=(13, 9), b=(0, 3),
                options=(("tps_rounding", "floor"), ("width", 16)),
            ),
        ),
        (
            "--scheme tpm --r 9 --b 1 --frames 27",
            Case(host="mixste", frames=27, prune="tps", r=(9,), b=(1,), pipeline="seq2frame"),
        ),
        ("--scheme none --host mixste", Case(host="mixste", frames=243)),
    ],
)  # fmt: skip
def test_what_a_configuration_means(
    said: Said, counted: list[Case], given: str, case: Case
) -> None:
    assert said(f"count {given}")[0] == 0
    assert counted == [case]


# --- run and report ----------------------------------------------------------------------------


@pytest.fixture
def constant(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Measure latency alone, on one thread."""

    def stand_in(names: tuple[str, ...]) -> Callable[[Case, Context], list[Reading]]:
        return lambda case, context: [Reading(metric=n, unit="1", values=(1,)) for n in names]

    for name, metric in METRICS.items():
        monkeypatch.setitem(METRICS, name, replace(metric, measure=stand_in(metric.readings)))
    monkeypatch.setattr(sampling, "TRIAL_SAMPLES", 1)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_run_and_report(said: Said, constant: None, tmp_path: Path) -> None:
    path, out = tmp_path / "records.jsonl", tmp_path / "out"
    given = f"{PRUNED} --rounds 2 --threads 1 --store {path}"
    status, said_out, _ = said(f"run {given}")
    assert status == 0
    assert str(path) in said_out
    records = store.read(path)
    timed = {record.case for record in records if record.metric == "latency_s"}
    (case,) = (case for case in timed if case.prune)
    assert timed == {case, case.baseline}
    assert case.label == "mixste-f27-tps+tri-r13,9-b0,2-depth=3-heads=2-width=16"
    assert (case.threads, case.batch, case.device) == (1, 1, "cpu")
    status, said_out, _ = said(f"run {given} --report --out {out}")
    assert (status, said_out) == (0, f"report: {out / 'ablation.md'}\n")
    assert store.read(path) == records
    first = (out / "ablation.md").read_text()
    assert case.label in first
    status, said_out, err = said(f"report --store {path} --out {out}")
    assert (status, said_out, err) == (0, f"report: {out / 'ablation.md'}\n", "")
    assert (out / "ablation.md").read_text() == first


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> list[tables.Plan]:
    """Do not measure; note what would be."""
    plans: list[tables.Plan] = []

    def stand_in(plan: tables.Plan, path: Path, context: Context, **options: Any) -> None:
        plans.append(plan)

    monkeypatch.setattr(tables, "run", stand_in)
    return plans


def test_what_a_table_measures(said: Said, plan: list[tables.Plan]) -> None:
    assert said("run --table 2 --batch 3 --dtype bfloat16 --threads 2 --rounds 7")[0] == 0
    (made,) = plan
    printed = {case for row in rows(2) if (case := row.case())}
    setting: dict[str, Any] = {"batch": 3, "dtype": "bfloat16", "threads": 2}
    assert set(made.exact) == {replace(case, **setting) for case in printed}
    assert set(made.timed) == set(made.exact)
    assert made.timed[0] == made.timed[0].baseline
    assert len(made.timed) == 6
    assert made.sampling.rounds == 7


def test_a_quick_run_times_fewer(said: Said, plan: list[tables.Plan]) -> None:
    assert said("run --table 4 --quick")[0] == 0
    assert said("run --table 4")[0] == 0
    quick, whole = plan
    assert set(quick.exact) == set(whole.exact)
    assert {rows(4)[i].case() for i in (0, 1, 3)} <= set(quick.timed)
    mixste = {case for case in quick.timed if case.host == "mixste"}
    assert mixste < set(whole.timed)
    assert all(case.baseline in quick.timed for case in quick.timed)


def test_an_interruption(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "run", stop)
    status, out, err = said(f"run {PRUNED}")
    assert (status, out) == (130, "")
    assert "the same command goes on from there" in err


# --- help and errors ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", "count", "run", "figures", "report", "lift"])
def test_help(said: Said, command: str) -> None:
    status, out, err = said(f"{command} --help")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: python -m bench{' ' * bool(command)}{command}")


ERRORS = {
    "count --table 9": "table 9 is not available; choose from 2, ",
    "count --scheme hott": "unknown scheme 'hott'; did you mean 'hot'?",
    "count --host mixtse": "unknown host 'mixtse'; did you mean 'mixste'?",
    "count --prune tpo": "unknown pruner 'tpo'; did you mean",
    "count --table 2 --host mixste": "give either --table or a configuration, not both",
    "count --table 2 --option width=16": "give either --table or a configuration, not both",
    "count --table 2 --modules": "--modules goes with one configuration",
    "count --option width": "--option takes NAME=VALUE, got 'width'",
    "count --option colour=red": "unknown option 'colour'",
    "count --option wdith=16": "did you mean 'width'?",
    "count --option width=--5": "width must be a whole number, got '--5'",
    "count --option width=²": "width must be a whole number, got '²'",
    "count --option frames=27": "frames is no --option; give --frames 27",
    "count --option prune=tpa": "prune is no --option; give --prune tpa",
    "count --option =3": "unknown option ''",
    "count --r 81 121 --b 0 3": "r must decrease strictly",
    "count --scheme hot --r 300": "r must be smaller than the 243 input frames",
    "count --frames 0": "frames must be at least 1",
    "run --motion missing.npz": "missing.npz",
    "report --store missing.jsonl": "no record file at missing.jsonl; measure first",
}


def refused(answer: tuple[int, str, str], message: str) -> None:
    status, out, err = answer
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ERRORS)
def test_a_mistake_is_one_line(
    said: Said, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(said(command), ERRORS[command])
    assert not list(tmp_path.iterdir())


def test_files_that_cannot_be_written(said: Said, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    below = tmp_path / "file" / "x"
    refused(said(f"count {PRUNED} --csv {below}"), f"cannot write {below}")
    refused(said(f"count {PRUNED} --csv {tmp_path}"), f"cannot write {tmp_path}")
    refused(said(f"run {PRUNED} --store {below}"), f"cannot write to {below}")
    assert (tmp_path / "file").read_text() == "no folder"


def test_records_that_cannot_be_read(said: Said, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary,\n")
    refused(said(f"report --store {path}"), f"line 1 of {path} is not a benchmark record")
    refused(said(f"run {PRUNED} --store {path}"), f"line 1 of {path} is not a benchmark record")
    path.write_text("")
    refused(said(f"report --store {path} --out {tmp_path / 'out'}"), "has no records yet")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command",
    ["", "measure", "count --table two", "run --rounds 0", "run --threads -1", "run --device tpu"],
)
def test_what_argparse_refuses(said: Said, command: str) -> None:
    status, out, err = said(command)
    assert (status, out) == (2, "")
    assert err.startswith("usage: python -m bench")
    assert err.splitlines()[-1].startswith("python -m bench")


def test_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "count", "--table", "9"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("bench", run_name="__main__")
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: table 9")
