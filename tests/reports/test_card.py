"""The shipped model card."""

from __future__ import annotations

from pathlib import Path

from bench.models.supernet import SHIPPED, open_supernet
from bench.records import store
from bench.records.case import Case
from bench.records.record import Record
from reports.card import write_card


def test_the_card_is_what_its_writer_writes(tmp_path: Path) -> None:
    trunk = open_supernet()
    about = {
        "weights": trunk.digest, "clips": ["a"], "actions": ["walk"], "views": 1, "frames": 243,
        "steps": 1, "step": 1, "description": "A clip.",
    }  # fmt: skip
    case = Case(host="mixste", frames=243, options=trunk.options, motion="motion:m:0")
    errors = Record(
        case=case, metric="trunk_mpjpe_mm", unit="mm", values=(60.0,), group="g", protocol=about
    )
    store.write(tmp_path / "r.jsonl", [errors])
    card = write_card(tmp_path / "r.jsonl", trunk.header(), tmp_path / "card.md").read_text("utf-8")
    shipped = SHIPPED.with_suffix(".md").read_text(encoding="utf-8")
    end = "## Errors per action"  # from there on it depends on the records
    assert card.partition(end)[0] == shipped.partition(end)[0]
    for text in (card, shipped):
        assert "`python -m bench accuracy --motion FILE --report` repeats this" in text
