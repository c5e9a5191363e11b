"""The report, from made-up records alone: nothing is measured here."""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.paper import TABLES, rows
from bench.records.case import Case
from bench.records.errors import UsageError
from bench.records.record import Record
from bench.records.store import open_store
from bench.timing.statistics import Estimate
from reports import intervals, plots
from reports.accuracy import collect_accuracy
from reports.build import build
from reports.extra_tables import breakdown, further
from reports.results import Results, collect
from reports.tables import COLUMNS, Table, paper_table

GIB = 2**30
SETTING = {
    "batch": 1, "device": "cpu", "dtype": "float32", "threads": 0, "motion": "generated:0",
}  # fmt: skip
MACHINE = {
    "fingerprint": "f", "system": "Plan 9 z80", "cpu": "Abacus 9000", "cores": 3,
    "memory_bytes": 5 * GIB, "threads": 3, "python": "3.99", "torch": "9.9", "numpy": "9",
    "gpu": "", "driver": "", "commit": "abc123", "dirty": True,
}  # fmt: skip


def paper_case(table: int, number: int) -> Case:
    case = rows(table)[number - 1].case()
    assert case is not None
    return case


BASE, HOT, H2OT = (paper_case(4, number) for number in (1, 2, 4))
OWN = replace(H2OT, prune="tpa", recover="tri", r=(121, 81), b=(2, 5))


def record(case: Case, metric: str, *values: float, **given: Any) -> Record:
    return Record(
        **{
            "case": case, "metric": metric, "unit": "", "values": values, "session": "s",
            "environment": MACHINE, **given,
        }
    )  # fmt: skip


def visit(
    case: Case, part: int, latency: Sequence[float] | float, prune: float = 0.0,
    recover: float = 0.0, *, group: str = "g", session: str = "s",
) -> list[Record]:  # fmt: skip
    taken = [latency] if isinstance(latency, float) else list(latency)
    where: dict[str, Any] = {"group": group, "part": part, "session": session}
    return [
        record(case, "latency_s", *taken, **where),
        record(case, "prune_s", *[prune] * len(taken), **where),
        record(case, "recover_s", *[recover] * len(taken), **where),
    ]


def counted(case: Case, param: int, paper: int, full: int) -> list[Record]:
    modules = {"": 1, "host.spatial_blocks.0.attn": full // 4, "host.spatial_blocks.1.mlp": 5}
    modules["host.head_layers.1"] = full - sum(modules.values())
    return [
        record(case, "param_count", param),
        record(case, "flops_paper", paper, labels=("all",)),
        record(case, "flops_full", full, labels=("all",)),
        record(case, "flops_full_by_module", *modules.values(), labels=tuple(modules)),
    ]


def everything() -> list[Record]:
    """What a sweep of a baseline, HoT and H2OT leaves."""
    records = [
        *counted(BASE, 33_783_811, 277_250_000_000, 294_850_000_000),
        *counted(HOT, 35_000_323, 167_520_000_000, 174_220_000_000),
        *counted(H2OT, 34_003_811, 118_230_000_000, 121_430_000_000),
    ]
    for case, gib in ((BASE, 4), (HOT, 3), (H2OT, 2)):
        records.append(record(case, "training_peak_estimated_bytes", gib * GIB))
        records.append(record(case, "inference_process_peak_bytes", gib * GIB // 4))
    records += [
        record(BASE, "frame_noise_px", 6.0, 7.0, protocol={"description": "Clips of a dancer."}),
        record(H2OT, "frame_noise_px", 6.254),
        record(HOT, "frame_noise_px", status="skipped", reason="needs trained weights"),
    ]
    for part in range(3):
        records += visit(BASE, part, 0.5)
        records += visit(HOT, part, (0.4, 0.4), 0.1, 0.02)
        records += visit(H2OT, part, 0.2, 0.001, 0.003)
    return records


def tables(records: Iterable[Record], **setting: Any) -> dict[int, Table]:
    results = collect(list(records))
    return {number: paper_table(number, results, {**SETTING, **setting}) for number in TABLES}


def result(records: Sequence[Record], case: Case) -> Results:
    return collect(records)[case]


# --- cells -------------------------------------------------------------------------------------

FEW = ("(no interval)", ", no interval")  # of three rounds


@pytest.mark.parametrize(
    ("number", "column", "paper", "ours", "difference"),
    [
        (1, "param_m", "33.78", "33.78", "0.00"),
        (4, "param_m", "33.78", "34.00", "+0.22"),
        (1, "flops_g", "277.25", "277.25", "0.00"),
        (2, "flops_g", "167.52 (↓ 39.6%)", "167.52 (↓ 39.6%)", "0.00"),
        (4, "flops_g", "118.23 (↓ 57.4%)", "118.23 (↓ 57.4%)", "0.00"),
        (1, "fps_per_frame", "41", "2.00 (no interval)", ""),
        (2, "fps_per_frame", "56 (↑ 36.6%)", f"2.50 {FEW[0]} (↑ 25.0%{FEW[1]})", "-11.6 points"),
        (4, "fps_per_frame", "82 (↑ 100.0%)", f"5.00 {FEW[0]} (↑ 150.0%{FEW[1]})", "+50.0 points"),
        (1, "gpu_memory_g", "11.4", "4.00 est.", ""),
        (4, "gpu_memory_g", "5.6 (↓ 50.9%)", "2.00 est. (↓ 50.0%)", "+0.9 points"),
        (4, "mpjpe_mm", "40.5", "", ""),
    ],
)
def test_cells_of_table_4(number: int, column: str, paper: str, ours: str, difference: str) -> None:
    cell = tables(everything())[4].cells[number - 1][column]
    assert (cell.paper, cell.ours, cell.difference) == (paper, ours, difference)


def test_other_columns() -> None:
    made = tables(everything())
    noise = made[2].cells[0]["frame_noise"]
    assert (noise.paper, noise.ours, noise.comparable) == ("6.61", "6.50", "no")
    assert made[2].cells[1]["frame_noise"].reason == "skipped: needs trained weights"
    ratio = made[2].cells[1]["ratio"]
    assert (ratio.paper, ratio.ours) == ("0.33", "0.300")  # (0.1 + 0.02) / 0.4
    own = [made[4].cells[3][column.name].ours for column in COLUMNS if not column.printed]
    assert own == ["121.43", "1215.0 (no interval)", "0.50"]


def test_measured_memory_comes_before_the_estimate() -> None:
    records = [*everything(), record(H2OT, "training_allocated_peak_bytes", 3 * GIB)]
    cell = tables(records)[4].cells[3]["gpu_memory_g"]
    assert cell.ours == "3.00"  # and no change against an estimate
    assert cell.difference == ""


def test_repeated_rows_share_one_case() -> None:
    cells = tables(everything())[4].cells
    repeated = [cells[number - 1] for number in (4, 8, 11)]
    for name in ("param_m", "flops_g", "fps_per_frame", "gpu_memory_g"):
        assert len({line[name].ours for line in repeated}) == 1
        assert repeated[0][name].ours
    assert not cells[4]["flops_g"].ours  # the next row is another configuration


def test_notes_lead_from_the_cells_to_the_remarks() -> None:
    table = tables(everything())[2]
    for number in (3, 4, 5):
        marks = table.cells[number - 1]["flops_g"].notes
        assert any("Misprint: printed 167.52" in table.notes[mark - 1] for mark in marks)
    assert table.cells[5]["flops_g"].notes == ()
    (swapped,) = (note for note in tables([])[5].notes if "swapped" in note)
    assert swapped.startswith("Misprint: ")


SPARSE = {
    "nothing": [],
    "counts alone": counted(H2OT, 1, 2, 300),
    "latency alone": visit(H2OT, 0, 0.2),
    "baseline alone": [*counted(BASE, 1, 2, 300), *visit(BASE, 0, 0.5)],
    "a failure": [record(H2OT, "latency_s", status="oom", reason="out of memory")],
    "everything": everything(),
}


@pytest.mark.parametrize("records", SPARSE.values(), ids=SPARSE)
def test_no_cell_is_left_blank_without_a_word(records: list[Record]) -> None:
    for number, table in tables(records).items():
        sheet = table.csv()
        # Every printed result and three of our own, of every row.
        results = [c.name for c in COLUMNS if c.name in rows(number)[0].cells]
        assert len(sheet) == len(rows(number)) * (len(results) + 3)
        for line in sheet.to_dict("records"):
            assert line["ours"] or line["reason"]
            if line["comparable"] != "yes":
                assert line["reason"]
        lines = table.markdown().split("\n\n")[0].splitlines()
        widths = {line.count("|") for line in lines}
        assert len(widths) == 1
        assert len(lines) == len(rows(number)) + 2
        cells = [cell for line in lines for cell in line.strip("|").split("|")]
        parts = [part.strip(" *") for cell in cells for part in cell.split("<br>")]
        assert all(parts)


def test_a_missing_value_has_its_own_reason() -> None:
    records = [
        record(H2OT, "latency_s", status="failed", reason="kernel panic"),
        record(H2OT, "param_count", status="failed", reason="cannot count"),
    ]
    line = tables(records)[4].cells[3]
    assert line["fps_per_frame"].reason == "failed: kernel panic"
    assert line["param_m"].reason == "failed: cannot count"
    assert line["flops_g"].reason == "not measured"
    assert "kernel panic" in line["fps_per_frame"].markdown()


@pytest.mark.parametrize("number", TABLES)
def test_a_table_survives_csv(number: int, tmp_path: Path) -> None:
    sheet = tables(everything())[number].csv()
    sheet.to_csv(tmp_path / "t.csv", index=False)
    again = pd.read_csv(tmp_path / "t.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(again, sheet.astype(str), check_dtype=False)


# --- summing up --------------------------------------------------------------------------------


def test_a_speed_up_compares_rounds_of_one_session_alone() -> None:
    records = [
        *visit(BASE, 0, 1.0), *visit(H2OT, 0, 0.5),
        *visit(H2OT, 1, 1.0), *visit(BASE, 1, 2.0),
        *visit(H2OT, 2, 4.0),  # interrupted before the baseline's turn
        *visit(BASE, 3, 10.0, session="t"), *visit(H2OT, 3, 5.0, session="u"),
    ]  # fmt: skip
    found = result(records, H2OT)
    assert (found.speedup, found.rounds) == (2.0, 4)
    assert found.speed is not None
    assert found.speed.n == 2
    assert found.values["latency_s"] == 2.5  # median of 0.5, 1, 4, 5: naively a slow-down
    assert result(records, BASE).values["latency_s"] == 2.0
    assert result(records, BASE).speedup == 1.0


def test_a_drifting_machine_does_not_change_the_speed_up() -> None:
    records = [
        one
        for part, drift in enumerate((1.0, 2.0, 8.0, 30.0))
        for case, latency in ((BASE, 0.3), (H2OT, 0.2))
        for one in visit(case, part, latency * drift)
    ]
    assert result(records, H2OT).speedup == pytest.approx(1.5)


def test_several_samples_of_a_visit_count_once_in_a_pair() -> None:
    records = [
        *visit(BASE, 0, (1.0, 1.0, 7.0)),
        *visit(H2OT, 0, (0.25, 0.5, 0.75)),
        *visit(BASE, 1, 3.0),
        *visit(H2OT, 1, 1.0),
    ]
    assert result(records, H2OT).speedup == pytest.approx(6**0.5)  # of 2 and 3


def test_the_largest_group_counts() -> None:
    small = [*visit(BASE, 0, 9.0, group="small"), *visit(H2OT, 0, 1.0, group="small")]
    large = [one for case in (BASE, HOT) for one in visit(case, 0, 4.0, group="large")]
    large += visit(H2OT, 0, 2.0, group="large")
    for records in (small + large, large + small):
        found = collect(records)
        assert found[H2OT].values["latency_s"] == 2.0
        speed = found[H2OT].speed
        assert speed is not None
        assert (speed.value, speed.n) == (2.0, 1)
        assert found[BASE].values["latency_s"] == 4.0


def test_of_equal_groups_the_last_counts() -> None:
    first = [*visit(BASE, 0, 9.0, group="a"), *visit(H2OT, 0, 1.0, group="a")]
    later = [*visit(BASE, 0, 4.0, group="b"), *visit(H2OT, 0, 2.0, group="b")]
    assert result(first + later, H2OT).speedup == pytest.approx(2.0)
    assert result(later + first, H2OT).speedup == pytest.approx(9.0)


def test_a_case_of_a_small_group_is_compared_with_the_baseline_beside_it() -> None:
    tables_run = [one for case in (BASE, HOT, H2OT) for one in visit(case, 0, 8.0, group="large")]
    own_run = [*visit(BASE, 0, 1.0, group="own"), *visit(OWN, 0, 0.25, group="own")]
    found = collect(tables_run + own_run)
    speed = found[OWN].speed
    assert speed is not None
    assert (speed.value, speed.n) == (4.0, 1)
    assert found[BASE].values["latency_s"] == 8.0


NOISE = (1.0, 1.02, 0.99, 1.01, 0.98, 1.0, 1.03, 0.99)


def noisy(*cases: tuple[Case, float], parts: int = 8) -> list[Record]:
    """Rounds whose latencies vary, the row's otherwise than the baseline's."""
    return [
        one
        for part in range(parts)
        for i, (case, level) in enumerate(cases)
        for one in visit(case, part, level * NOISE[(part + 3 * i) % 8])
    ]


def test_what_is_sampled_has_an_interval() -> None:
    found = collect(noisy((BASE, 0.5), (H2OT, 0.2)))
    latency, clips = (found[H2OT].estimates[name] for name in ("latency_s", "clips_per_s"))
    assert latency.low is not None
    assert latency.high is not None
    assert 0.2 * 0.98 <= latency.low < latency.value < latency.high <= 0.2 * 1.03
    assert (clips.low, clips.high) == (1 / latency.high, 1 / latency.low)
    frames = found[H2OT].estimates["output_frames_per_s"]
    assert frames.high == pytest.approx(243 * (clips.high or 0))
    speed = found[H2OT].speed
    assert speed is not None
    assert speed.low is not None
    assert speed.high is not None
    assert speed.low < 2.5 < speed.high
    assert (speed.n, found[H2OT].rounds, found[H2OT].samples) == (8, 8, 8)
    base = found[BASE].speed
    assert base is not None
    assert (base.low, base.value, base.high) == (1.0, 1.0, 1.0)


def test_five_rounds_have_none() -> None:
    found = collect(noisy((BASE, 0.5), (H2OT, 0.2), parts=5))[H2OT]
    assert found.estimates["clips_per_s"].low is None
    assert found.speed is not None
    assert found.speed.low is None


def test_outliers_are_counted_and_kept() -> None:
    records = [*visit(H2OT, 0, (0.2, 0.21, 0.2, 0.19, 9.0)), *visit(H2OT, 1, (0.2, 0.21))]
    found = result(records, H2OT)
    assert (found.outliers, found.samples, found.rounds) == (1, 7, 2)
    assert found.values["latency_s"] == pytest.approx(0.2025)  # of 0.2 and 0.205


def test_visits_weigh_alike_however_many_samples_they_have() -> None:
    records = [*visit(H2OT, 0, (1.0,) * 9), *visit(H2OT, 1, 2.0), *visit(H2OT, 2, 3.0)]
    assert result(records, H2OT).values["latency_s"] == 2.0


def test_cells_show_how_well_they_are_known() -> None:
    cell = tables(noisy((BASE, 0.5), (H2OT, 0.2)))[4].cells[3]["fps_per_frame"]
    assert re.fullmatch(r"5\.0\d ±[12]% \(↑ 1[45]\d\.\d% \[1[45]\d, 1[45]\d\]\)", cell.ours)
    assert 4.8 < float(cell.low) < 5 < float(cell.high) < 5.1
    assert 140 < float(cell.change_low) < 150 < float(cell.change_high) < 160
    assert cell.samples == "8"
    other = tables(counted(H2OT, 1, 2, 300))[4].cells[3]["param_m"]
    assert (other.low, other.high, other.samples) == ("", "", "")


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (1.878, 1.82, 1.94, "↑ 87.8% [82, 94]"),
        (0.97, 0.95, 0.99, "↓ 3.0% [-5, -1]"),
        (1.004, 0.998, 1.012, "↑ 0.4% [-0.2, 1.2]"),
        (1.01, 0.9999, 1.03, "↑ 1.0% [0, 3]"),
        (1.5, None, None, "↑ 50.0%, no interval"),
    ],
)
def test_a_change_and_its_interval(
    value: float, low: float | None, high: float | None, text: str
) -> None:
    assert intervals.change(Estimate(value=value, low=low, high=high, level=0.95, n=8)) == text


@pytest.mark.parametrize(
    ("half", "text"), [(0.0, "±0.0%"), (0.004, "±0.4%"), (0.02, "±2%"), (0.0096, "±1%")]
)
def test_a_spread(half: float, text: str) -> None:
    known = Estimate(value=10, low=10 * (1 - half), high=10 * (1 + half), level=0.95, n=8)
    assert intervals.spread(known) == text


def test_the_heading_says_how_well_speeds_are_known(tmp_path: Path, no_pictures: None) -> None:
    gpu = replace(H2OT, device="cuda")
    records = noisy((BASE, 0.5), (H2OT, 0.2)) + visit(HOT, 0, (0.29, 0.3, 0.3, 0.31, 9.0))
    records += [replace(one, protocol={"host_bound": True}) for one in visit(gpu, 0, 0.1)]
    records += [
        record(case, "latency_rounds", 8, group="g", protocol={"ended": why})
        for case, why in ((BASE, "width"), (H2OT, "budget"))
    ]
    text = build(stored(tmp_path / "r.jsonl", records), tmp_path / "out").read_text("utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("- Timing"))
    assert re.search(r"median ±\d\.\d% \(middle case\), ±\d\.\d% \(widest\)", line)
    bound = f"GPU waits for the host (wall time over 10% above its own) in {gpu.label}"
    few, far = "2 with too few rounds for one", "1 of 22 samples are outliers, kept"
    for fact in (few, far, "rounds ended 1 before they were as precise as requested", bound):
        assert fact in line


def test_shares_are_taken_sample_by_sample() -> None:
    records = [*visit(H2OT, 0, 1.0, 0.5, 0.1), *visit(H2OT, 1, 10.0, 1.0, 1.0)]
    records += visit(H2OT, 2, 100.0, 1.0, 1.0)
    values = result(records, H2OT).values
    assert values["prune_recover_ratio"] == pytest.approx(0.2)  # of 0.6, 0.2 and 0.02
    assert values["prune_share"] == pytest.approx(0.1)
    assert values["recover_share"] == pytest.approx(0.1)


def test_a_visit_that_a_crash_cut_short_is_left_out_of_the_shares() -> None:
    latency, prune, recover = visit(H2OT, 1, (9.0, 9.0), 9.0, 9.0)
    late = replace(recover, session="later", values=(1.0,))  # what resuming measured
    whole = visit(H2OT, 0, 1.0, 0.25, 0.25)
    for rest in ([latency], [latency, prune], [latency, prune, late]):
        found = result([*whole, *rest], H2OT)
        assert found.values["prune_recover_ratio"] == 0.5
        assert found.rounds >= 1
    assert "prune_recover_ratio" not in result([latency], H2OT).values


def test_speed_counts_clips_and_frames() -> None:
    batch = replace(H2OT, batch=4)
    centre = replace(H2OT, recover=None, pipeline="seq2frame")
    records = [one for case in (H2OT, batch, centre) for one in visit(case, 0, 0.5)]
    found = collect(records)
    speeds = [
        (found[case].values["clips_per_s"], found[case].values["output_frames_per_s"])
        for case in (H2OT, batch, centre)
    ]
    assert speeds == [(2.0, 486.0), (8.0, 1944.0), (2.0, 2.0)]


def test_the_breakdown_adds_up() -> None:
    found = collect(everything())
    sheet = breakdown([found[BASE], found[H2OT]])
    for case, full in ((BASE, 294.85), (H2OT, 121.43)):
        assert sum(map(float, sheet[case.label])) == pytest.approx(full, abs=0.003)
    assert set(sheet.index) == {"(loop)", "host.spatial_blocks", "host.head_layers"}


def test_further_configurations_say_what_is_missing() -> None:
    records = [
        *visit(OWN, 0, 0.25),
        record(OWN, "param_count", 33_780_000),
        record(OWN, "training_peak_estimated_bytes", status="oom", reason="too large"),
    ]
    (line,) = further([result(records, OWN)]).to_dict("records")
    assert line["case"] == OWN.label
    assert line["Param (M)"] == "33.78"
    assert line["clips/s"] == "4.00 (no interval)"
    assert line["speed-up"] == "not measured"  # no baseline beside it
    assert line["training memory, estimated (GiB)"] == "oom: too large"
    assert line["remark"] == "oom: too large"
    assert all(v for name, v in line.items() if " low" not in name and " high" not in name)


def test_full_size_models_do_not_replace_the_subnets() -> None:
    about = {"weights": "w", "clips": ["a"], "step": 1}
    subnet = replace(H2OT, options=(("depth", 8), ("width", 64)))
    records = [
        record(subnet, "trunk_mpjpe_mm", 60.0, protocol=about),
        record(subnet, "flops_full", 5),
        record(H2OT, "scratch_mpjpe_mm", 50.0, protocol=about),
        record(H2OT, "flops_full", 121),
    ]
    session = collect_accuracy(records)
    assert session is not None
    assert session.sizes == {"depth": 8, "width": 64}
    (result,) = session.results.values()
    assert result.values["flops_full"] == 5


# --- metrics that no section knows ---------------------------------------------------------------


@pytest.fixture(scope="module")
def invented(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pd.DataFrame]:
    """A report's section on metrics that the reports have never heard of, and its file."""
    folder = tmp_path_factory.mktemp("invented")
    records = [
        *everything(),
        record(H2OT, "drift_mm", 1.0, 2.0, 3.0, 6.0, unit="mm"),
        record(OWN, "drift_mm", 2.5, unit="mm"),
        record(OWN, "noise_px", status="failed", reason="no noise"),
        record(H2OT, "switches", 3, 4, 5, labels=("left", "", "mean"), unit="1"),
        *(record(H2OT, "flips_s", v, v, group="g", part=i, unit="s") for i, v in enumerate(NOISE)),
        record(replace(H2OT, dtype="bfloat16"), "cache_b", 7, unit="B"),
    ]
    build(stored(folder / "r.jsonl", records), folder / "out")
    text = (folder / "out" / "ablation.md").read_text(encoding="utf-8")
    _, _, section = text.partition("## Other measurements")
    sheet = pd.read_csv(folder / "out" / "other.csv", dtype=str, keep_default_na=False)
    return section, sheet


def test_a_new_metric_is_shown(invented: tuple[str, pd.DataFrame]) -> None:
    text, _ = invented
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    names, rows = lines[4], lines[6:]
    shown = [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)]
    by_case = {(row["case"], row["metric"]): row for row in shown}
    drift = by_case[H2OT.label, "drift_mm"]
    assert (drift["value"], drift["unit"], drift["n"]) == ("3", "mm", "4")
    # Student's t with 3 degrees of freedom, 3.182446, times the standard error of 1.080123.
    assert float(drift["low"]) == pytest.approx(3 - 3.43743, abs=1e-4)
    assert float(drift["high"]) == pytest.approx(3 + 3.43743, abs=1e-4)
    single = by_case[OWN.label, "drift_mm"]
    assert [single[name] for name in ("value", "n", "low", "high")] == ["2.5", "1", "", ""]
    rounds = by_case[H2OT.label, "flips_s"]
    assert (rounds["value"], rounds["n"]) == ("1", "8")  # the median of NOISE
    assert float(rounds["low"]) < 1 < float(rounds["high"])
    assert by_case[replace(H2OT, dtype="bfloat16").label, "cache_b"]["precision"] == "bfloat16"
    assert ("noise_px", "failed", "no noise") in {tuple(line[:3]) for line in lines}
    assert "param_count" not in text  # it has a column elsewhere


def test_values_by_label_are_in_the_file(invented: tuple[str, pd.DataFrame]) -> None:
    text, sheet = invented
    assert "`switches` (1)" in text
    assert "| switches" not in text  # though one of its labels is an operator named mean
    switches = sheet[sheet["metric"] == "switches"]
    assert list(zip(switches["label"], switches["value"], strict=True)) == [
        ("left", "3"),
        ("(loop)", "4"),
        ("mean", "5"),
    ]


# --- the report --------------------------------------------------------------------------------


def stored(path: Path, records: Sequence[Record]) -> Path:
    with open_store(path, environment="f", note=[]) as store:
        store.append(records)
    return path


FULL = [
    *everything(),
    *visit(OWN, 0, 0.25, 0.05, 0.01, group="own"),
    record(OWN, "param_count", status="failed", reason="the abacus broke"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a report on made-up records."""
    folder = tmp_path_factory.mktemp("report")
    path = stored(folder / "records.jsonl", FULL)
    assert build(path, folder / "out") == folder / "out" / "ablation.md"
    return folder / "out"


def test_what_a_report_is_made_of(report: Path) -> None:
    files = {path.name for path in report.iterdir()}
    assert {"ablation.md", "further.csv", "flops_by_module.csv", "table_2.csv"} <= files
    text = (report / "ablation.md").read_text(encoding="utf-8")
    links = set(re.findall(r"\]\(([\w.]+)\)", text))
    assert links == files - {"ablation.md"}
    assert list(report.glob("*tmp*")) == []


def test_the_heading_says_where_and_how(report: Path) -> None:
    text = (report / "ablation.md").read_text(encoding="utf-8")
    heading = text[: text.index("Each cell")]
    for fact in (
        "Abacus 9000, 3 cores, 5 GiB, Plan 9 z80", "GPU: none", "Python 3.99, torch 9.9",
        "commit abc123 with local changes", "cpu, float32, batch 1", "Clips of a dancer.",
        "4 configurations, 1–3 interleaved rounds each, 1 session",
    ):  # fmt: skip
        assert fact in heading


def test_paper_and_ours_stand_side_by_side(report: Path) -> None:
    text = (report / "ablation.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| 4 | H2OT w. MixSTE |")]
    (line,) = (line for line in lines if "[121, 81] | [0, 3]" in line)
    assert "118.23 (↓ 57.4%)<br>**118.23 (↓ 57.4%)**<br>Δ 0.00" in line
    assert re.search(
        r"82 \(↑ 100\.0%\)<sup>\d+</sup><br>\*\*5\.00 \(no interval\) \(↑ 150\.0%, no ", line
    )
    assert "<br>*not measured*" in line


def test_every_failure_is_listed(report: Path) -> None:
    text = (report / "ablation.md").read_text(encoding="utf-8")
    failures = text[text.index("## Not measured, and why") :]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in failures.splitlines()]
    assert ["frame_noise_px", "skipped", "needs trained weights", HOT.label] in lines
    assert ["param_count", "failed", "the abacus broke", OWN.label] in lines


def test_csv_files_hold_what_the_tables_show(report: Path) -> None:
    for number, table in tables(FULL).items():
        path = report / f"table_{number}.csv"
        if not path.is_file():  # none of its rows was measured
            assert not table.measured
            continue
        sheet = pd.read_csv(path, dtype=str, keep_default_na=False)
        pd.testing.assert_frame_equal(sheet, table.csv().astype(str), check_dtype=False)
    sheet = pd.read_csv(report / "further.csv", dtype=str, keep_default_na=False)
    assert list(sheet["case"]) == [OWN.label]


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height from the header of a PNG file."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content[12:16] == b"IHDR"
    assert content.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_pictures_are_pictures(report: Path) -> None:
    pictures = sorted(report.glob("*.png"))
    assert {path.name for path in pictures} >= {"flops_speed.png", "speedup.png", "ratio.png"}
    for path in pictures:
        width, height = picture_size(path)
        assert 400 <= width <= 3000
        assert 150 <= height <= 3000
        assert path.stat().st_size > 5000


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "draw", lambda *arguments: [])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_records_make_the_same_report(
    report: Path, tmp_path: Path, no_pictures: None
) -> None:
    again = build(report.parent / "records.jsonl", tmp_path / "out")
    old = (report / "ablation.md").read_text(encoding="utf-8")
    cut = re.compile(r"## Plots.*?(?=\n## )", re.DOTALL)
    assert cut.sub("", again.read_text(encoding="utf-8")) == cut.sub("", old).replace(
        "\n\n\n", "\n\n"
    )
    for path in (tmp_path / "out").glob("*.csv"):
        assert path.read_bytes() == (report / path.name).read_bytes()


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), UsageError),
        (RuntimeError("a bug"), RuntimeError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_an_old_report_stays_whole_when_a_new_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException,
    shown: type[BaseException],
) -> None:  # fmt: skip
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(plots, "draw", lambda *arguments: [])
        build(stored(tmp_path / "old.jsonl", everything()), out)
    before = contents(out)

    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(plots, "draw", fail)
    newer = stored(tmp_path / "new.jsonl", [*counted(BASE, 1, 2, 300), *visit(BASE, 0, 9.0)])
    with pytest.raises(shown):
        build(newer, out)
    assert contents(out) == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    path = stored(tmp_path / "records.jsonl", everything())
    (tmp_path / "file").write_text("no folder")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match=r"cannot write to .*; name another --out"):
            build(path, out)
    assert (tmp_path / "file").read_text() == "no folder"


OTHER = {"device": "cuda", "dtype": "bfloat16", "batch": 4, "threads": 2, "motion": "motion:x:1"}


@pytest.mark.parametrize("setting", [{name: value} for name, value in OTHER.items()] + [OTHER])
def test_tables_are_answered_in_whatever_setting_was_measured(
    tmp_path: Path, no_pictures: None, setting: dict[str, Any]
) -> None:
    records = [replace(one, case=replace(one.case, **setting)) for one in everything()]
    records += visit(H2OT, 0, 0.75)  # fewer in the usual setting
    out = build(stored(tmp_path / "records.jsonl", records), tmp_path / "out").parent
    sheet = pd.read_csv(out / "table_4.csv", dtype=str, keep_default_na=False)
    speeds = sheet[(sheet["row"] == "4") & (sheet["column"] == "fps_per_frame")]
    batch = setting.get("batch", 1)
    assert list(speeds["ours"]) == [f"{5 * batch}.00 {FEW[0]} (↑ 150.0%{FEW[1]})"]
    (line,) = pd.read_csv(out / "further.csv", dtype=str).to_dict("records")
    assert (line["batch"], line["device"], line["clips/s"]) == ("1", "cpu", "1.33 (no interval)")


@pytest.mark.parametrize("missing", ["flops_full", "prune_s", "latency_s"])
def test_pictures_are_left_out_where_there_is_nothing_to_draw(tmp_path: Path, missing: str) -> None:
    records = [one for one in everything() if one.metric != missing and one.case != HOT]
    out = build(stored(tmp_path / "records.jsonl", records), tmp_path / "out").parent
    drawn = {path.name for path in out.glob("*.png")}
    gone = {
        "flops_full": {"flops_speed.png"},
        "prune_s": {"ratio.png"},
        "latency_s": {"flops_speed.png", "speedup.png", "ratio.png"},
    }
    assert not drawn & gone[missing]
    text = (out / "ablation.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((\w+\.png)\)", text)) == drawn
