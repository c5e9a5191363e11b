"""The command roofline."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.cli.options import (
    STORE,
)
from bench.records import roofline_bound, session
from bench.records.case import Case
from bench.records.errors import UsageError
from bench.records.record import Record
from bench.records.units import giga, rounded
from bench.scenarios.roofline import _bytes, _machine, _take


def add(commands: Any) -> None:
    """Add the command."""
    roofline = commands.add_parser(
        "roofline",
        help="this machine's limits, and how near to them the timed rows are",
        description="Measure the highest rate of arithmetic (a large matrix product) and the "
        "memory bandwidth (a large copy) of this machine, count the bytes that every timed row "
        "of the store moves, and tell how many times the lower bound each row takes. Without "
        "timed rows the machine alone is measured. Run it when the machine has nothing else to "
        "do; the report shows the same.",
    )
    roofline.add_argument("--store", type=Path, default=STORE, help=f"record file ({STORE})")
    roofline.add_argument(
        "--device", default="cpu", choices=("cpu", "cuda"), help="without timed rows (cpu)"
    )
    roofline.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    roofline.add_argument("--threads", type=int, default=0, help="without timed rows")
    roofline.set_defaults(run=_roofline)


def _roofline(args: argparse.Namespace) -> None:
    import torch

    from bench.records import store
    from bench.records.environment import environment

    known = store.read(args.store) if args.store.is_file() else []
    threads = known[-1].environment["threads"] if known else args.threads
    if threads:
        torch.set_num_threads(threads)
    here = environment(torch.get_num_threads())["fingerprint"]
    if any(r.environment.get("fingerprint") != here for r in known):
        raise UsageError(
            f"the records in {args.store} are of other code or another machine, whose limits "
            "cannot be measured here; measure again with python -m bench run, or name another "
            "--store"
        )
    cases = list(
        dict.fromkeys(r.case for r in known if r.metric == "latency_s" and r.status == "ok")
    )
    alone = Case(host="", frames=0, device=args.device, dtype=args.dtype, threads=args.threads)
    settings = cases or [alone]
    if any(case.device == "cuda" for case in settings) and not torch.cuda.is_available():
        raise UsageError("no CUDA device here; use --device cpu")
    with session.opened(args.store) as (file, stamp):
        for case in dict.fromkeys(map(roofline_bound.machine_case, settings)):
            _machine(case, file, stamp)
        for case in cases:
            _take(case, roofline_bound.MOVED, "B", partial(_bytes, case), file, stamp)
        print(_shown(file.records))
    print(f"records: {args.store}")


def _shown(records: Sequence[Record]) -> str:
    from tabulate import tabulate

    names = {roofline_bound.FLOPS: "FLOP/s", roofline_bound.BANDWIDTH: "byte/s"}
    lines = [
        f"{case.device}, {case.dtype}: {giga(rate, 1)} G{names[metric]}"
        for case, metric, rate in roofline_bound.rates(records)
    ]
    rows = [
        [
            row.case.label,
            rounded(1e3 * row.measured_s, 2),
            "–" if row.bound_s is None else rounded(1e3 * row.bound_s, 2),
            row.ruled_by or "no FLOPs or rates in the store",
            "–" if row.times is None else rounded(row.times, 2),
        ]
        for row in roofline_bound.limits(records)
    ]
    if rows:
        headers = ["configuration", "median (ms)", "bound (ms)", "ruled by", "times the limit"]
        lines += ["", tabulate(rows, headers=headers, disable_numparse=True)]
    return "\n".join(lines)
