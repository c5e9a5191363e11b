"""The command motion."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.cli.options import above_zero, positive

HELP = "make motion files for --motion"
DESCRIPTION = None


def add(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    imported = actions.add_parser(
        "import",
        help="from ASF/AMC and BVH files",
        description="Convert the AMC (with their ASF) and BVH files in FOLDER and below it to one "
        "open motion file: 17 joints of Human3.6M, metres, z up. Skeletons of the CMU database are "
        "known; describe others in a mapping. A file that cannot be read is reported and left out, "
        "and the exit status is then 1.",
    )
    imported.add_argument("folder", metavar="FOLDER", type=Path)
    imported.add_argument("out", metavar="OUT.npz", type=Path)
    imported.add_argument(
        "--mapping",
        metavar="FILE",
        type=Path,
        help='JSON such as {"unit": "cm", "up": "y", "skip": 0, "joints": {"Hip": "Hips", "Head": '
        '["Head", "end"], ...}} with all 17 joints',
    )
    imported.add_argument(
        "--actions", metavar="FILE", type=Path, help="CSV with columns file,action (file names)"
    )
    imported.add_argument(
        "--fps", type=positive, default=50, help="frames per second to write (50)"
    )
    imported.add_argument(
        "--source-fps", type=above_zero, default=120.0, help="of AMC files, which do not say (120)"
    )
    imported.add_argument(
        "--test-subjects",
        metavar="NAME",
        nargs="+",
        help="subjects of the test split (every fifth)",
    )


def run(args: argparse.Namespace) -> int:
    """Import; the exit status is 1 if a file could not be read."""
    from bench.data.readers.mocap.convert import import_motion

    done = import_motion(
        args.folder,
        args.out,
        mapping=args.mapping,
        actions=args.actions,
        fps=args.fps,
        source_fps=args.source_fps,
        test_subjects=args.test_subjects,
        progress=sys.stderr.isatty(),
    )
    for line in done.broken:
        print(f"left out: {line}", file=sys.stderr)
    split = f"test: {', '.join(done.test_subjects)}" if done.test_subjects else "all train"
    print(f"{args.out}: {done.clips} clips, {done.frames} frames at {args.fps} Hz ({split})")
    if done.broken:
        print(f"{len(done.broken)} files could not be read, see above", file=sys.stderr)
    return 1 if done.broken else 0
