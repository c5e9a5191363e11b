"""The command run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from bench.cli import options
from bench.cli.options import above_zero, positive
from bench.paper import TABLES, cases, main_cases
from bench.records.case import Case
from bench.records.errors import UsageError

if TYPE_CHECKING:
    from bench.timing.sampling import Sampling

HELP = "measure tables or one configuration"
DESCRIPTION = (
    "Measure every row of the tables given (default: all, and the figures), or one configuration "
    "and its baseline. Latency is sampled in rounds, in fresh processes, each row in turn with its "
    "baseline, until the 95% interval of the median is narrow enough or the row's share of the "
    "budget is spent. Every record is on disk as soon as it is measured; the same command resumes "
    "after an interruption."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.add_configuration(parser)
    parser.add_argument(
        "--every-strategy", action="store_true", help="all pruners x recoverers on one host"
    )
    parser.add_argument(
        "--defaults", action="store_true", help="baseline and default scheme of every host"
    )
    parser.add_argument(
        "--batch", type=positive, nargs="+", default=[1], help="clips per forward pass (1)"
    )
    options.add_shared(parser, "device", "dtype", "threads")
    _add_sampling(parser)
    parser.add_argument(
        "--training-steps",
        action="store_true",
        help="run real training steps of Table 3 on a CPU too (minutes each)",
    )
    options.add_shared(parser, "motion")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="time only the baseline and the default scheme of each host, and HoT-MixSTE, and "
        "draw no figures; all exact columns are kept",
    )
    options.add_shared(parser, "store", "report", "out")


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    timed = parser.add_argument_group("how long latency is sampled")
    timed.add_argument(
        "--budget", type=above_zero, metavar="MINUTES",
        help="for all timing (13; 2.5 with --quick); every row has a share by its FLOPs",
    )  # fmt: skip
    timed.add_argument(
        "--width", type=above_zero, default=2.0, metavar="PERCENT",
        help="half the 95%% interval of the median latency that is narrow enough (2)",
    )  # fmt: skip
    timed.add_argument(
        "--ratio-width", type=above_zero, default=3.0, metavar="PERCENT",
        help="likewise of the speed-up (3)",
    )  # fmt: skip
    timed.add_argument(
        "--rounds", type=positive, help="so many rounds per row, whatever width and budget say"
    )
    timed.add_argument(
        "--visit-timeout", type=above_zero, default=300.0, metavar="SECONDS",
        help="after which a row that does not answer is given up (300)",
    )  # fmt: skip
    timed.add_argument(
        "--flush-l2", action="store_true", help="empty a GPU's cache before every forward pass"
    )


def _sampling(args: argparse.Namespace) -> Sampling:
    from bench.timing.sampling import Sampling

    return Sampling(
        rounds=args.rounds,
        width=args.width / 100,
        ratio_width=args.ratio_width / 100,
        budget_s=60 * (args.budget or (2.5 if args.quick else 13.0)),
        timeout_s=args.visit_timeout,
        flush_l2=args.flush_l2,
    )


def run(args: argparse.Namespace) -> None:
    """Measure."""
    from bench.models.context import Context
    from bench.scenarios import figures, tables

    motion = options.motion_source(args)
    fields = options.setting(args, motion)
    counted, timed = _cases(args)

    def settle(found: Iterable[Case]) -> tuple[Case, ...]:
        """Cases in the setting of the arguments, each batch size after its baseline."""
        found = list(found)
        return tuple(
            case
            for batch in args.batch
            for case in options.in_setting(found, {**fields, "batch": batch})
        )

    own = options.own_case(args) is not None
    with_memory = counted if own else cases([3, 4])
    trained = counted if own else cases([3])
    training = args.training_steps or args.device == "cuda"
    plan = tables.Plan(
        exact=settle(counted),
        timed=settle(timed),
        trainable=settle(case for case in timed if case in with_memory),
        training=settle(case for case in timed if case in trained) if training else (),
        sampling=_sampling(args),
    )
    tables.run(plan, args.store, Context(motion))
    if not (args.table or args.quick or args.defaults or own):
        figures.run(args.store, Context(motion), threads=args.threads)
    options.finish(args)


def _cases(args: argparse.Namespace) -> tuple[list[Case], list[Case]]:
    """The cases to count, and those to time, the baseline before what is compared with it."""
    own = options.own_case(args)
    if args.every_strategy:
        if own is None:
            raise UsageError("--every-strategy needs a host; give --host")
        found = _every_strategy(own.baseline, args)
        return found, found
    if own is not None:
        return [own.baseline, own], [own.baseline, own]
    main = main_cases()
    if args.defaults:
        found = [case for case in main if case.prune != "tpc"]
        return found, found
    numbers = args.table or TABLES
    counted = cases(numbers)
    if args.quick:
        return counted, [case for case in main if case.prune != "tpc" or case.host == "mixste"]
    # Table 6 prints no speed, and its rows differ in the last operation alone.
    timed = cases([number for number in numbers if number != 6] or numbers)
    return counted, [*(case.baseline for case in timed), *timed]


def _every_strategy(baseline: Case, args: argparse.Namespace) -> list[Case]:
    """The baseline and every pair of strategies that the host accepts."""
    import h2ot_core

    found = [baseline]
    for prune in h2ot_core.PRUNERS:
        for recover in ("none", *h2ot_core.RECOVERERS):
            pair = {"prune": prune, "recover": recover, "scheme": args.scheme or "h2ot"}
            if recover == "none" and (args.pipeline or baseline.pipeline) == "seq2seq":
                continue
            try:
                found.append(options.model_case(argparse.Namespace(**{**vars(args), **pair})))
            except h2ot_core.ConfigError as error:
                print(f"note: left out {prune} + {recover}: {error}", file=sys.stderr)
    return found
