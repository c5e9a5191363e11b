"""The streaming command."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.cli.options import (
    OUT,
    STORE,
    add_own,
    finish,
    motion_source,
    own_case,
)


def add(commands: Any) -> None:
    """Add the command."""
    streaming = commands.add_parser(
        "streaming",
        help="frame in to pose out, of pipelines fed by a camera",
        description="Lift a motion sequence frame by frame with seq2frame and with seq2seq at "
        "several hops: the delay that the windows prescribe, the latency of computing, and, with "
        "frames that come at --fps whether the pipeline is done or not, what is late or dropped. "
        "Without --scheme or --prune, no pruning, HoT / TPC and H2OT / TPM of --host; otherwise "
        "one configuration and its baseline. The same command resumes after an interruption.",
    )
    streaming.add_argument("--fps", type=float, default=50.0, help="of the camera (50)")
    streaming.add_argument("--no-pace", action="store_true", help="latency of computing alone")
    streaming.add_argument(
        "--seconds", type=float, default=3.0, help="of video per row and round (3)"
    )
    streaming.add_argument("--rounds", type=int, default=2, help="visits per row (2)")
    streaming.add_argument(
        "--hop", type=int, nargs="+", help="frames between seq2seq windows (F, F / 3, F / 9)"
    )
    streaming.add_argument(
        "--motion", metavar="FILE", type=Path, help="as for run; default: generated"
    )
    streaming.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    streaming.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    streaming.add_argument("--threads", type=int, default=0, help="CPU threads, as for run")
    streaming.add_argument("--store", type=Path, default=STORE, help=f"record file ({STORE})")
    streaming.add_argument("--report", action="store_true", help="write the report when done")
    streaming.add_argument("--out", type=Path, default=OUT, help=f"folder of the report ({OUT})")
    add_own(streaming, "the model (mixste)")
    streaming.set_defaults(run=_streaming, table=None)


def _streaming(args: argparse.Namespace) -> None:
    from bench.models.context import Context
    from bench.scenarios import streaming

    motion = motion_source(args)
    args.host = args.host or "mixste"
    case = own_case(args)
    assert case is not None
    if any(getattr(args, name) is not None for name in ("scheme", "prune", "pipeline", "r", "b")):
        rows = streaming.rows_of([case.baseline, case], args.hop)
    else:
        rows = streaming.default_rows(args.host, args.frames, dict(case.options), args.hop)
    plan = streaming.Plan(
        rows=streaming.settled(
            rows, motion=motion.name, device=args.device, dtype=args.dtype,
            threads=args.threads,
        ),
        fps=args.fps,
        paced=not args.no_pace,
        seconds=args.seconds,
        rounds=args.rounds,
    )  # fmt: skip
    streaming.take_streams(plan, args.store, Context(motion))
    finish(args)
