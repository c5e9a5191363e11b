"""Cases and records: frozen values that survive a file."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import h2ot_core
from bench.records.case import Case
from bench.records.record import SCHEMA, STATUSES, Record

SMALL: tuple[tuple[str, Any], ...] = (("depth", 5), ("heads", 2), ("joints", 5), ("width", 16))
BASE = Case(host="mixste", frames=27)

# Another value for every field.
OTHER: dict[str, Any] = {
    "host": "other",
    "frames": 81,
    "prune": "tpc",
    "recover": "tra",
    "r": (9,),
    "b": (3,),
    "pipeline": "seq2frame",
    "options": (("tpc_k", 5),),
    "batch": 2,
    "device": "cuda",
    "dtype": "float16",
    "threads": 1,
    "motion": "generated:1",
    "strategy_options": ("seed",),
}

words = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8)
counts = st.integers(0, 500)
cases = st.builds(
    Case,
    host=words,
    frames=counts,
    prune=st.none() | words,
    recover=st.none() | words,
    r=st.lists(counts, max_size=4).map(tuple),
    b=st.lists(counts, max_size=4).map(tuple),
    pipeline=words,
    options=st.dictionaries(words, counts | words, max_size=3).map(
        lambda options: tuple(sorted(options.items()))
    ),
    batch=counts,
    device=words,
    dtype=words,
    threads=counts,
    motion=st.text(max_size=8),
    strategy_options=st.lists(words, max_size=2).map(tuple),
)
plain = st.dictionaries(words, st.none() | st.booleans() | counts | words, max_size=3)
values = st.lists(
    st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False),
    min_size=1,
    max_size=4,
).map(tuple)


@st.composite
def records(draw: st.DrawFn) -> Record:
    status = draw(st.sampled_from(STATUSES))
    taken = draw(values) if status == "ok" else ()
    labelled = draw(st.booleans())
    return Record(
        case=draw(cases),
        metric=draw(words),
        unit=draw(words),
        values=taken,
        labels=tuple(map(str, range(len(taken)))) if labelled else (),
        group=draw(words),
        part=draw(counts),
        session=draw(words),
        protocol=draw(plain),
        environment=draw(plain),
        status=status,
        reason="" if status == "ok" else draw(words),
    )


# --- cases -------------------------------------------------------------------------------------


@given(cases)
def test_a_case_survives_json(case: Case) -> None:
    again = Case.from_json(json.loads(json.dumps(case.to_json())))
    assert again == case
    assert hash(again) == hash(case)
    assert again.key == case.key


def test_a_baseline_lacks_the_options_of_strategies() -> None:
    options = (("rand_seed", 5), ("tpc_k", 3), ("width", 64))
    case = replace(BASE, prune="own", r=(9,), b=(1,), options=options)
    assert case.baseline.options == (("rand_seed", 5), ("width", 64))
    own = replace(case, strategy_options=("rand_seed",))
    assert own.baseline == replace(BASE, options=(("width", 64),))
    assert own.baseline.baseline == own.baseline


def test_a_case_written_before_strategies_had_names_of_their_own_reads() -> None:
    data = BASE.to_json()
    assert "strategy_options" not in data
    assert Case.from_json(data) == BASE


def test_a_case_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        BASE.frames = 81  # type: ignore[misc]


def test_every_field_is_part_of_the_key() -> None:
    assert set(OTHER) == {field.name for field in fields(Case)}
    variants = [BASE, *(replace(BASE, **{name: value}) for name, value in OTHER.items())]
    assert len({case.key for case in variants}) == len(variants)
    assert len(set(variants)) == len(variants)


@pytest.mark.parametrize(
    ("case", "label"),
    [
        (BASE, "mixste-f27"),
        (
            replace(BASE, frames=243, prune="tps", recover="tri", r=(121, 81), b=(0, 3)),
            "mixste-f243-tps+tri-r121,81-b0,3",
        ),
        (
            replace(BASE, prune="tps", r=(9,), b=(1,), pipeline="seq2frame", batch=4),
            "mixste-f27-tps-r9-b1-seq2frame-batch4",
        ),
        (replace(BASE, options=(("depth", 4),)), "mixste-f27-depth=4"),
    ],
)
def test_labels(case: Case, label: str) -> None:
    assert case.label == label
    assert case.key.startswith(label)


def test_a_baseline_keeps_the_host_and_its_input() -> None:
    case = replace(
        BASE, prune="tpc", recover="tra", r=(9,), b=(1,), batch=3, dtype="bfloat16",
        options=(("tpc_k", 5), ("width", 16)),
    )  # fmt: skip
    baseline = replace(BASE, batch=3, dtype="bfloat16", options=(("width", 16),))
    assert case.baseline == baseline
    assert baseline.baseline == baseline


@pytest.mark.parametrize("change", [{"colour": "red"}, {"frames": None}])
def test_a_case_with_other_fields_is_refused(change: dict[str, Any]) -> None:
    data = {**BASE.to_json(), **change}
    if change == {"frames": None}:
        del data["frames"]
    with pytest.raises(ValueError, match=next(iter(change))):
        Case.from_json(data)


# What each scheme stands for, from the paper's Section 4 and the predecessor's.
SCHEMES = {
    "none": Case(host="mixste", frames=243),
    "hot": Case(host="mixste", frames=243, prune="tpc", recover="tra", r=(81,), b=(3,)),
    "h2ot": Case(host="mixste", frames=243, prune="tps", recover="tri", r=(121, 81), b=(0, 3)),
    "tpc": Case(
        host="mixste", frames=243, prune="tpc", r=(81,), b=(3,), pipeline="seq2frame"
    ),
    "tpm": Case(
        host="mixste", frames=243, prune="tps", r=(121, 81), b=(0, 3), pipeline="seq2frame"
    ),
}  # fmt: skip


@pytest.mark.parametrize("scheme", h2ot_core.SCHEMES)
def test_a_case_builds_what_its_scheme_builds(scheme: str) -> None:
    case = replace(SCHEMES[scheme], options=SMALL)
    own = h2ot_core.build(**case.build_arguments()).config
    named = h2ot_core.build("mixste", scheme=scheme, **dict(SMALL)).config
    # A case spells its strategies out, so the scheme it names is always "none".
    assert replace(own, scheme=scheme) == named


@pytest.mark.parametrize("scheme", h2ot_core.SCHEMES)
def test_a_case_builds_its_baseline(scheme: str) -> None:
    case = replace(SCHEMES[scheme], options=SMALL)
    config = h2ot_core.build(**case.baseline.build_arguments()).config
    assert (config.prune, config.recover, config.r, config.b) == (None, None, (), ())
    assert config.pipeline == case.pipeline
    assert dict(config.options).items() >= dict(SMALL).items()


# --- records -----------------------------------------------------------------------------------


@given(records())
def test_a_record_survives_json(record: Record) -> None:
    again = Record.from_json(json.loads(json.dumps(record.to_json(), allow_nan=False)))
    assert again == record
    assert again.identity == record.identity


def _record(**changes: Any) -> Record:
    return Record(**{"case": BASE, "metric": "m", "unit": "1", "values": (1,), **changes})


def test_what_makes_two_records_the_same_measurement() -> None:
    record = _record()
    same = _record(values=(2, 3), session="later", environment={"cpu": "other"}, unit="s")
    assert same.identity == record.identity
    others = [
        _record(case=replace(BASE, frames=9)),
        _record(metric="n"),
        _record(group="g"),
        _record(part=1),
    ]
    assert len({r.identity for r in (record, *others)}) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "fine"}, "status must be one of"),
        ({"reason": "because"}, "carries a reason"),
        ({"status": "oom", "values": ()}, "carries a reason"),
        ({"status": "failed", "reason": "because"}, "carries values"),
        ({"values": ()}, "carries values"),
        ({"labels": ("a", "b")}, "1 values but 2 labels"),
    ],
)
def test_records_that_contradict_themselves(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _record(**changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": SCHEMA + 1}, f"schema {SCHEMA + 1}, this version reads up to {SCHEMA}"),
        ({"colour": "red"}, "colour"),
        ({"status": "fine"}, "status must be one of"),
        ({"case": {**BASE.to_json(), "colour": "red"}}, "colour"),
    ],
)
def test_records_from_elsewhere_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Record.from_json({**_record().to_json(), **change})


@pytest.mark.parametrize("data", [[], {}, {"schema": 1}, "text", 3, None])
def test_other_json_is_no_record(data: Any) -> None:
    with pytest.raises(ValueError, match="not a record"):
        Record.from_json(data)


def test_a_record_without_a_field_is_refused() -> None:
    data = _record().to_json()
    del data["session"]
    with pytest.raises(ValueError, match="session"):
        Record.from_json(data)
