"""The command lift."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cli import options
from bench.cli.options import positive
from bench.data.readers import KEYPOINT_READERS

HELP = "lift 2D keypoints of your own to 3D"
DESCRIPTION = (
    "Lift the 2D keypoints of one person in a video to 3D poses. KEYPOINTS is "
    f"{'; or '.join(row.about for row in reversed(KEYPOINT_READERS.values()))}. "
    "OUT.npz gets 'poses_3d' (frames, 17, 3) in the camera's axes and how they were made."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("keypoints", metavar="KEYPOINTS", type=Path)
    parser.add_argument("out", metavar="OUT.npz", type=Path)
    options.add_shared(parser, "weights", "untrained")
    parser.add_argument("--width", type=positive, help="of the image in pixels, if not in the file")
    parser.add_argument("--height", type=positive, help="likewise")
    parser.add_argument(
        "--person", type=int, metavar="ID", help="track id (the surest person of each frame)"
    )
    parser.add_argument("--fps", type=float, default=50.0, help="frames per second (50)")
    options.add_shared(
        parser, "no-flip", batch={"default": 16, "help": "windows per forward pass (16)"}
    )
    options.add_shared(parser, "device")
    parser.add_argument(
        "--animate", metavar="FILE", type=Path, help="draw the poses as .gif, or .mp4 with ffmpeg"
    )
    options.add_own(parser, "the model, which the weights must fit (mixste)")


def run(args: argparse.Namespace) -> None:
    """Lift, and draw if asked to."""
    from bench.evaluation.lift_file import Job, lift_file

    job = Job(
        keypoints=args.keypoints,
        out=args.out,
        arguments=options.model_arguments(args),
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
    lifted = lift_file(job, log=print)
    drawn = animate(target, lifted.poses, lifted.keypoints, fps=args.fps, unit=lifted.unit)
    print(f"{target}: {drawn}")
