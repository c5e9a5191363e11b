"""What commands share: options, and the cases that arguments stand for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.models.resolve import MODEL_ARGUMENTS, resolve
from bench.paper import TABLES
from bench.records.case import Case
from bench.records.errors import UsageError

if TYPE_CHECKING:  # with PyTorch, which the help does not wait for
    from bench.data.windows import MotionSource

STORE = Path("reports/out/records.jsonl")
OUT = Path("reports/out")


# --- types of values ---------------------------------------------------------------------------


def at_least(minimum: int) -> Callable[[str], int]:
    """The type of a whole number of at least ``minimum``."""

    def number(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum}, got {value}")
        return value

    return number


positive = at_least(1)


def above_zero(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


# --- options -----------------------------------------------------------------------------------


SHARED: dict[str, dict[str, Any]] = {
    "motion": {
        "metavar": "FILE", "type": Path,
        "help": "motion file for the input, in the open format; default: generated",
    },
    "device": {"default": "cpu", "choices": ("cpu", "cuda")},
    "dtype": {"default": "float32", "choices": ("float32", "bfloat16", "float16")},
    "threads": {"type": at_least(0), "default": 0, "help": "CPU threads (PyTorch's choice)"},
    "batch": {"type": positive, "default": 1, "help": "clips per forward pass (1)"},
    "store": {"type": Path, "default": STORE, "help": f"record file ({STORE})"},
    "report": {"action": "store_true", "help": "write the report when done"},
    "out": {"type": Path, "default": OUT, "help": f"folder of the report ({OUT})"},
    "weights": {
        "metavar": "FILE", "type": Path,
        "help": "a checkpoint of a published repository, which must fit the model",
    },
    "untrained": {"action": "store_true", "help": "run without weights; the results say nothing"},
    "no-flip": {"action": "store_true", "help": "do not average with the mirrored"},
    "option": {
        "action": "append", "default": [], "metavar": "NAME=VALUE",
        "help": "a further option of h2ot_core.build, such as width=256 or tpc_k=5",
    },
}  # fmt: skip
"""Name of every option that several commands have, and what it is."""


def add_shared(
    parser: argparse._ActionsContainer, *names: str, **changed: Mapping[str, Any]
) -> None:
    """Add shared options: as they are, then those with other arguments of ``add_argument``."""
    for name in (*names, *changed):
        parser.add_argument(f"--{name}", **{**SHARED[name], **changed.get(name, {})})


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Add ``--table`` and the options of one configuration."""
    tables = ", ".join(map(str, TABLES))
    parser.add_argument(
        "--table", type=int, action="append", metavar="N", help=f"a table of the paper: {tables}"
    )
    add_own(parser, "one configuration instead of a table")


def add_own(parser: argparse.ArgumentParser, title: str) -> None:
    """Add the options of one configuration, under a heading of the help."""
    import h2ot_core

    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE",
        help="a file or module with hosts, strategies, metrics, readers or runtimes of your own",
    )  # fmt: skip
    own = parser.add_argument_group(title)
    own.add_argument("--host", help=f"one of {', '.join(h2ot_core.HOSTS)}")
    own.add_argument("--scheme", help=f"one of {', '.join(h2ot_core.SCHEMES)}")
    own.add_argument("--prune", help=f"one of {', '.join(h2ot_core.PRUNERS)}, none")
    own.add_argument("--recover", help=f"one of {', '.join(h2ot_core.RECOVERERS)}, none")
    own.add_argument("--frames", type=int, help="F, frames per clip")
    own.add_argument("--r", type=int, nargs="*", help="frames kept by each stage")
    own.add_argument("--b", type=int, nargs="*", help="block before which each stage acts")
    own.add_argument("--pipeline", help="seq2seq or seq2frame")
    add_shared(own, "option")


# --- from arguments to cases and motion --------------------------------------------------------


def model_arguments(
    args: argparse.Namespace, names: Sequence[str] = MODEL_ARGUMENTS
) -> dict[str, Any]:
    """Arguments of ``h2ot_core.build`` on the command line: those of flags, and ``--option``.

    Raises:
        UsageError: if an option is no NAME=VALUE, or has a flag of its own.
    """
    flags = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return flags | dict(map(_option, args.option))


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals:
        raise UsageError(f"--option takes NAME=VALUE, got {text!r}")
    if name in MODEL_ARGUMENTS:
        raise UsageError(f"{name} is no --option; give --{name} {value}")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def own_case(args: argparse.Namespace, host: str | None = None) -> Case | None:
    """The configuration on the command line, resolved; None if there is none.

    Args:
        args: with the options of :func:`add_own`.
        host: of the configuration where the command line has none; there always is one then.
    """
    arguments = model_arguments(args)
    if not arguments and host is None:
        return None
    if getattr(args, "table", None):
        raise UsageError("give either --table or a configuration, not both")
    return resolve({"host": host or "mixste", **arguments})


def model_case(args: argparse.Namespace) -> Case:
    """The configuration on the command line, of MixSTE where no host is named."""
    case = own_case(args, "mixste")
    assert case is not None
    return case


def setting(args: argparse.Namespace, motion: MotionSource) -> dict[str, Any]:
    """Fields of every case that is measured: those that the command has options for."""
    names = ("batch", "device", "dtype", "threads")
    return {n: getattr(args, n) for n in names if hasattr(args, n)} | {"motion": motion.name}


def in_setting(cases: Iterable[Case], fields: dict[str, Any]) -> tuple[Case, ...]:
    """Cases with the fields of a setting, each once."""
    return tuple(replace(case, **fields) for case in dict.fromkeys(cases))


def motion_source(args: argparse.Namespace) -> MotionSource:
    """The motion of ``--motion``, or generated motion."""
    from bench.data.windows import MotionSource

    return MotionSource.from_file(args.motion) if args.motion else MotionSource.generated()


# --- results -----------------------------------------------------------------------------------


def finish(args: argparse.Namespace) -> None:
    """Write the report if ``--report`` is set, and print where things are."""
    if getattr(args, "report", False):
        write_report(args.store, args.out)
    else:
        print(f"records: {args.store}; report: python -m bench report --store {args.store}")


def write_report(store: Path, out: Path, **options: Any) -> None:
    """Write the report of a store, and print where it is."""
    from reports.build import build

    print(f"report: {build(store, out, **options)}")


def write_text(file: str | Path, text: str) -> None:
    """Write a file that the user named.

    Raises:
        UsageError: if the system refuses.
    """
    try:
        with open(file, "w", newline="", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from None
