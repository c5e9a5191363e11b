"""The command roofline."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench import limits
from bench.case import Case
from bench.errors import UsageError
from bench.record import Record
from bench.store import Store
from bench.units import giga, rounded


def add(commands: Any, store: Path) -> None:
    """The roofline command.

    Args:
        commands: the subcommands of the command line.
        store: the usual record file.
    """
    roofline = commands.add_parser(
        "roofline",
        help="this machine's limits, and how near to them the timed rows are",
        description="Measure the highest rate of arithmetic (a large matrix product) and the "
        "memory bandwidth (a large copy) of this machine, count the bytes that every timed row "
        "of the store moves, and tell how many times the lower bound each row takes. Without "
        "timed rows the machine alone is measured. Run it when the machine has nothing else to "
        "do; the report shows the same.",
    )
    roofline.add_argument("--store", type=Path, default=store, help=f"record file ({store})")
    roofline.add_argument(
        "--device", default="cpu", choices=("cpu", "cuda"), help="without timed rows (cpu)"
    )
    roofline.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    roofline.add_argument("--threads", type=int, default=0, help="without timed rows")
    roofline.set_defaults(run=_roofline)


def _roofline(given: argparse.Namespace) -> None:
    import torch

    from bench import store, sweep
    from bench.environment import environment

    known = store.read(given.store) if given.store.is_file() else []
    threads = known[-1].environment["threads"] if known else given.threads
    if threads:
        torch.set_num_threads(threads)
    here = environment(torch.get_num_threads())["fingerprint"]
    if any(r.environment.get("fingerprint") != here for r in known):
        raise UsageError(
            f"the records in {given.store} are of other code or another machine, whose limits "
            "cannot be measured here; measure again with python -m bench run, or name another "
            "--store"
        )
    cases = list(
        dict.fromkeys(r.case for r in known if r.metric == "latency_s" and r.status == "ok")
    )
    alone = Case(host="", frames=0, device=given.device, dtype=given.dtype, threads=given.threads)
    settings = cases or [alone]
    if any(case.device == "cuda" for case in settings) and not torch.cuda.is_available():
        raise UsageError("no CUDA device here; use --device cpu")
    with sweep.opened(given.store) as (file, stamp):
        for case in dict.fromkeys(map(limits.machine_case, settings)):
            _machine(case, file, stamp)
        for case in cases:
            _take(case, limits.MOVED, "B", partial(_bytes, case), file, stamp)
        print(_shown(file.records))
    print(f"records: {given.store}")


def _machine(case: Case, file: Store, stamp: Mapping[str, Any]) -> None:
    from bench.roofline import bandwidth, peak_flops

    def rate(found: list[float]) -> dict[str, Any]:
        return {"values": tuple(found), "protocol": {"best": "of all repetitions counts"}}

    _take(
        case, limits.FLOPS, "flop/s", lambda: rate(peak_flops(case.device, case.dtype)), file, stamp
    )
    _take(case, limits.BANDWIDTH, "B/s", lambda: rate(bandwidth(case.device)), file, stamp)


def _bytes(case: Case) -> dict[str, Any]:
    from bench.roofline import case_traffic

    moved = case_traffic(case)
    return {
        "values": (moved.parameters, moved.activations),
        "labels": ("parameters", "activations"),
        "protocol": {"batch": case.batch, "counted": "inputs and outputs of every operator once"},
    }


def _take(
    case: Case,
    metric: str,
    unit: str,
    measure: Callable[[], dict[str, Any]],
    file: Store,
    stamp: Mapping[str, Any],
) -> None:
    """Store one metric of a case, or why there is none, unless it is there."""
    from bench.metrics.base import excuse

    if (case, metric, "", 0) in file:
        return
    try:
        found = measure()
    except Exception as error:  # such as a dtype without a product here; the others go on
        found = {"values": (), **excuse(error)}
    file.append([Record(case=case, metric=metric, unit=unit, **found, **stamp)])


def _shown(records: Sequence[Record]) -> str:
    from tabulate import tabulate

    names = {limits.FLOPS: "FLOP/s", limits.BANDWIDTH: "byte/s"}
    lines = [
        f"{case.device}, {case.dtype}: {giga(rate, 1)} G{names[metric]}"
        for case, metric, rate in limits.rates(records)
    ]
    rows = [
        [
            row.case.label,
            rounded(1e3 * row.measured_s, 2),
            "–" if row.bound_s is None else rounded(1e3 * row.bound_s, 2),
            row.ruled_by or "no FLOPs or rates in the store",
            "–" if row.times is None else rounded(row.times, 2),
        ]
        for row in limits.limits(records)
    ]
    if rows:
        headers = ["configuration", "median (ms)", "bound (ms)", "ruled by", "times the limit"]
        lines += ["", tabulate(rows, headers=headers, disable_numparse=True)]
    return "\n".join(lines)
