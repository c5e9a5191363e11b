"""The paper's tables as data."""

from __future__ import annotations

from pathlib import Path

import pytest

import h2ot_core
from bench import paper
from bench.paper import DESCRIPTIVE, TABLES, PaperRow, about, misprints, remarks, rows
from bench.records.case import Case
from bench.records.errors import UsageError


@pytest.mark.parametrize(("table", "count"), [(2, 6), (4, 24), (5, 11)])
def test_as_many_rows_as_printed(table: int, count: int) -> None:
    assert [row.number for row in rows(table)] == list(range(1, count + 1))


def known(table: int) -> list[tuple[PaperRow, Case]]:
    """The rows of a table that report a host known here, and their cases."""
    return [(row, case) for row in rows(table) if (case := row.case()) is not None]


def test_41_rows_of_the_ablations_are_31_cases() -> None:
    cases = [case for table in (2, 4, 5) for _, case in known(table)]
    assert len(cases) == 41
    assert len(set(cases)) == len({case.key for case in cases}) == 31


@pytest.mark.data
@pytest.mark.parametrize("table", TABLES)
def test_cells_are_those_of_the_transcript(shared_dir: Path, table: int) -> None:
    own = Path(paper.__file__).with_name(f"table_{table}.csv").read_text(encoding="utf-8")
    transcript = (shared_dir / f"paper/tables/table{table}.csv").read_text(encoding="utf-8")
    lines = [line for line in own.splitlines() if not line.startswith("# ")]
    assert lines == transcript.splitlines()


@pytest.mark.parametrize("table", TABLES)
def test_files_say_what_a_table_is(table: int) -> None:
    assert set(about(table)) - {"r without pruning", "not implemented"} == {"title"}
    backbones = {row.cells["backbone"] for row in rows(table)}
    absent = set(filter(None, about(table).get("not implemented", "").split(", ")))
    assert absent < backbones
    assert {paper.host_title(name.lower()) for name in backbones} == backbones
    assert {name.lower() for name in backbones - absent} <= set(h2ot_core.HOSTS)


def test_tables_of_one_host() -> None:
    assert paper.tables_of("mixste", "seq2seq") == (2, 4, 5)
    assert paper.tables_of("mixste", "seq2frame") == (6,)
    assert paper.tables_of("motionbert", "seq2seq") == ()


def test_rows_name_their_cases() -> None:
    assert rows(2)[3].case() == Case(
        host="mixste", frames=243, prune="tpmo", recover="tra", r=(81,), b=(3,)
    )
    assert rows(4)[5].case() == Case(
        host="mixste", frames=243, prune="tps", recover="tri", r=(189, 121, 81, 49), b=(0, 3, 5, 7)
    )
    assert rows(5)[2].case() == Case(host="mixste", frames=105)
    assert rows(5)[9].case() == Case(
        host="mixste", frames=243, prune="tpc", recover="tra", r=(15,), b=(3,)
    )


@pytest.mark.parametrize("table", TABLES)
def test_every_case_can_be_built(table: int) -> None:
    for case in {case for _, case in known(table)}:
        config = h2ot_core.build(**case.build_arguments(), width=8, heads=1).config
        assert (config.frames, config.r, config.b) == (case.frames, case.r, case.b)
        assert (config.prune, config.recover) == (case.prune, case.recover)
        assert config.pipeline == case.pipeline


def test_methods_and_names() -> None:
    assert [row.method for row in rows(2)[:2]] == ["MixSTE", "Ours"]
    assert [row.method for row in rows(4)[:3]] == ["MixSTE", "HoT w. MixSTE", "H2OT w. MixSTE"]
    assert rows(4)[3].name == "Table 4, row 4"


def test_printed_numbers() -> None:
    assert rows(4)[3].value("flops_g") == 118.23
    assert rows(2)[0].value("ratio") is None  # the paper prints a dash
    assert rows(5)[0].value("fps_per_frame") is None  # Table 5 has no such column


def test_a_table_that_cannot_be_measured() -> None:
    with pytest.raises(UsageError, match=r"table 1 is not available; choose from 2, .*\."):
        rows(1)


def test_misprints_point_at_printed_cells() -> None:
    assert misprints()
    for misprint in misprints():
        printed = rows(misprint.table)
        assert set(misprint.rows) <= {row.number for row in printed}
        assert all(misprint.column in row.cells for row in printed)
        assert misprint.kind in ("misprint", "contradiction", "remark")
        assert misprint.reason.strip()
        assert not misprint.reason.endswith(".")


def test_the_cells_that_cannot_be_reproduced_are_noted() -> None:
    wrong = {
        (m.table, number, m.column)
        for m in misprints()
        for number in m.rows
        if m.kind == "misprint" and m.column not in DESCRIPTIVE and m.table in (2, 4, 5)
    }
    assert wrong == {(2, 3, "flops_g"), (2, 4, "flops_g"), (2, 5, "flops_g")}


def test_one_configuration_printed_with_several_values_is_noted() -> None:
    repeated: dict[tuple[Case, str], set[str]] = {}
    where: dict[tuple[Case, str], list[tuple[int, int]]] = {}
    for row, case in (pair for table in TABLES for pair in known(table)):
        for column, text in row.cells.items():
            if column not in DESCRIPTIVE and text:
                repeated.setdefault((case, column), set()).add(text)
                where.setdefault((case, column), []).append((row.table, row.number))
    contradictory = [key for key, texts in repeated.items() if len(texts) > 1]
    assert contradictory
    for case, column in contradictory:
        noted = [
            rows(table)[number - 1]
            for table, number in where[case, column]
            if remarks(rows(table)[number - 1], column)
        ]
        assert noted, (case.label, column)


def test_remarks_of_one_column_or_all() -> None:
    row = rows(2)[1]
    assert {m.column for m in remarks(row)} == {"frame_noise", "param_m", "ratio", "fps_per_frame"}
    assert [m.column for m in remarks(row, "ratio")] == ["ratio"]
    assert remarks(row, "mpjpe_mm") == []
