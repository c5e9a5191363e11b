"""The command streaming."""

from __future__ import annotations

import argparse

from bench.cli import options
from bench.cli.options import above_zero, positive

HELP = "frame in to pose out, of pipelines fed by a camera"
DESCRIPTION = (
    "Lift a motion sequence frame by frame with seq2frame and with seq2seq at several hops: the "
    "delay that the windows prescribe, the latency of computing, and, with frames that come at "
    "--fps whether the pipeline is done or not, what is late or dropped. Without --scheme or "
    "--prune, no pruning, HoT / TPC and H2OT / TPM of --host; otherwise one configuration and its "
    "baseline. The same command resumes after an interruption."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--fps", type=above_zero, default=50.0, help="of the camera (50)")
    parser.add_argument("--no-pace", action="store_true", help="latency of computing alone")
    parser.add_argument(
        "--seconds", type=above_zero, default=3.0, help="of video per row and round (3)"
    )
    parser.add_argument("--rounds", type=positive, default=2, help="rounds (2)")
    parser.add_argument(
        "--hop", type=int, nargs="+", help="frames between seq2seq windows (F, F / 3, F / 9)"
    )
    options.add_shared(parser, "motion", "device", "dtype", "threads", "store", "report", "out")
    options.add_own(parser, "the model (mixste)")


def run(args: argparse.Namespace) -> None:
    """Measure."""
    from bench.models.context import Context
    from bench.scenarios import streaming

    motion = options.motion_source(args)
    case = options.model_case(args)
    if any(getattr(args, name) is not None for name in ("scheme", "prune", "pipeline", "r", "b")):
        rows = streaming.rows_of([case.baseline, case], args.hop)
    else:
        rows = streaming.default_rows(case.host, args.frames, dict(case.options), args.hop)
    plan = streaming.Plan(
        rows=streaming.settled(rows, **options.setting(args, motion)),
        fps=args.fps,
        paced=not args.no_pace,
        seconds=args.seconds,
        rounds=args.rounds,
    )
    streaming.run(plan, args.store, Context(motion))
    options.finish(args)
