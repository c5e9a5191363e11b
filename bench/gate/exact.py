"""The exact part: counts of every host and scheme, and estimated training memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from bench.gate.revisions import HARNESS, Revision
from bench.models.resolve import resolve
from bench.records import store
from bench.records.case import Case
from bench.records.environment import environment
from bench.records.errors import StoreError, UsageError
from bench.records.files import folder_digest
from bench.records.record import Record
from bench.records.status import Failure
from h2ot_core import HOSTS, SCHEMES, AbstractHost, ConfigError

Tick = Callable[[str], None]

_TIMEOUT_S = 1800.0  # of one case


def library_hosts() -> dict[str, type[AbstractHost]]:
    """The hosts without those of plug-ins, which neither revision has."""
    return {n: host for n, host in HOSTS.items() if host.__module__.startswith("h2ot_core.")}


def every_case() -> list[Case]:
    """Every scheme of every host that supports it, as the working tree resolves them."""
    cases = []
    for host in library_hosts():
        for scheme in SCHEMES:
            try:
                cases.append(resolve({"host": host, "scheme": scheme}))
            except ConfigError:  # the host does not support the scheme
                continue
    return list(dict.fromkeys(cases))


def measure(
    kind: str,
    sides: Sequence[Revision],
    cases: Sequence[Case],
    tick: Tick,
    cache: Path | None = None,
) -> list[list[Record]]:
    """Measure cases on every side, at the same time: nothing here reads a clock.

    Args:
        kind: "counts" or "memory".
        tick: called with the label of every case that is done, once per side.
        cache: a folder that keeps the records of committed libraries; None to measure again.

    Returns:
        The records of each side, in order.

    Raises:
        UsageError: if a worker process fails.
    """
    with ThreadPoolExecutor(len(sides)) as pool:
        return list(pool.map(lambda side: _side(kind, side, cases, tick, cache), sides))


def _side(
    kind: str, side: Revision, cases: Sequence[Case], tick: Tick, cache: Path | None
) -> list[Record]:
    facts = side.facts(torch.get_num_threads())
    kept = _cache_file(cache, kind, side) if cache is not None and not side.dirty else None
    records: list[Record] = []
    if kept is not None:
        with suppress(StoreError):  # missing, or torn by a crash: measured again
            records = store.read(kept)
    known = {record.case for record in records}
    for case in cases:
        if case in known:
            tick(case.label)
    todo = [case for case in cases if case not in known]
    if todo:
        records += _measured(kind, side, todo, tick)
        if kept is not None:
            with suppress(UsageError):  # without a cache, it is measured again the next time
                store.write(kept, records)
    return [
        replace(record, environment=facts, session=side.name)
        for record in records
        if record.case in cases
    ]


def _measured(kind: str, side: Revision, cases: Sequence[Case], tick: Tick) -> list[Record]:
    """The records of one process, as they come."""
    records = []
    try:
        with side.worker(timeout_s=_TIMEOUT_S) as process:
            process.receive()
            for case in cases:
                answer = process.call("measure", kind=kind, case=case.to_json())
                records += [Record.from_json(data) for data in answer["records"]]
                tick(case.label)
    except Failure as failure:
        raise UsageError(f"{kind} of the {side.name} ({side.commit}) failed: {failure}") from None
    return records


# --- what is kept between runs -----------------------------------------------------------------


def _cache_file(cache: Path, kind: str, side: Revision) -> Path:
    """Named by the commit, the files of library and harness, and the versions that count."""
    here = environment(torch.get_num_threads())
    library = folder_digest(side.root / "h2ot_core")
    harness = folder_digest(HARNESS / "bench")
    versions = f"{here['torch'].partition('+')[0]}-{here['python']}"
    return cache / f"{kind}-{side.commit}-{library}-{harness}-{versions}.jsonl"
