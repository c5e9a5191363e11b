"""The command lift."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.cli.options import (
    OWN,
    add_own,
    option,
    positive,
)
from bench.data.readers import KEYPOINT_READERS


def add(commands: Any) -> None:
    """Add the command."""
    lift = commands.add_parser(
        "lift",
        help="lift 2D keypoints of your own to 3D",
        description="Lift the 2D keypoints of one person in a video to 3D poses. KEYPOINTS is "
        f"{'; or '.join(row.about for row in reversed(KEYPOINT_READERS.values()))}. "
        "OUT.npz gets 'poses_3d' (frames, 17, 3) in the camera's axes and how they were made.",
    )
    lift.add_argument("keypoints", metavar="KEYPOINTS", type=Path)
    lift.add_argument("out", metavar="OUT.npz", type=Path)
    lift.add_argument(
        "--weights", metavar="FILE", type=Path, help="a checkpoint of a published repository"
    )
    lift.add_argument(
        "--untrained", action="store_true", help="go without weights; the poses are noise"
    )
    lift.add_argument("--width", type=positive, help="of the image in pixels, if not in the file")
    lift.add_argument("--height", type=positive, help="likewise")
    lift.add_argument(
        "--person", type=int, metavar="ID", help="track id to take (the surest of each frame)"
    )
    lift.add_argument("--fps", type=float, default=50.0, help="frames per second (50)")
    lift.add_argument("--no-flip", action="store_true", help="do not average with the mirrored")
    lift.add_argument("--batch", type=positive, default=16, help="windows per forward pass (16)")
    lift.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    lift.add_argument(
        "--animate", metavar="FILE", type=Path, help="draw the poses as .gif, or .mp4 with ffmpeg"
    )
    add_own(lift, "the model, which the weights must fit (mixste)")
    lift.set_defaults(run=_lift)


def _lift(args: argparse.Namespace) -> None:
    from bench.evaluation.lift_file import Job, lift_file

    own = {name: getattr(args, name) for name in OWN if getattr(args, name) is not None}
    job = Job(
        keypoints=args.keypoints,
        out=args.out,
        arguments=own | dict(option(text) for text in args.option),
        weights=args.weights,
        untrained=args.untrained,
        width=args.width,
        height=args.height,
        person=args.person,
        fps=args.fps,
        flip=not args.no_flip,
        batch=args.batch,
        device=args.device,
    )
    if args.animate is None:
        lift_file(job, log=print)
        return
    from reports.animation import animate, check_target

    target = check_target(args.animate, say=print)
    found = lift_file(job, log=print)
    drawn = animate(target, found.poses, found.keypoints, fps=args.fps, unit=found.unit)
    print(f"{target}: {drawn}")
