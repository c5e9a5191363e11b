"""The command roofline."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench.cli import options
from bench.records import roofline_bound
from bench.records.record import Record
from bench.records.units import giga, rounded

HELP = "this machine's limits, and how near to them the timed rows are"
DESCRIPTION = (
    "Measure the highest rate of arithmetic (a large matrix product) and the memory bandwidth (a "
    "large copy) of this machine, count the bytes that every timed row of the store moves, and "
    "report how many times the lower bound each row takes. Without timed rows the machine alone is "
    "measured. Run it when the machine has nothing else to do; the report shows the same."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.add_shared(parser, "store", device={"help": "without timed rows (cpu)"})
    options.add_shared(parser, "dtype", threads={"help": "without timed rows"})


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    from bench.scenarios import roofline

    found = roofline.run(args.store, device=args.device, dtype=args.dtype, threads=args.threads)
    print(_shown(found))
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
