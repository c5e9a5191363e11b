"""The command figures."""

from __future__ import annotations

import argparse

from bench.cli import options

HELP = "measure what the paper's figures show"
DESCRIPTION = (
    "Measure the frames that each pruner keeps over one clip (Figure 7) and the poses of three "
    "sequences with those kept (Figure 10), into the same store as the tables. A few minutes; the "
    "same command resumes after an interruption."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.add_shared(parser, "motion", "threads", "store", "report", "out")


def run(args: argparse.Namespace) -> None:
    """Measure."""
    from bench.models.context import Context
    from bench.scenarios import figures

    figures.run(args.store, Context(options.motion_source(args)), threads=args.threads)
    options.finish(args)
