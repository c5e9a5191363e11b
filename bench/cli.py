"""The command line."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import h2ot_core
from bench import plugins, profile_command, roofline_command, streaming_command
from bench.case import Case
from bench.data.keypoints import KeypointError
from bench.data.motion import MotionError
from bench.data.takes import DataError
from bench.errors import UsageError
from bench.gate import cli as gate
from bench.paper import DESCRIPTIVE, TABLES, PaperRow, cases, main_cases, remarks, rows
from bench.peer import command as peer
from bench.rounds import Sampling
from bench.runtimes import command as runtimes
from bench.train import command
from bench.units import giga, millions

STORE = Path("reports/out/records.jsonl")
OUT = Path("reports/out")

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    0 done, 1 in part, 2 bad input, 130 interrupted; the gate's commands also 1, 3 and 4, see there.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        plugins.load_all()
        for name in getattr(given, "plugin", ()):
            plugins.load(name)
        status = given.run(given)
    except (
        UsageError,
        MotionError,
        DataError,
        KeypointError,
        h2ot_core.ConfigError,
        h2ot_core.InputError,
        h2ot_core.CheckpointError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted; {given.interrupted}", file=sys.stderr)
        return 130
    return int(status or 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure pruning and recovering of pose tokens in video pose transformers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(
        interrupted="what was measured is stored, the same command goes on from there"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    count = commands.add_parser(
        "count",
        help="parameters and FLOPs, without timing",
        description="Parameters and FLOPs of the rows of a table, or of one configuration, "
        "counted without running a model on data. The first row of each pair of strategies is "
        "confirmed by torch's, fvcore's and thop's counters.",
    )
    _add_configuration(count)
    count.add_argument("--csv", metavar="FILE", help="write CSV to FILE, - for standard output")
    count.add_argument("--modules", action="store_true", help="add flops_full by module")
    count.set_defaults(run=_count)

    run = commands.add_parser(
        "run",
        help="measure tables or one configuration",
        description="Measure every row of the tables given (default: all, and the figures), or one "
        "configuration and its baseline. Latency is taken in rounds, in fresh processes, each row "
        "in turn with its baseline, until the 95% interval of the median is narrow enough or the "
        "row's share of the budget is spent. Every record is on disk as soon as it is measured; "
        "the same command resumes after an interruption.",
    )
    _add_configuration(run)
    run.add_argument(
        "--every-strategy", action="store_true", help="all pruners x recoverers on one host"
    )
    run.add_argument(
        "--defaults", action="store_true", help="baseline and default scheme of every host"
    )
    run.add_argument(
        "--batch", type=_positive, nargs="+", default=[1], help="clips per forward pass (1)"
    )
    run.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    run.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    run.add_argument("--threads", type=_positive, help="CPU threads (PyTorch's choice)")
    _add_sampling(run)
    run.add_argument(
        "--training-steps",
        action="store_true",
        help="take real training steps of Table 3 on a CPU too (minutes each)",
    )
    run.add_argument(
        "--motion",
        metavar="FILE",
        type=Path,
        help="motion to take the input from, in the open format; default: generated",
    )
    run.add_argument(
        "--quick",
        action="store_true",
        help="time only the baseline and the default scheme of each host, and HoT-MixSTE, and "
        "draw no figures; all exact columns are kept",
    )
    run.add_argument("--store", type=Path, default=STORE, help=f"record file ({STORE})")
    run.add_argument("--report", action="store_true", help="write the report when done")
    run.add_argument("--out", type=Path, default=OUT, help=f"folder of the report ({OUT})")
    run.set_defaults(run=_run)

    _add_figures(commands)
    _add_energy(commands)

    report = commands.add_parser(
        "report",
        help="write the report from the store",
        description="Write ablation.md, a CSV beside each table and the plots, from records alone.",
    )
    report.add_argument("--store", type=Path, default=STORE, help=f"record file ({STORE})")
    report.add_argument("--out", type=Path, default=OUT, help=f"folder of the report ({OUT})")
    report.add_argument(
        "others", nargs="*", type=Path, metavar="FILE", help="more record files to put beside it"
    )
    report.add_argument(
        "--force", action="store_true", help="also if they are of different environments"
    )
    report.set_defaults(run=_report)
    _add_lift(commands)
    _add_evaluate(commands)
    command.add_train(commands, _add_own, _own_case)
    command.add_accuracy(commands, STORE, OUT, _report, _card)
    streaming_command.add(commands, STORE, OUT, _add_own, _own_case, _report)
    _add_motion(commands)
    gate.add(commands)
    _add_self_check(commands)
    peer.add(commands, _option)
    profile_command.add(commands, _add_own, _own_case)
    roofline_command.add(commands, STORE)
    runtimes.add(commands, STORE, OUT, _add_own, _own_case, _report)
    return parser


def _add_sampling(run: argparse.ArgumentParser) -> None:
    timed = run.add_argument_group("how long latency is sampled")
    timed.add_argument(
        "--budget", type=_above_zero, metavar="MINUTES",
        help="for all timing (13; 2.5 with --quick); every row has a share by its FLOPs",
    )  # fmt: skip
    timed.add_argument(
        "--width", type=_above_zero, default=2.0, metavar="PERCENT",
        help="half the 95%% interval of the median latency that is narrow enough (2)",
    )  # fmt: skip
    timed.add_argument(
        "--ratio-width", type=_above_zero, default=3.0, metavar="PERCENT",
        help="likewise of the speed-up (3)",
    )  # fmt: skip
    timed.add_argument(
        "--rounds", type=_positive, help="so many visits per row, whatever width and budget say"
    )
    timed.add_argument(
        "--visit-timeout", type=_above_zero, default=300.0, metavar="SECONDS",
        help="after which a row that does not answer is given up (300)",
    )  # fmt: skip
    timed.add_argument(
        "--flush-l2", action="store_true", help="empty a GPU's cache before every forward pass"
    )


def _sampling(given: argparse.Namespace) -> Sampling:
    return Sampling(
        rounds=given.rounds,
        width=given.width / 100,
        ratio_width=given.ratio_width / 100,
        budget_s=60 * (given.budget or (2.5 if given.quick else 13.0)),
        patience_s=given.visit_timeout,
        flush_l2=given.flush_l2,
    )


def _add_figures(commands: Any) -> None:
    figures = commands.add_parser(
        "figures",
        help="measure what the paper's figures show",
        description="Take the frames that each pruner keeps over one clip (Figure 7) and the poses "
        "of three sequences with those kept (Figure 10), into the same store as the tables. A few "
        "minutes; the same command resumes after an interruption.",
    )
    figures.add_argument(
        "--motion", metavar="FILE", type=Path, help="as for run; default: generated"
    )
    figures.add_argument("--threads", type=_positive, help="CPU threads, as for run")
    figures.add_argument("--store", type=Path, default=STORE, help=f"record file ({STORE})")
    figures.add_argument("--report", action="store_true", help="write the report when done")
    figures.add_argument("--out", type=Path, default=OUT, help=f"folder of the report ({OUT})")
    figures.set_defaults(run=_figures)


def _add_energy(commands: Any) -> None:
    energy = commands.add_parser(
        "energy",
        help="joules per output frame, idling subtracted",
        description="Energy of some configurations from the counters of the GPU or the CPU, half a "
        "minute each; needs h2ot[energy]. The record says why where there is none.",
    )
    _add_configuration(energy)
    energy.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    energy.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    energy.add_argument("--batch", type=_positive, default=1, help="clips per forward pass (1)")
    energy.add_argument("--threads", type=_positive, help="CPU threads, as for run")
    energy.add_argument("--motion", metavar="FILE", type=Path, help="as for run")
    energy.add_argument("--store", type=Path, default=STORE, help=f"record file ({STORE})")
    energy.set_defaults(run=_energy)


def _add_lift(commands: Any) -> None:
    lift = commands.add_parser(
        "lift",
        help="lift 2D keypoints of your own to 3D",
        description="Lift the 2D keypoints of one person in a video to 3D poses. KEYPOINTS is an "
        "npz with 'keypoints' (frames, 17, 2 or 3) in pixels, Human3.6M joints unless 'skeleton' "
        "is 'coco'; or COCO results or a COCO data set as JSON. OUT.npz gets 'poses_3d' "
        "(frames, 17, 3) in the camera's axes and what they were made with.",
    )
    lift.add_argument("keypoints", metavar="KEYPOINTS", type=Path)
    lift.add_argument("out", metavar="OUT.npz", type=Path)
    lift.add_argument(
        "--weights", metavar="FILE", type=Path, help="a checkpoint of a published repository"
    )
    lift.add_argument(
        "--untrained", action="store_true", help="go without weights; the poses are noise"
    )
    lift.add_argument("--width", type=_positive, help="of the image in pixels, if not in the file")
    lift.add_argument("--height", type=_positive, help="likewise")
    lift.add_argument(
        "--person", type=int, metavar="ID", help="track id to take (the surest of each frame)"
    )
    lift.add_argument("--fps", type=float, default=50.0, help="frames per second (50)")
    lift.add_argument("--no-flip", action="store_true", help="do not average with the mirrored")
    lift.add_argument("--batch", type=_positive, default=16, help="windows per forward pass (16)")
    lift.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    lift.add_argument(
        "--animate", metavar="FILE", type=Path, help="draw the poses as .gif, or .mp4 with ffmpeg"
    )
    _add_own(lift, "the model, which the weights must fit (mixste)")
    lift.set_defaults(run=_lift)


def _add_evaluate(commands: Any) -> None:
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
        help="h36m:FOLDER, sh:FILE, 3dhp:FOLDER, motion:FILE or generated",
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
        choices=("hot", "mixste", "strict", "sh", "centre"),
        help="how videos are cut and which frames count (as published for the data): hot counts "
        "padding, mixste counts an overlap twice, strict counts every frame once, sh drops "
        "tails, centre takes one window per frame",
    )
    evaluate.add_argument("--no-flip", action="store_true", help="do not average with the mirrored")
    evaluate.add_argument(
        "--keep-root", action="store_true", help="count the error of the predicted root"
    )
    evaluate.add_argument("--split", default="test", choices=("train", "test"))
    evaluate.add_argument(
        "--downsample", type=_positive, default=1, metavar="D", help="every D-th frame (1)"
    )
    evaluate.add_argument("--limit", type=_positive, metavar="N", help="no more than N takes")
    evaluate.add_argument(
        "--batch", type=_positive, default=16, help="windows per forward pass (16)"
    )
    evaluate.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    evaluate.add_argument("--store", type=Path, default=STORE, help=f"record file ({STORE})")
    _add_own(evaluate, "the model, which the weights must fit (mixste)")
    evaluate.set_defaults(
        run=_evaluate, table=None, interrupted="nothing of this evaluation is stored"
    )


def _add_self_check(commands: Any) -> None:
    check = commands.add_parser(
        "self-check",
        help="does the harness measure what it says, on this machine?",
        description="Hold clocks, ratios under drift, the cost of instrumentation, idle workers "
        "and memory readings against known truths; about a minute, on a machine that does nothing "
        "else. Exit status: 0 all passed, 1 one failed, 3 the machine is too noisy to say.",
    )
    check.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    check.set_defaults(run=_self_check, interrupted="nothing was stored")


def _add_motion(commands: Any) -> None:
    motion = commands.add_parser("motion", help="make motion files for --motion")
    actions = motion.add_subparsers(title="commands", required=True, metavar="COMMAND")
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
        "--fps", type=_positive, default=50, help="frames per second to write (50)"
    )
    imported.add_argument(
        "--source-fps", type=float, default=120.0, help="of AMC files, which do not say (120)"
    )
    imported.add_argument(
        "--test-subjects",
        metavar="NAME",
        nargs="+",
        help="subjects of the test split (every fifth)",
    )
    imported.set_defaults(run=_motion_import)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def _add_configuration(parser: argparse.ArgumentParser) -> None:
    tables = ", ".join(map(str, TABLES))
    parser.add_argument(
        "--table", type=int, action="append", metavar="N", help=f"a table of the paper: {tables}"
    )
    _add_own(parser, "one configuration instead of a table")


def _add_own(parser: argparse.ArgumentParser, title: str) -> None:
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE",
        help="a file or module that registers hosts or strategies of your own",
    )
    own = parser.add_argument_group(title)
    own.add_argument("--host", help="such as mixste")
    own.add_argument("--scheme", help=f"one of {', '.join(h2ot_core.SCHEMES)}")
    own.add_argument("--prune", help=f"one of {', '.join(h2ot_core.PRUNERS)}, none")
    own.add_argument("--recover", help=f"one of {', '.join(h2ot_core.RECOVERERS)}, none")
    own.add_argument("--frames", type=int, help="F, frames per clip")
    own.add_argument("--r", type=int, nargs="*", help="frames kept by each stage")
    own.add_argument("--b", type=int, nargs="*", help="block before which each stage acts")
    own.add_argument("--pipeline", help="seq2seq or seq2frame")
    own.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a further option of h2ot_core.build, such as width=256 or tpc_k=5",
    )


_OWN = ("host", "scheme", "prune", "recover", "frames", "r", "b", "pipeline")


def _own_case(given: argparse.Namespace) -> Case | None:
    """The configuration given on the command line, resolved; None if there is none."""
    wanted = {name: getattr(given, name) for name in _OWN if getattr(given, name) is not None}
    options = dict(_option(text) for text in given.option)
    if not wanted and not options:
        return None
    if given.table:
        raise UsageError("give either --table or a configuration, not both")
    from bench.counters import blank_model

    wanted.setdefault("host", "mixste")
    config = blank_model({**wanted, **options})[0].config
    return Case(
        host=config.host,
        frames=config.frames,
        prune=config.prune,
        recover=config.recover,
        r=config.r,
        b=config.b,
        pipeline=config.pipeline,
        options=tuple(sorted(options.items())),
    )


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not equals:
        raise UsageError(f"--option takes NAME=VALUE, got {text!r}")
    if name in _OWN:
        raise UsageError(f"{name} is no --option; give --{name} {value}")
    try:
        return name, int(value)
    except ValueError:
        return name, value


def _count(given: argparse.Namespace) -> None:
    own = _own_case(given)
    if given.modules and own is None:
        raise UsageError("--modules goes with one configuration; give --host or --scheme")
    if own is not None:
        lines = [{"row": "1", "case": own.label, **_counted([own])[own]}]
    else:
        numbers = list(dict.fromkeys(given.table or TABLES))
        printed = [row for number in numbers for row in rows(number)]
        counts = _counted([case for row in printed if (case := row.case())])
        lines = [_count_row(row, counts, with_table=len(numbers) > 1) for row in printed]
    present = dict.fromkeys(name for line in lines for name in line)
    # Counts come last, and the note after them, whatever columns the tables have.
    columns = [name for name in present if name not in _COUNTED]
    columns += [name for name in _COUNTED if name in present]
    if given.csv == "-":
        _write_csv(sys.stdout, columns, lines)
    elif given.csv:
        try:
            with open(given.csv, "w", newline="", encoding="utf-8") as file:
                _write_csv(file, columns, lines)
        except OSError as error:
            raise UsageError(f"cannot write {given.csv}: {error.strerror}") from None
    else:
        from tabulate import tabulate

        table = [[line.get(name, "") for name in columns] for line in lines]
        print(tabulate(table, headers=columns, disable_numparse=True))
    if given.modules and own is not None:
        _print_modules(own)


_COUNTED = ("param_m", "flops_paper_g", "flops_full_g", "paper_param_m", "paper_flops_g", "note")


def _write_csv(file: TextIO, columns: Sequence[str], lines: Sequence[dict[str, str]]) -> None:
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)


def _count_row(
    row: PaperRow, counts: Mapping[Case, Mapping[str, str]], *, with_table: bool
) -> dict[str, str]:
    line = {"table": str(row.table)} if with_table else {}
    line["row"] = str(row.number)
    line.update({name: text for name, text in row.cells.items() if name in DESCRIPTIVE})
    case = row.case()
    line.update(counts[case] if case else dict.fromkeys(_COUNTED[:3], ""))
    line["paper_param_m"], line["paper_flops_g"] = row.cells["param_m"], row.cells["flops_g"]
    columns = ("param_m", "flops_g", "r", "b")
    notes = [m.reason for m in remarks(row) if m.column in columns]
    if row.cells.get("note"):
        notes.insert(0, row.cells["note"])
    if case is None:
        notes.append("not measured: no host of this package")
    line["note"] = "; ".join(dict.fromkeys(notes))
    return line


def _counted(cases: Sequence[Case]) -> dict[Case, dict[str, str]]:
    """Both counts of every case, as text."""
    from bench.counting import count_all

    return {
        case: {
            "param_m": millions(found.parameters),
            "flops_paper_g": giga(found.flops_paper),
            "flops_full_g": giga(found.flops_full, 3),
        }
        for case, found in count_all(cases).items()
    }


def _print_modules(own: Case) -> None:
    from bench import counters

    model, x = counters.blank_model(own.build_arguments())
    for path, flops in sorted(counters.count(model, x).modules.items()):
        print(f"{giga(flops, 3):>10} G  {path or '(loop)'}")


def _run(given: argparse.Namespace) -> None:
    from bench import sweep
    from bench.data.windows import MotionSource
    from bench.metrics.base import Context

    motion = MotionSource.from_file(given.motion) if given.motion else MotionSource.generated()
    wanted, timed = _cases(given)

    def settle(found: Sequence[Case]) -> tuple[Case, ...]:
        """The cases in the setting asked for, each batch size after its baseline."""
        return tuple(
            replace(
                case,
                batch=batch,
                device=given.device,
                dtype=given.dtype,
                threads=given.threads or 0,
                motion=motion.name,
            )
            for batch in given.batch
            for case in dict.fromkeys(found)
        )

    own = _own_case(given) is not None
    whole = not (given.table or given.quick or given.defaults or own)
    with_memory = wanted if own else cases([3, 4])
    trained = wanted if own else cases([3])
    plan = sweep.Plan(
        exact=settle(wanted),
        timed=settle(timed),
        trainable=settle([case for case in timed if case in with_memory]),
        training=settle([case for case in timed if case in trained])
        if given.training_steps or given.device == "cuda"
        else (),
        sampling=_sampling(given),
    )
    sweep.run(plan, given.store, Context(motion))
    if whole:
        from bench.figures import take_figures

        take_figures(given.store, Context(motion), threads=given.threads or 0)
    if given.report:
        _report(given)
    else:
        print(f"records: {given.store}; report: python -m bench report --store {given.store}")


def _cases(given: argparse.Namespace) -> tuple[list[Case], list[Case]]:
    """The cases to count, and those to time, the baseline before what is compared with it."""
    own = _own_case(given)
    if given.every_strategy:
        if own is None:
            raise UsageError("--every-strategy needs a host; give --host")
        found = _every_strategy(own.baseline, given)
        return found, found
    if own is not None:
        return [own.baseline, own], [own.baseline, own]
    main = main_cases()
    if given.defaults:
        found = [case for case in main if case.prune != "tpc"]
        return found, found
    numbers = given.table or TABLES
    counted = cases(numbers)
    if given.quick:
        return counted, [case for case in main if case.prune != "tpc" or case.host == "mixste"]
    # Table 6 prints no speed, and its rows differ in the last operation alone.
    timed = cases([number for number in numbers if number != 6] or numbers)
    return counted, [*(case.baseline for case in timed), *timed]


def _every_strategy(baseline: Case, given: argparse.Namespace) -> list[Case]:
    """The baseline and every pair of strategies that the host takes."""
    found = [baseline]
    for prune in h2ot_core.PRUNERS:
        for recover in ("none", *h2ot_core.RECOVERERS):
            pair = {"prune": prune, "recover": recover, "scheme": given.scheme or "h2ot"}
            if recover == "none" and (given.pipeline or baseline.pipeline) == "seq2seq":
                continue
            try:
                case = _own_case(argparse.Namespace(**{**vars(given), **pair}))
            except h2ot_core.ConfigError as error:
                print(f"note: left out {prune} + {recover}: {error}", file=sys.stderr)
                continue
            if case is not None:
                found.append(case)
    return found


def _figures(given: argparse.Namespace) -> None:
    from bench.data.windows import MotionSource
    from bench.figures import take_figures
    from bench.metrics.base import Context

    motion = MotionSource.from_file(given.motion) if given.motion else MotionSource.generated()
    take_figures(given.store, Context(motion), threads=given.threads or 0)
    if given.report:
        _report(given)
    else:
        print(f"records: {given.store}; report: python -m bench report --store {given.store}")


def _energy(given: argparse.Namespace) -> int:
    from bench.data.windows import MotionSource
    from bench.energy import take_energy
    from bench.metrics.base import Context

    motion = MotionSource.from_file(given.motion) if given.motion else MotionSource.generated()
    own = _own_case(given)
    found = [own.baseline, own] if own is not None else cases(given.table or [3])
    where: dict[str, Any] = {
        "batch": given.batch, "device": given.device, "dtype": given.dtype,
        "threads": given.threads or 0, "motion": motion.name,
    }  # fmt: skip
    wanted = [replace(case, **where) for case in dict.fromkeys(found)]
    missing = take_energy(wanted, given.store, Context(motion))
    for reason in missing:
        print(f"without a value, {reason}", file=sys.stderr)
    print(f"records: {given.store}; report: python -m bench report --store {given.store}")
    return 1 if missing else 0


def _lift(given: argparse.Namespace) -> None:
    from bench.lift import Job, lift_file

    own = {name: getattr(given, name) for name in _OWN if getattr(given, name) is not None}
    job = Job(
        keypoints=given.keypoints,
        out=given.out,
        arguments=own | dict(_option(text) for text in given.option),
        weights=given.weights,
        untrained=given.untrained,
        width=given.width,
        height=given.height,
        person=given.person,
        fps=given.fps,
        flip=not given.no_flip,
        batch=given.batch,
        device=given.device,
        animate=given.animate,
    )
    lift_file(job, say=print)


def _evaluate(given: argparse.Namespace) -> None:
    from bench.data.sources import open_data
    from bench.evaluation import job

    given.host = given.host or "mixste"
    case = _own_case(given)
    assert case is not None
    job.run(
        job.Job(
            case=case,
            data=lambda: open_data(given.data, detector=given.detector),
            store=given.store,
            weights=given.weights,
            untrained=given.untrained,
            windows=given.windows,
            flip=not given.no_flip,
            zero_root=not given.keep_root,
            downsample=given.downsample,
            batch=given.batch,
            device=given.device,
            split=given.split,
            limit=given.limit,
        ),
        say=print,
    )


def _motion_import(given: argparse.Namespace) -> int:
    from bench.data.mocap.convert import import_motion

    try:
        done = import_motion(
            given.folder,
            given.out,
            mapping=given.mapping,
            actions=given.actions,
            fps=given.fps,
            source_fps=given.source_fps,
            test_subjects=given.test_subjects,
            progress=sys.stderr.isatty(),
        )
    except OSError as error:
        raise UsageError(f"cannot write {given.out}: {error.strerror}") from None
    for line in done.broken:
        print(f"left out: {line}", file=sys.stderr)
    split = f"test: {', '.join(done.test_subjects)}" if done.test_subjects else "all train"
    print(f"{given.out}: {done.clips} clips, {done.frames} frames at {given.fps} Hz ({split})")
    if done.broken:
        print(f"{len(done.broken)} files could not be read, see above", file=sys.stderr)
    return 1 if done.broken else 0


def _self_check(given: argparse.Namespace) -> int:
    import torch
    from tabulate import tabulate

    from bench import selfcheck

    if given.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device here; use --device cpu")
    checks = selfcheck.run(given.device, say=lambda text: print(text, file=sys.stderr))
    lines = [(c.name, c.found, c.limit, c.verdict) for c in checks]
    print(tabulate(lines, headers=("check", "off by", "limit", "verdict"), disable_numparse=True))
    print(selfcheck.summary(checks))
    return selfcheck.exit_status(checks)


def _report(given: argparse.Namespace) -> None:
    from reports.build import build

    others, force = getattr(given, "others", ()), getattr(given, "force", False)
    print(f"report: {build(given.store, given.out, others=others, force=force)}")


def _card(records: Path, header: dict[str, Any], path: Path) -> None:
    from reports.card import write_card

    print(f"model card: {write_card(records, header, path)}")
