"""The command self-check."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from bench.records.errors import UsageError


def add(commands: Any) -> None:
    """Add the command."""
    check = commands.add_parser(
        "self-check",
        help="does the harness measure what it says, on this machine?",
        description="Hold clocks, ratios under drift, the cost of instrumentation, idle workers "
        "and memory readings against known truths; about a minute, on a machine that does nothing "
        "else. Exit status: 0 all passed, 1 one failed, 3 the machine is too noisy to say.",
    )
    check.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    check.set_defaults(run=_self_check, interrupted="nothing was stored")


def _self_check(args: argparse.Namespace) -> int:
    import torch
    from tabulate import tabulate

    from bench.scenarios import self_check

    if args.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device here; use --device cpu")
    checks = self_check.run(args.device, say=lambda text: print(text, file=sys.stderr))
    lines = [(c.name, c.found, c.limit, c.verdict) for c in checks]
    print(tabulate(lines, headers=("check", "off by", "limit", "verdict"), disable_numparse=True))
    print(self_check.summary(checks))
    return self_check.exit_status(checks)
