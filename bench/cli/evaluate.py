"""The command evaluate."""

from __future__ import annotations

import argparse

from bench.cli import options
from bench.cli.options import positive
from bench.data.readers import source_forms

HELP = "measure the accuracy of a model with weights"
DESCRIPTION = (
    "Lift a data set and measure the errors by the published protocol of the data: MPJPE (P1), "
    "P-MPJPE (P2), N-MPJPE and MPJVE per action, for MPI-INF-3DHP also PCK and AUC. The values are "
    "stored for the report."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from h2ot_core.windows import POLICIES

    parser.add_argument("--data", required=True, metavar="SOURCE", help=source_forms())
    parser.add_argument(
        "--detector", metavar="NAME", help="where 2D joints come from, such as cpn or gt"
    )
    options.add_shared(parser, "weights", "untrained")
    parser.add_argument(
        "--windows", choices=tuple(POLICIES),
        help="how videos are cut and which frames count (as published for the data): "
        + ". ".join(f"{name}: {about}" for name, about in POLICIES.items()),
    )  # fmt: skip
    options.add_shared(parser, "no-flip")
    parser.add_argument(
        "--keep-root", action="store_true", help="count the error of the predicted root"
    )
    parser.add_argument("--split", default="test", choices=("train", "test"))
    parser.add_argument(
        "--downsample", type=positive, default=1, metavar="D", help="every D-th frame (1)"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="no more than N sequences")
    options.add_shared(parser, batch={"default": 16, "help": "windows per forward pass (16)"})
    options.add_shared(parser, "device", "store")
    options.add_own(parser, "the model, which the weights must fit (mixste)")
    parser.set_defaults(interrupted="nothing of this evaluation is stored")


def run(args: argparse.Namespace) -> None:
    """Evaluate and store."""
    from bench.data.sources import open_data
    from bench.evaluation import job

    job.run(
        job.Job(
            case=options.model_case(args),
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
