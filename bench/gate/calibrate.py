"""How often the gate errs: on simulated suites, and on this machine."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.gate import sampled, simulate, verdicts
from bench.gate.regression import OUT
from bench.gate.revisions import HARNESS, Revision, checkout
from bench.gate.simulate import CASES, Simulated, draw
from bench.gate.trials import Calibration, Trial
from bench.gate.verdicts import Finding, Rules, exit_status, judge
from bench.records import store
from bench.records.environment import differences
from bench.records.errors import StoreError, UsageError
from bench.records.files import text_digest
from bench.records.record import Record
from bench.records.session import progress
from bench.records.store import write
from bench.timing import statistics

STORE = OUT / "calibration"
SPREADS = (0.005, 0.01, 0.02)
SLOWDOWNS = (0.02, 0.05, 0.1)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which trials are run.

    Attributes:
        simulated: A/A suites at each spread.
        power: suites at each spread and slowdown, with all cases slowed and with one.
        real: A/A runs on this machine, and as many with each of ``slowdowns``.
        sampled: what a real run measures.
        store: folder in which every trial is kept.
        root: the checkout whose HEAD is measured against itself.
    """

    simulated: int = 300
    power: int = 200
    real: int = 0
    slowdowns: Sequence[float] = SLOWDOWNS
    sampled: sampled.Plan = field(default_factory=sampled.Plan)
    store: Path = STORE
    root: Path = HARNESS
    rules: Rules = field(default_factory=Rules)
    quiet: bool = False


def run(plan: Plan) -> Calibration:
    """Run the trials that are not yet in the store.

    Raises:
        UsageError: if the store cannot be written, or real runs are requested outside a checkout.
    """
    try:
        plan.store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {error.filename}: {error.strerror}") from None
    simulated = _simulate(plan)
    if plan.real:
        _measure(plan)
    real, environment = _real_trials(plan)
    return Calibration(simulated=simulated, real=real, rules=plan.rules, environment=environment)


def _trial(findings: Sequence[Finding], **known: Any) -> Trial:
    reach = [f.ratio.high / f.ratio.value - 1 for f in findings if f.ratio and f.ratio.high]
    return Trial(status=exit_status(findings), half_width=max(reach, default=float("inf")), **known)


# --- simulated ---------------------------------------------------------------------------------


def _simulate(plan: Plan) -> list[Trial]:
    """All simulated trials of the plan, those that were made before from the store."""
    trials = []
    settings = list(_settings(plan))
    known = _Lines(plan.store / f"simulated-{_digest(plan.rules)}.jsonl")
    total = sum(count for _, count in settings)
    with progress("simulated suites", total, plan.quiet, "suite") as tick:
        for setting, count in settings:
            for seed in range(count):
                key = f"{json.dumps(asdict(setting), sort_keys=True)} {seed}"
                trials.append(known.trial(key, partial(_once, setting, seed, plan.rules)))
                tick(f"spread {setting.spread:.1%}, slowdown {setting.slowdown:.0%}")
    return trials


def _settings(plan: Plan) -> Iterator[tuple[Simulated, int]]:
    for spread in SPREADS:
        # The number of processes per side is that of the real gate.
        base = Simulated(spread=spread, pairs=plan.sampled.pairs)
        yield base, plan.simulated
        for slowdown in SLOWDOWNS:
            for slowed in (CASES, 1):
                yield replace(base, slowdown=slowdown, slowed=slowed), plan.power


def _once(setting: Simulated, seed: int, rules: Rules) -> Trial:
    base, head = draw(setting, seed)
    findings = judge(base, head, rules)
    return _trial(
        findings,
        kind="all cases" if setting.slowed == CASES else "one case",
        spread=setting.spread,
        slowdown=setting.slowdown,
    )


def _digest(rules: Rules) -> str:
    """Digest of everything that a simulated verdict depends on."""
    code = "".join(map(inspect.getsource, (statistics, verdicts, simulate)))
    return text_digest(f"{asdict(rules)}{code}")


class _Lines:
    """Trials by key in a file that is appended to; a torn last line is run again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Trial] = {}
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        complete, _, torn = text.rpartition("\n")
        for line in complete.splitlines():
            data = json.loads(line)
            key = data.pop("key")
            self._known[key] = Trial(**data)
        if torn:
            path.write_text(complete + "\n" if complete else "", encoding="utf-8")

    def trial(self, key: str, make: Callable[[], Trial]) -> Trial:
        """The trial of a key, run and stored if it is not there yet."""
        if key not in self._known:
            self._known[key] = made = make()
            line = json.dumps({"key": key, **asdict(made)}) + "\n"
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(line)
            except OSError as error:
                raise UsageError(f"cannot write {self._path}: {error.strerror}") from None
        return self._known[key]


# --- real --------------------------------------------------------------------------------------


def _measure(plan: Plan) -> None:
    """Measure the missing real runs, kinds in turn, so that an interruption leaves both."""
    todo = [
        (slowdown, number)
        for number in range(plan.real)
        for slowdown in (0.0, *plan.slowdowns)
        if not _run_folder(plan, slowdown, number).exists()
    ]
    if not todo:
        return
    with ExitStack() as stack:
        # Two worktrees of one commit: they differ as those of real use do.
        base = stack.enter_context(checkout("HEAD", plan.root))
        head = stack.enter_context(checkout("HEAD", plan.root, name="head"))
        tick = stack.enter_context(progress("real runs", len(todo), plan.quiet, "run"))
        for slowdown, number in todo:
            status = _real_run(plan, base, replace(head, slowdown=slowdown), number)
            tick(f"slowdown {slowdown:.0%}, run {number + 1}: {status}")


def _real_run(plan: Plan, base: Revision, head: Revision, number: int) -> str:
    before, after = sampled.sample(plan.sampled, base, head, lambda label: None)
    findings = judge(before, after, plan.rules)
    folder = _run_folder(plan, head.slowdown, number)
    scratch = folder.with_name(folder.name + ".part")
    try:
        write(scratch / "base.jsonl", before)
        write(scratch / "head.jsonl", after)
        scratch.replace(folder)  # a run is there completely or not at all
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror}") from None
    return f"exit {exit_status(findings)}"


def _run_folder(plan: Plan, slowdown: float, number: int) -> Path:
    """Folder of one real run, named by what is measured, so that plans do not mix."""
    cases = "".join(case.key for case in plan.sampled.cases)
    what = f"{cases} {plan.sampled.pairs} {plan.sampled.budget_s} {plan.sampled.turns}"
    kind = text_digest(what, 8)
    return plan.store / f"real-{kind}-slowdown{slowdown:g}-run{number:03}"


def _real_trials(plan: Plan) -> tuple[list[Trial], dict[str, Any]]:
    """Real runs in the store, judged by the present rules, and where they ran."""
    trials: list[Trial] = []
    records: list[Record] = []
    for slowdown in (0.0, *sorted({*SLOWDOWNS, *plan.slowdowns})):
        number = 0
        while (folder := _run_folder(plan, slowdown, number)).exists():
            try:
                before, after = (store.read(folder / f"{name}.jsonl") for name in ("base", "head"))
            except StoreError as error:
                raise UsageError(f"{error} Remove {folder} to repeat that run.") from None
            records += (before[-1], after[-1])
            findings = judge(before, after, plan.rules)
            trials.append(_trial(findings, kind="real", spread=None, slowdown=slowdown))
            number += 1
    if not records:
        return [], {}
    if several := differences(records):
        raise UsageError(
            f"the real runs in {plan.store} are of several environments: {'; '.join(several)}; "
            f"remove those that are not of this machine, or name another --store"
        )
    commits = dict.fromkeys(str(record.environment["commit"]) for record in records)
    environment = {**records[-1].environment, "commit": ", ".join(commits)}
    return trials, environment
