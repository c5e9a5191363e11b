"""A plug-in of each kind, from its file to the report, by the commands that a user types."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.records import store
from bench.records.record import Record

ROOT = Path(__file__).resolve().parents[2]
OWN = ["--host", "flat", "--prune", "drawn", "--recover", "held", "--r", "9", "--b", "1"]
OPTIONS = ["--option", "seed=3", "--option", "rand_seed=5", "--option", "side=after"]


Bench = Callable[..., str]


@pytest.fixture
def bench(plugin: Path, tmp_path: Path) -> Bench:
    """Call a command in a process of its own, which must succeed; what it prints."""

    def call(command: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "bench", command, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    return call


def read(path: Path) -> list[Record]:
    records = store.read(path)
    assert {(r.metric, r.status, r.reason) for r in records if r.status != "ok"} == set()
    return records


@pytest.mark.slow
def test_a_plugin_of_each_kind_is_counted_timed_evaluated_and_shown(
    plugin: Path, tmp_path: Path, bench: Bench
) -> None:
    own = ["--plugin", str(plugin), *OWN, *OPTIONS]
    path, out = tmp_path / "records.jsonl", tmp_path / "out"

    # A 34 x 16 token layer, three layers 16 x 16 and a head 16 x 51, each with its bias. 27 frames
    # pass the first two, 9 of them the others, and poses are recovered without a product.
    parameters = 34 * 16 + 16 + 3 * (16 * 16 + 16) + 16 * 51 + 51
    products = 27 * (34 * 16 + 16 * 16) + 9 * (2 * 16 * 16 + 16 * 51)
    full = 27 * (34 * 16 + 3 * 16 * 16 + 16 * 51)
    bench("count", *own, "--csv", str(tmp_path / "counts.csv"))
    assert (
        "flat-f27-drawn+held-r9-b1-rand_seed=5-seed=3-side=after"
        in (tmp_path / "counts.csv").read_text()
    )

    bench("run", *own, "--threads", "1", "--rounds", "1", "--store", str(path))
    records = read(path)
    (pruned,) = {r.case for r in records if r.case.prune}
    assert dict(pruned.options) == {"rand_seed": 5, "seed": 3, "side": "after"}
    assert {r.case for r in records} == {pruned, pruned.baseline}
    assert pruned.baseline.options == ()
    value = {(r.metric, r.case): r.values[0] for r in records}
    for case, count in ((pruned, products), (pruned.baseline, full)):
        assert value["param_count", case] == parameters
        assert value["flops_paper", case] == 2 * count
        assert value["latency_s", case] > 0
        assert value["output_spread", case] > 0

    # Poses of a person who stands still do not move either.
    shown = bench(
        "evaluate", *own, "--data", "still:60", "--untrained", "--windows", "hot", "--store",
        str(path),
    )  # fmt: skip
    assert "A person who stands still." in shown
    (evaluated,) = {r.case for r in read(path)} - {pruned, pruned.baseline}
    assert evaluated == replace(pruned, threads=0, motion="still:60")
    means = {r.metric: dict(zip(r.labels, r.values, strict=True)) for r in read(path)
             if r.case == evaluated}  # fmt: skip
    assert means["mpjve_mm"]["mean"] == pytest.approx(0, abs=1e-3)
    assert means["mpjpe_mm"]["mean"] == means["mpjpe_mm_by_take"]["S/front"] > 1

    # A clip's poses do not depend on the batch.
    bench("runtimes", *own, "--runtime", "clipwise", "--rounds", "1", "--store", str(path))
    drift = {r.group.partition("@")[0]: r.values for r in read(path)
             if r.metric == "runtime_drift_mm" and r.case.prune}  # fmt: skip
    assert drift.keys() == {"eager", "clipwise"}
    assert max(drift["clipwise"]) < 0.01

    bench("report", "--store", str(path), "--out", str(out))
    page = (out / "ablation.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")] for line in page.splitlines()]
    shown_by = {row[1]: row for row in rows if len(row) > 1}
    assert {pruned.label, pruned.baseline.label} <= shown_by.keys()
    spread = {row[1]: row[3] for row in rows if "output_spread" in row}
    for case in (pruned, pruned.baseline):
        assert float(spread[case.label]) == pytest.approx(value["output_spread", case], rel=1e-4)
    error = means["mpjpe_mm"]["mean"]
    assert any("mpjpe_mm" in row and f"{error:.6g}" in row for row in rows)
    assert [row for row in rows if {"clipwise", pruned.label} <= set(row)]


def test_the_help_and_the_errors_list_what_a_plugin_adds(plugin: Path, bench: Bench) -> None:
    assert "clipwise" in bench("runtimes", "--plugin", str(plugin), "--help")
    shown = bench("evaluate", "--help", "--plugin", str(plugin))
    assert "still[:FRAMES]" in shown
    assert {"flat", "drawn", "held"} <= set(re.findall(r"\w+", shown))
