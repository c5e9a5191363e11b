"""The command line: the parser of all commands, and what becomes of errors."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from bench.records.errors import UsageError

_EPILOG = """examples:
  python -m bench count --table 4 --csv -          parameters and FLOPs of Table 4
  python -m bench run --table 2 --report           measure Table 2 and write the report
  python -m bench run --quick --report             baseline, HoT and H2OT only, a few minutes
  python -m bench run --prune tpa --recover tri --r 121 81 --b 2 5 --report
  python -m bench report                           the report from what is stored
  python -m bench self-check                       does the harness measure what it says, here?
  python -m bench regression --base origin/main    has this tree become slower?
  python -m bench lift detections.json poses.npz --weights model.pth --animate poses.gif
  python -m bench evaluate --host mixste --weights model.pth --data h36m:FOLDER --detector cpn
  python -m bench motion import cmu/ cmu.npz       ASF/AMC and BVH files as a motion file
"""

COMMANDS = (
    "count", "run", "figures", "energy", "report", "lift", "evaluate", "train", "accuracy",
    "streaming", "motion", "gate", "regression", "calibrate_gate", "self_check", "peer", "profile",
    "roofline", "runtimes",
)  # fmt: skip
"""Modules of this package in the order of the help.

Each has ``HELP`` (one line), ``DESCRIPTION``, ``add(parser)``, which adds its options, and
``run(args)``, which returns the exit status or None for 0. Their options and what they run are
imported only for the command that is called, so that the help does not wait for PyTorch.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    0 done, 1 in part, 2 bad input, 130 interrupted; the gate's commands also 1, 3 and 4, see there.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser, commands = _parser()
    called = next((word for word in arguments if word in commands), None)
    if called is None:
        parser.parse_args(arguments)  # the help or an error, both of which exit
        return 2

    import h2ot_core

    try:
        _load_plugins(arguments)  # before the options, some of which list what is registered
        importlib.import_module(_module(called)).add(commands[called])
        args = parser.parse_args(arguments)
        try:
            status = args.run(args)
        except KeyboardInterrupt:
            print(f"\ninterrupted; {args.interrupted}", file=sys.stderr)
            return 130
    except (
        UsageError,
        h2ot_core.ConfigError,
        h2ot_core.InputError,
        h2ot_core.CheckpointError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(status or 0)


def _module(command: str) -> str:
    return f"bench.cli.{command.replace('-', '_')}"


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of all commands, and those of each, which lack their options."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure pruning and recovering of pose tokens in video pose transformers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(
        interrupted="what was measured is stored, the same command goes on from there"
    )
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    commands = {}
    for name in (module.replace("_", "-") for module in COMMANDS):
        command = importlib.import_module(_module(name))
        commands[name] = subparsers.add_parser(
            name, help=command.HELP, description=command.DESCRIPTION
        )
        commands[name].set_defaults(run=command.run)
    return parser, commands


def _load_plugins(arguments: Sequence[str]) -> None:
    """Load those of installed packages, of the environment and of ``--plugin``."""
    from bench.models import plugins

    plugins.load_all()
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--plugin", action="append", nargs="?", default=[])
    for name in filter(None, parser.parse_known_args(arguments)[0].plugin):
        plugins.load(name)
