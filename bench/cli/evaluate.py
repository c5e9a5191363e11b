"""The command evaluate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.cli.options import (
    STORE,
    add_own,
    own_case,
    positive,
)
from bench.data.readers import source_forms
from h2ot_core.windows import POLICIES


def add(commands: Any) -> None:
    """Add the command."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure the accuracy of a model with weights",
        description="Lift a data set and measure the errors by the published protocol of the data: "
        "MPJPE (P1), P-MPJPE (P2), N-MPJPE and MPJVE per action, for MPI-INF-3DHP also PCK and "
        "AUC. The values are stored for the report.",
    )
    evaluate.add_argument(
        "--data",
        required=True,
        metavar="SOURCE",
        help=source_forms(),
    )
    evaluate.add_argument(
        "--detector", metavar="NAME", help="where 2D joints come from, such as cpn or gt"
    )
    evaluate.add_argument(
        "--weights", metavar="FILE", type=Path, help="a checkpoint that fits the model"
    )
    evaluate.add_argument(
        "--untrained", action="store_true", help="go without weights; the errors say nothing"
    )
    evaluate.add_argument(
        "--windows",
        choices=tuple(POLICIES),
        help="how videos are cut and which frames count (as published for the data): "
        + ". ".join(f"{name}: {about}" for name, about in POLICIES.items()),
    )
    evaluate.add_argument("--no-flip", action="store_true", help="do not average with the mirrored")
    evaluate.add_argument(
        "--keep-root", action="store_true", help="count the error of the predicted root"
    )
    evaluate.add_argument("--split", default="test", choices=("train", "test"))
    evaluate.add_argument(
        "--downsample", type=positive, default=1, metavar="D", help="every D-th frame (1)"
    )
    evaluate.add_argument("--limit", type=positive, metavar="N", help="no more than N sequences")
    evaluate.add_argument(
        "--batch", type=positive, default=16, help="windows per forward pass (16)"
    )
    evaluate.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    evaluate.add_argument("--store", type=Path, default=STORE, help=f"record file ({STORE})")
    add_own(evaluate, "the model, which the weights must fit (mixste)")
    evaluate.set_defaults(
        run=_evaluate, table=None, interrupted="nothing of this evaluation is stored"
    )


def _evaluate(args: argparse.Namespace) -> None:
    from bench.data.sources import open_data
    from bench.evaluation import job

    args.host = args.host or "mixste"
    case = own_case(args)
    assert case is not None
    job.run(
        job.Job(
            case=case,
            data=lambda: open_data(args.data, detector=args.detector),
            store=args.store,
            weights=args.weights,
            untrained=args.untrained,
            windows=args.windows,
            flip=not args.no_flip,
            zero_root=not args.keep_root,
            downsample=args.downsample,
            batch=args.batch,
            device=args.device,
            split=args.split,
            limit=args.limit,
        ),
        log=print,
    )
