"""The streaming command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.case import Case

AddOwn = Callable[[argparse.ArgumentParser, str], None]
OwnCase = Callable[[argparse.Namespace], Case | None]


def add(
    commands: Any,
    store: Path,
    out: Path,
    add_own: AddOwn,
    own_case: OwnCase,
    report: Callable[..., None],
) -> None:
    """Add the command.

    Args:
        commands: subparsers of the command line.
        store, out: defaults of the options of these names.
        add_own, own_case: options of a configuration of one's own, and how to read them.
        report: writes the report of what was given.
    """
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
    streaming.add_argument("--store", type=Path, default=store, help=f"record file ({store})")
    streaming.add_argument("--report", action="store_true", help="write the report when done")
    streaming.add_argument("--out", type=Path, default=out, help=f"folder of the report ({out})")
    add_own(streaming, "the model (mixste)")
    streaming.set_defaults(run=lambda given: _streaming(given, own_case, report), table=None)


def _streaming(given: argparse.Namespace, own_case: OwnCase, report: Callable[..., None]) -> None:
    from bench import streaming
    from bench.data.windows import MotionSource
    from bench.metrics.base import Context

    motion = MotionSource.from_file(given.motion) if given.motion else MotionSource.generated()
    given.host = given.host or "mixste"
    case = own_case(given)
    assert case is not None
    if any(getattr(given, name) is not None for name in ("scheme", "prune", "pipeline", "r", "b")):
        rows = streaming.rows_of([case.baseline, case], given.hop)
    else:
        rows = streaming.default_rows(given.host, given.frames, dict(case.options), given.hop)
    plan = streaming.Plan(
        rows=streaming.settled(
            rows, motion=motion.name, device=given.device, dtype=given.dtype,
            threads=given.threads,
        ),
        fps=given.fps,
        paced=not given.no_pace,
        seconds=given.seconds,
        rounds=given.rounds,
    )  # fmt: skip
    streaming.take_streams(plan, given.store, Context(motion))
    if given.report:
        report(given)
    else:
        print(f"records: {given.store}; report: python -m bench report --store {given.store}")
