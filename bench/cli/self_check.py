"""The command self-check."""

from __future__ import annotations

import argparse
import sys

from bench.cli import options

HELP = "does the harness measure what it says, on this machine?"
DESCRIPTION = (
    "Compare clocks, ratios under drift, the cost of instrumentation, idle workers and memory "
    "readings with known truths; about a minute, on a machine that does nothing else. Exit status: "
    "0 all passed, 1 one failed, 3 the machine is too noisy to say."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.add_shared(parser, "device")
    parser.set_defaults(interrupted="nothing was stored")


def run(args: argparse.Namespace) -> int:
    """Run all checks; returns the exit status."""
    from tabulate import tabulate

    from bench.scenarios import self_check

    checks = self_check.run(args.device, log=lambda text: print(text, file=sys.stderr))
    lines = [(c.name, c.found, c.limit, c.verdict) for c in checks]
    print(tabulate(lines, headers=("check", "off by", "limit", "verdict"), disable_numparse=True))
    print(self_check.summary(checks))
    return self_check.exit_status(checks)
