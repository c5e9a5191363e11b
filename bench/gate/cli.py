"""The gate's commands: gate, regression, calibrate-gate."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.gate.compare import Incomparable, Outcome

ALLOWANCES = Path("gate.toml")
_STATUS = (
    "Exit status: 0 unchanged or improved, 1 regressed, 2 wrong usage, 3 inconclusive, "
    "4 incomparable or no baseline."
)


def add(commands: Any) -> None:
    """Add the gate's commands to a parser's subcommands."""
    _add_gate(commands)
    _add_regression(commands)
    _add_calibrate(commands)


def _add_gate(commands: Any) -> None:
    gate = commands.add_parser(
        "gate",
        help="compare two record files",
        description=f"Compare the records of HEAD with those of BASE, case by case. {_STATUS}",
    )
    gate.add_argument("base", metavar="BASE.jsonl", type=Path)
    gate.add_argument("head", metavar="HEAD.jsonl", type=Path)
    gate.add_argument(
        "--force", action="store_true", help="compare records of different environments too"
    )
    _add_outcome(gate)
    gate.set_defaults(run=_gate)


def _add_regression(commands: Any) -> None:
    regression = commands.add_parser(
        "regression",
        help="compare the working tree with a revision",
        description="Measure h2ot_core of a base revision and of the working tree under this "
        f"harness, and compare them: counts exactly, latency by intervals. {_STATUS}",
    )
    regression.add_argument("--base", metavar="REV", required=True, help="such as origin/main")
    regression.add_argument(
        "--exact-only", action="store_true", help="no latency: nothing here needs a quiet machine"
    )
    regression.add_argument("--no-memory", action="store_true", help="no training memory")
    regression.add_argument("--no-exact", action="store_true", help="latency alone")
    _add_sampling(regression)
    regression.add_argument("--out", type=Path, help="folder for the records (reports/out/gate)")
    regression.add_argument("--cache", type=Path, help="folder of kept counts (OUT/cache)")
    _add_outcome(regression)
    regression.set_defaults(run=_regression)


def _add_calibrate(commands: Any) -> None:
    calibrate = commands.add_parser(
        "calibrate-gate",
        help="measure the gate's own errors",
        description="How often the gate raises a false alarm, and which slowdowns it catches: in "
        "simulated suites, and in real runs on this machine, which take two and a half minutes "
        "each. Every run is stored as it comes; the same command resumes after an interruption. "
        "Writes reports/gate_calibration.md and a power curve beside it.",
    )
    calibrate.add_argument(
        "--simulated", type=int, default=300, metavar="N", help="A/A suites at each spread (300)"
    )
    calibrate.add_argument(
        "--power", type=int, default=200, metavar="N",
        help="simulated suites at each spread and slowdown (200)",
    )  # fmt: skip
    calibrate.add_argument(
        "--real", type=int, default=0, metavar="N",
        help="real A/A runs, and as many with each slowdown (0)",
    )  # fmt: skip
    calibrate.add_argument(
        "--slowdowns", type=float, nargs="*", default=[2.0, 5.0, 10.0], metavar="PERCENT",
        help="injected in real runs (2 5 10)",
    )  # fmt: skip
    _add_sampling(calibrate)
    calibrate.add_argument(
        "--store", type=Path, help="folder of the runs (reports/out/gate/calibration)"
    )
    calibrate.add_argument("--out", type=Path, default=Path("reports"), help="folder (reports)")
    calibrate.set_defaults(run=_calibrate)


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    from bench.gate.simulate import PAIRS

    parser.add_argument(
        "--pairs", type=int, default=PAIRS, help=f"processes per side, at least 4 ({PAIRS})"
    )
    parser.add_argument(
        "--budget", type=float, default=140.0, metavar="SECONDS", help="of the latency part (140)"
    )


def _add_outcome(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allowances", metavar="FILE", type=Path, default=ALLOWANCES,
        help=f"intended increases ({ALLOWANCES})",
    )  # fmt: skip
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the summary to FILE")


def _gate(given: argparse.Namespace) -> int:
    from bench.gate.allowances import read_allowances
    from bench.gate.compare import compare_files

    allowances = read_allowances(given.allowances)
    try:
        outcome = compare_files(given.base, given.head, allowances=allowances, force=given.force)
    except Incomparable as error:
        return _refused(error, given.markdown)
    return _tell(outcome, given.markdown)


def _regression(given: argparse.Namespace) -> int:
    from bench.gate import regression
    from bench.gate.allowances import read_allowances

    if given.exact_only and given.no_exact:
        raise UsageError("--exact-only and --no-exact leave nothing to measure; drop one")
    out = given.out or regression.OUT
    plan = regression.Plan(
        revision=given.base,
        exact=() if given.no_exact else None,
        memory=not given.no_memory,
        sampled=None if given.exact_only else _sampling(given),
        out=out,
        cache=given.cache or out / "cache",
    )
    allowances = read_allowances(given.allowances)
    try:
        outcome = regression.run(plan, allowances=allowances)
    except Incomparable as error:
        return _refused(error, given.markdown)
    return _tell(outcome, given.markdown)


def _calibrate(given: argparse.Namespace) -> int:
    from bench.gate import calibrate

    if min(given.simulated, given.power, given.real) < 0:
        raise UsageError("numbers of runs cannot be negative")
    if any(percent <= 0 for percent in given.slowdowns):
        raise UsageError(f"a slowdown is a percentage above 0, got {given.slowdowns}")
    plan = calibrate.Plan(
        simulated=given.simulated,
        power=given.power,
        real=given.real,
        slowdowns=tuple(percent / 100 for percent in given.slowdowns),
        sampled=_sampling(given),
        store=given.store or calibrate.STORE,
        out=given.out,
    )
    print(calibrate.run(plan))
    return 0


def _sampling(given: argparse.Namespace) -> Any:
    from bench.gate import sampled

    if given.pairs < sampled.FEWEST_PAIRS:
        raise UsageError(f"--pairs must be at least {sampled.FEWEST_PAIRS}, got {given.pairs}")
    if given.budget <= 0:
        raise UsageError(f"--budget must be above 0 seconds, got {given.budget}")
    return sampled.Plan(pairs=given.pairs, budget_s=given.budget)


def _tell(outcome: Outcome, file: Path | None) -> int:
    from bench.gate.summary import markdown

    text = markdown(outcome)
    print(text)
    _write(file, text)
    return outcome.status


def _refused(error: Incomparable, file: Path | None) -> int:
    from bench.gate.summary import refusal

    print(f"error: {error}", file=sys.stderr)
    _write(file, refusal(str(error)))
    return 4


def _write(file: Path | None, text: str) -> None:
    if file is None:
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from None
