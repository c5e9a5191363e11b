"""Stores written before: the report has the same numbers in every cell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bench.records import store
from reports.build import build

DATA = Path(__file__).with_name("data")
ROOT = Path(__file__).resolve().parents[2]
CELLS = [path.relative_to(DATA) for path in sorted(DATA.glob("schema_*/*.csv"))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports of both stores, in folders named as the stores."""
    folder = tmp_path_factory.mktemp("old")
    for schema in (1, 2):
        build(DATA / f"schema_{schema}.jsonl", folder / f"schema_{schema}")
    return folder


@pytest.mark.parametrize("schema", [1, 2])
def test_the_stores_are_of_their_schema(schema: int) -> None:
    records = store.read(DATA / f"schema_{schema}.jsonl")
    assert {record.schema for record in records} == {schema}
    lines = (DATA / f"schema_{schema}.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.dumps(record.to_json()) for record in records] == lines


@pytest.mark.parametrize("path", CELLS, ids=str)
def test_every_cell_is_as_it_was(made: Path, path: Path) -> None:
    before = pd.read_csv(DATA / path, dtype=str, keep_default_na=False)
    after = pd.read_csv(made / path, dtype=str, keep_default_na=False)
    # The one text that is worded otherwise since.
    before = before.replace(" trunk of width", " supernet of width", regex=True)
    pd.testing.assert_frame_equal(after, before)


def test_what_has_no_other_place_is_in_a_file_of_its_own(made: Path) -> None:
    other = pd.read_csv(made / "schema_1" / "other.csv", dtype=str, keep_default_na=False)
    by_section = other[other["metric"] == "flops_full_by_section"]
    noise = other[other["metric"] == "frame_noise_px"]
    assert len(by_section)
    assert len(noise)
    for record in store.read(DATA / "schema_1.jsonl"):
        if record.metric == "flops_full_by_section":
            own = by_section[by_section["case"] == record.case.label]
            assert list(map(float, own["value"])) == list(record.values)
        if record.metric == "frame_noise_px" and record.status == "ok":
            (value,) = noise[noise["case"] == record.case.label]["value"]
            assert float(value) == pytest.approx(sum(record.values) / len(record.values), 1e-5)


TABLE = """# title: a made table
backbone,scheme,pipeline,F,r,b,param_m,flops_g
MHFormer,none,seq2frame,351,,,31.52,14.15
MHFormer,none,seq2frame,27,,,31.00,1.09
"""


def test_a_table_is_one_file(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bench", tmp_path / "bench", ignore=shutil.ignore_patterns("*.pyc"))
    (tmp_path / "bench/paper/table_8.csv").write_text(TABLE)
    done = subprocess.run(
        [sys.executable, "-m", "bench", "report", "--store", str(DATA / "schema_1.jsonl")],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "reports/out/ablation.md").read_text(encoding="utf-8")
    _, _, section = report.partition("## Table 8: a made table\n\n")
    heading, _, first, *_ = section.splitlines()
    assert heading.startswith("| Row | Method | F | r | b | Param (M) | FLOPs (G) | flops_full")
    assert first.startswith(
        "| 1 | MHFormer | 351 | – | – | 31.52<br>**31.52**<br>Δ 0.00 | 14.15<br>"
    )
