"""The gate: verdicts on records whose truth is known, exit statuses, and real checkouts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import h2ot_core
from bench.cli import main
from bench.gate import calibrate, exact, regression, sampled
from bench.gate.allowances import read_allowances
from bench.gate.compare import Incomparable, compare, compare_files
from bench.gate.revisions import checkout, working_tree
from bench.gate.simulate import CASES, Simulated, draw
from bench.gate.verdicts import (
    SAMPLED,
    Allowance,
    Finding,
    Rules,
    Verdict,
    decide,
    exit_status,
    judge,
)
from bench.records import store
from bench.records.case import Case
from bench.records.environment import differences
from bench.records.errors import StoreError, UsageError
from bench.records.record import Record
from bench.records.store import write
from bench.timing.statistics import Estimate
from reports import gate_calibration
from reports.gate_summary import MARKER, markdown

ROOT = Path(__file__).resolve().parents[2]
CASE = Case(host="mixste", frames=27)
OTHER = replace(CASE, frames=81)
HERE = {"cpu": "a", "torch": "2.13.0", "commit": "abc", "dirty": False, "code": "1"}

# --- records of known truth --------------------------------------------------------------------


def counted(value: float, metric: str = "flops_full", case: Case = CASE, **more: Any) -> Record:
    return Record(
        case=case, metric=metric, unit="1", values=(value,), **{"environment": HERE, **more}
    )


def failed(metric: str = "flops_full", case: Case = CASE, reason: str = "broken") -> Record:
    return Record(
        case=case, metric=metric, unit="", values=(), status="failed", reason=reason,
        environment=HERE,
    )  # fmt: skip


def timed(
    ratio: float = 1.0, *, processes: int = 8, case: Case = CASE, wobble: float = 0.001,
    side: str = "base", **protocol: Any,
) -> list[Record]:  # fmt: skip
    """Processes that differ by up to ``wobble``, in a fixed pattern without any luck in it."""
    return [
        Record(
            case=case, metric=SAMPLED, unit="s", session=f"{side}-{pair}", part=pair, group="gate",
            values=tuple(
                ratio * (1 + wobble * ((pair * 7 + turn * 3) % 5 - 2)) for turn in range(8)
            ),
            protocol={"pair": pair, "run": "r", "per_turn": 1, **protocol},
            environment=HERE,
        )
        for pair in range(processes)
    ]  # fmt: skip


def only(findings: Sequence[Finding]) -> Finding:
    (found,) = findings
    return found


@pytest.mark.parametrize(
    ("base", "head", "verdict", "status"),
    [
        ([counted(10)], [counted(10)], "unchanged", 0),
        ([counted(10)], [counted(9)], "improved", 0),
        ([counted(10)], [counted(11)], "regressed", 1),
        ([], [counted(10)], "new", 4),
        ([counted(10)], [], "gone", 4),
        ([failed()], [counted(10)], "new", 4),
        ([counted(10)], [failed()], "regressed", 1),
        ([failed()], [failed()], "inconclusive", 3),
        (timed(), timed(), "unchanged", 0),
        (timed(), timed(1.05), "regressed", 1),
        (timed(), timed(0.9), "improved", 0),
        (timed(), timed(1.007), "unchanged", 0),  # real, but within the band
        (timed(), timed(processes=3), "inconclusive", 3),
        (timed(processes=1), timed(1.5, processes=1), "inconclusive", 3),
        (timed(), [*timed(), failed(SAMPLED)], "regressed", 1),
        (timed(), [], "gone", 4),
    ],
)
def test_verdicts(base: list[Record], head: list[Record], verdict: str, status: int) -> None:
    findings = judge(base, head)
    assert {str(found.verdict) for found in findings} == {verdict}
    assert exit_status(findings) == status


def estimate(low: float, high: float, n: int = 10) -> Estimate:
    return Estimate(value=(low + high) / 2, low=low, high=high, level=0.99, n=n)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.99, 1.01, "unchanged"),
        (0.97, 1.049, "unchanged"),
        (0.97, 1.06, "inconclusive"),  # could not have seen 5%
        (1.002, 1.03, "inconclusive"),  # slower, but is it by more than the band?
        (1.002, 1.009, "unchanged"),  # slower by less than the band, for sure
        (1.011, 1.2, "regressed"),
        (0.9, 0.98, "improved"),
        (0.9, 1.0, "unchanged"),
    ],
)
def test_what_an_interval_means(low: float, high: float, verdict: str) -> None:
    assert decide(estimate(low, high), Rules())[0] == verdict


def test_few_processes_mean_nothing() -> None:
    verdict, reason = decide(estimate(1.5, 1.6, n=3), Rules())
    assert verdict == "inconclusive"
    assert reason == "3 processes per side, at least 4 needed"


def test_one_regression_is_not_outweighed() -> None:
    base = [counted(10), counted(10, case=OTHER), *timed()]
    head = [counted(11), counted(1, case=OTHER), *timed(processes=2)]
    findings = judge(base, head)
    assert [str(f.verdict) for f in findings] == ["inconclusive", "regressed", "improved"]
    assert exit_status(findings) == 1


def test_what_is_gone_does_not_pass() -> None:
    findings = judge([counted(1), counted(1, case=OTHER)], [counted(1)])
    assert exit_status(findings) == 3
    assert exit_status(judge([counted(1)], [counted(1), counted(1, case=OTHER)])) == 0


def test_operators_are_compared_one_by_one() -> None:
    def calls(**numbers: int) -> list[Record]:
        return [
            Record(
                case=CASE, metric="operator_calls", unit="1", values=tuple(numbers.values()),
                labels=tuple(numbers), environment=HERE,
            )
        ]  # fmt: skip

    findings = judge(calls(addmm=4, view=9, mul=1), calls(addmm=5, view=8, exp=1, mul=1))
    assert {(f.metric, str(f.verdict), f.base, f.head) for f in findings} == {
        ("operator_calls:addmm", "regressed", 4, 5),
        ("operator_calls:view", "improved", 9, 8),
        ("operator_calls:exp", "regressed", 0, 1),
    }


def test_more_cases_make_wider_intervals() -> None:
    def width(cases: int) -> float:
        base, head = [], []
        for number in range(cases):
            case = replace(CASE, frames=number + 1)
            base += timed(case=case, wobble=0.01)
            head += timed(case=case, wobble=0.02)
        ratio = judge(base, head)[0].ratio
        assert ratio is not None
        return ratio.width

    assert width(1) < width(4) < width(20)
    assert Rules().level(4) == pytest.approx(0.99)


def test_a_turn_is_the_median_of_its_passes() -> None:
    base = [replace(r, values=(1.0, 1.0, 9.0) * 4) for r in timed(per_turn=3)]
    found = only(judge(base, timed(wobble=0)))
    assert found.ratio is not None
    assert found.ratio.value == pytest.approx(1.0)


def test_pairs_of_different_runs_are_not_pairs() -> None:
    noisy = [replace(r, values=tuple(v * (1 + r.part) for v in r.values)) for r in timed()]
    together = only(judge(noisy, noisy)).ratio
    apart = only(judge(noisy, [replace(r, protocol={**r.protocol, "run": "s"}) for r in noisy]))
    assert together is not None
    assert apart.ratio is not None
    assert together.width < 0.01 < apart.ratio.width


# --- how often it is wrong ---------------------------------------------------------------------


def statuses(plan: Simulated, suites: int) -> list[int]:
    return [exit_status(judge(*draw(plan, seed))) for seed in range(suites)]


@pytest.mark.parametrize("spread", calibrate.SPREADS)
def test_false_alarms(spread: float) -> None:
    assert statuses(Simulated(spread=spread), 300).count(1) <= 3


@pytest.mark.parametrize("spread", [0.005, 0.01])
def test_a_slowdown_of_five_percent_is_caught(spread: float) -> None:
    assert statuses(Simulated(spread=spread, slowdown=0.05), 100).count(1) >= 95


def test_without_noise_between_processes_most_runs_pass() -> None:
    assert statuses(Simulated(spread=0.005), 100).count(0) >= 90


def test_a_wide_spread_is_owned_up_to() -> None:
    found = statuses(Simulated(spread=0.02, slowdown=0.03), 100)
    assert found.count(3) > found.count(0)


def test_simulated_drift_is_common_to_both_sides() -> None:
    quiet = Simulated(spread=0, noise=0, bursts=0, drift=0.1)
    ratios = [found.ratio for found in judge(*draw(quiet, 0))]
    assert len(ratios) == CASES
    assert all(ratio is not None and abs(ratio.value - 1) < 1e-3 for ratio in ratios)


# --- files -------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "base.jsonl", tmp_path / "head.jsonl"
    for path in paths:
        write(path, [counted(10), *timed()])
    return paths


def gate(paths: Sequence[Path], *more: str) -> int:
    return main(["gate", *map(str, paths), "--allowances", str(paths[0].parent / "g.toml"), *more])


def test_equal_files_pass(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert gate(pair) == 0
    out = capsys.readouterr().out
    assert out.startswith(MARKER)
    assert "no regression" in out


@pytest.mark.parametrize(
    ("head", "status", "title"),
    [
        ([counted(11), *timed()], 1, "**regressed**"),
        ([counted(9), *timed(0.5)], 0, "no regression"),
        ([counted(10), *timed(processes=2)], 3, "**inconclusive**"),
        ([counted(10, case=OTHER)], 4, "**not compared**"),
    ],
)
def test_exit_statuses(
    pair: tuple[Path, Path], head: list[Record], status: int, title: str
) -> None:
    write(pair[1], head)
    file = pair[0].with_name("summary.md")
    assert gate(pair, "--markdown", str(file)) == status
    assert title in file.read_text()


def test_a_missing_base_is_no_pass(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pair[0].unlink()
    assert gate(pair) == 4
    assert "no baseline: there is no file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "no record file at"),
        (lambda path: path.write_text("hello\n"), "is not a benchmark record"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "ends in a torn line"),
    ],
)
def test_a_head_that_cannot_be_read_is_wrong_usage(
    pair: tuple[Path, Path],
    spoil: Callable[[Path], object],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(pair[1])
    assert gate(pair) == 2
    assert message in capsys.readouterr().err


def test_environments_that_differ_are_named(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write(pair[1], [replace(counted(10), environment={**HERE, "cpu": "b", "commit": "def"})])
    assert gate(pair) == 4
    assert "incomparable: cpu is a or b." in capsys.readouterr().err
    write(pair[1], [replace(counted(11), environment={**HERE, "torch": "2.12.0"}), *timed()])
    assert gate(pair, "--force") == 1
    assert "> forced: torch is 2.13.0 or 2.12.0" in capsys.readouterr().out


def test_a_dirty_tree_is_no_baseline() -> None:
    dirty = counted(10, environment={**HERE, "dirty": True})
    assert compare([counted(10)], [dirty]).status == 0
    with pytest.raises(Incomparable, match="uncommitted changes"):
        compare([dirty], [counted(10)])
    assert compare([dirty], [counted(10)], force=True).status == 0


def test_code_may_differ() -> None:
    other = counted(10, environment={**HERE, "commit": "x", "code": "y", "dirty": True})
    assert not differences([counted(10), other])
    assert differences([counted(10), counted(10, environment={**HERE, "gpu": "H"})]) == [
        "gpu is unknown or H"
    ]


def test_an_empty_side_is_no_baseline() -> None:
    with pytest.raises(Incomparable, match="0 records of the base, 1 of the head"):
        compare([], [counted(1)])


def test_files_that_are_no_files(tmp_path: Path) -> None:
    write(tmp_path / "base.jsonl", [counted(1)])
    with pytest.raises(StoreError):
        compare_files(tmp_path / "base.jsonl", tmp_path)


def test_the_summary_names_every_case(pair: tuple[Path, Path]) -> None:
    head = [counted(11), counted(5, case=OTHER), *timed(1.05), failed(SAMPLED, OTHER, "a|b")]
    text = markdown(compare([counted(10), *timed(), *timed(case=OTHER)], head))
    assert "base `abc`, head `abc`" in text
    assert "| mixste-f27 | 1000.0 | 1050.0 | 1.050 | 1.0" in text
    assert "**regressed**: failed: a\\|b" in text
    assert "| mixste-f27 | flops_full | 10 | 11 | **regressed** |" in text
    assert "| mixste-f81 | flops_full | – | – | new: not measured at the base |" in text


# --- intended increases ------------------------------------------------------------------------

ENTRY = '[[allow]]\ncase = "{}"\nmetric = "{}"\nupto = {}\nreason = "deeper, for accuracy"\n'


@pytest.mark.parametrize(
    ("entry", "status"),
    [
        (ENTRY.format("mixste-f27", "flops_full", 11), 0),
        (ENTRY.format("mixste-*", "flops_full", 11.5), 0),
        (ENTRY.format("mixste-f27", "flops_full", 10), 1),
        (ENTRY.format("mixste-f27", "flops_paper", 11), 1),
        (ENTRY.format("motionbert-*", "flops_full", 11), 1),
    ],
)
def test_an_intended_increase_passes(
    pair: tuple[Path, Path], entry: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write(pair[1], [counted(11), *timed()])
    pair[0].with_name("g.toml").write_text(entry)
    assert gate(pair) == status
    assert ("allowed: deeper, for accuracy" in capsys.readouterr().out) == (status == 0)


def test_an_intended_slowdown_passes_up_to_its_ratio() -> None:
    slow = judge(timed(), timed(1.06), allowances=[Allowance("*", SAMPLED, 1.08, "why")])
    assert (only(slow).verdict, only(slow).reason) == (Verdict.ALLOWED, "why")
    slow = judge(timed(), timed(1.2), allowances=[Allowance("*", SAMPLED, 1.08, "why")])
    assert only(slow).verdict is Verdict.REGRESSED


def test_one_operator_may_be_allowed() -> None:
    entry = Allowance("*", "operator_calls:exp", 3, "why")
    assert entry.covers(CASE, "operator_calls:exp", 3)
    assert not entry.covers(CASE, "operator_calls:mul", 3)
    assert Allowance("*", "operator_calls", 3, "why").covers(CASE, "operator_calls:mul", 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("allow = 3", "holds \\[\\[allow\\]\\] entries alone"),
        ("colour = 1", "got colour"),
        ("[[allow]]\ncase = 'x'", "expected \\['case', 'metric', 'reason', 'upto'\\]"),
        (ENTRY.format("x", "flops", 1), "no metric 'flops'; choose from param_count"),
        (ENTRY.format("x", "flops_full", "'many'"), "upto cannot be 'many'"),
        (ENTRY.format("x", "flops_full", 1).replace("deeper, for accuracy", " "), "no reason"),
        ("[[allow", "cannot be read as TOML"),
    ],
)
def test_entries_that_say_nothing_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "gate.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_allowances(path)


def test_the_file_of_this_tree_is_read() -> None:
    assert read_allowances(ROOT / "gate.toml") == []
    assert read_allowances(ROOT / "no such file") == []


# --- a real repository -------------------------------------------------------------------------

TINY = (("depth", 3), ("heads", 2), ("width", 16))
CASES_HERE = (
    Case(host="mixste", frames=27, options=TINY),
    Case(host="mixste", frames=27, prune="tps", recover="tri", r=(9,), b=(1,), options=TINY),
)
QUICK = sampled.Plan(cases=CASES_HERE, pairs=2, budget_s=0.0, turns=2)


def git(root: Path, *words: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", "-C", str(root), *identity, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the library alone, in one commit."""
    root = tmp_path_factory.mktemp("repository")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "h2ot_core", root / "h2ot_core", ignore=ignore)
    (root / ".gitignore").write_text("__pycache__/\n")
    git(root, "init", "--quiet")
    git(root, "add", "-A")
    git(root, "commit", "--quiet", "-m", "first")
    return root


@pytest.fixture
def patched(repository: Path) -> Callable[[str, str, str], None]:
    """Change a file of the working tree; undone at the next use."""
    git(repository, "checkout", "--quiet", "--", ".")

    def change(file: str, old: str, new: str) -> None:
        path = repository / "h2ot_core" / file
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    return change


def plan(repository: Path, tmp_path: Path, **changes: Any) -> regression.Plan:
    chosen = {"exact": CASES_HERE, "memory": False, "sampled": None, **changes}
    return regression.Plan(
        revision="HEAD", root=repository, out=tmp_path, cache=tmp_path / "cache", **chosen
    )


def worktrees(repository: Path) -> int:
    return len(git(repository, "worktree", "list").splitlines())


def test_added_operators_and_parameters_are_seen(
    repository: Path, tmp_path: Path, patched: Callable[[str, str, str], None]
) -> None:
    patched(
        "hourglass.py", "        z = self.host.embed(x)\n", "        z = self.host.embed(x).exp()\n"
    )
    patched(
        "hourglass.py",
        "        self.check_finite = True\n",
        "        self.check_finite = True\n        self.extra = nn.Parameter(torch.zeros(5))\n",
    )
    outcome = regression.run(plan(repository, tmp_path, memory=True), quiet=True)
    assert outcome.status == 1
    assert outcome.head.endswith("(dirty)")
    worse = {
        (f.case, f.metric): (f.head or 0) - (f.base or 0)
        for f in outcome.findings
        if f.verdict == "regressed"
    }
    assert len(worse) == 3 * len(CASES_HERE)
    for case in CASES_HERE:
        assert worse[case, "param_count"] == 5
        assert worse[case, "operator_calls:exp"] == 1
        assert worse[case, "training_peak_estimated_bytes"] > 0  # its gradient, AdamW's state
    kept = list((tmp_path / "cache").iterdir())
    assert {path.name.partition("-")[0] for path in kept} == {"counts", "memory"}
    assert len(kept) == 2  # the base's: what is in no commit is not kept
    assert worktrees(repository) == 1


def test_nothing_is_measured_twice_for_one_commit(
    repository: Path,
    tmp_path: Path,
    patched: Callable[[str, str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = regression.run(plan(repository, tmp_path), quiet=True)

    def again(*_: Any) -> list[Record]:
        pytest.fail("measured again")

    monkeypatch.setattr(exact, "_measured", again)
    second = regression.run(plan(repository, tmp_path), quiet=True)
    assert first.findings == second.findings
    assert first.status == 0


def test_a_base_that_does_not_know_a_case(
    repository: Path, tmp_path: Path, patched: Callable[[str, str, str], None]
) -> None:
    odd = replace(CASES_HERE[0], host="nothing")
    path = repository / "h2ot_core" / "hosts" / "__init__.py"
    path.write_text(path.read_text() + '\nHOSTS["nothing"] = HOSTS["mixste"]\n')
    outcome = regression.run(plan(repository, tmp_path, exact=(CASES_HERE[0], odd)), quiet=True)
    by_case = {f.case: f for f in outcome.findings}
    assert by_case[CASES_HERE[0]].verdict is Verdict.UNCHANGED
    assert by_case[odd].verdict is Verdict.NEW
    assert "nothing" in by_case[odd].reason
    assert outcome.status == 0


def test_a_base_that_does_not_fit_the_harness(repository: Path, tmp_path: Path) -> None:
    git(repository, "checkout", "--quiet", "--", ".")
    (repository / "h2ot_core" / "__init__.py").write_text("raise ImportError('of another time')\n")
    git(repository, "commit", "--quiet", "-am", "broken")
    git(repository, "checkout", "--quiet", "HEAD~", "--", "h2ot_core")
    try:
        with pytest.raises(
            UsageError, match=r"of the base .* failed: .*: ImportError: of another time"
        ):
            regression.run(plan(repository, tmp_path), quiet=True)
        assert worktrees(repository) == 1
    finally:
        git(repository, "reset", "--quiet", "--hard", "HEAD~")


def test_revisions_that_are_not_there(repository: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="no revision 'nowhere'"),
        checkout("nowhere", repository),
    ):
        pass
    with pytest.raises(UsageError, match="no h2ot_core in"):
        working_tree(tmp_path)
    shutil.copytree(repository / "h2ot_core", tmp_path / "h2ot_core")
    with pytest.raises(UsageError, match="git rev-parse"):
        working_tree(tmp_path)
    assert main(["regression", "--base", "no/such/revision", "--exact-only"]) == 2


def test_an_interruption_leaves_no_worktree(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(exact, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        regression.run(plan(repository, tmp_path), quiet=True)
    assert worktrees(repository) == 1


# --- older libraries under this harness --------------------------------------------------------

HOSTS = tuple(
    Case(host=host, frames=27, prune="tps", r=(9,), b=(1,), pipeline="seq2frame")
    for host in ("mixste", "motionbert", "motionagformer", "mhformer")
)


def of_history(*words: str) -> str:
    try:
        return git(ROOT, *words)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this checkout has no such history: {error}")


def test_the_commit_before_is_measured_and_gives_the_same_numbers(tmp_path: Path) -> None:
    before = regression.Plan(
        revision=of_history("rev-parse", "--verify", "HEAD~1"), exact=HOSTS, memory=False,
        sampled=None, out=tmp_path, cache=tmp_path / "cache",
    )  # fmt: skip
    findings = regression.run(before, quiet=True).findings
    # The published models fix these; which operators compute them a commit may change.
    fixed = [f for f in findings if f.metric in ("param_count", "flops_paper")]
    assert {f.case for f in fixed} == set(HOSTS)
    assert len(fixed) == 2 * len(HOSTS)
    assert [f for f in fixed if f.verdict is not Verdict.UNCHANGED or not f.base] == []
    assert [f.reason for f in findings if f.reason] == []  # nothing failed on either side


def test_the_oldest_library_is_measured_by_every_part(tmp_path: Path) -> None:
    # The first that reads weights, as the metrics ask of it.
    log = of_history("log", "--first-parent", "--format=%H", "--", "h2ot_core/weights.py")
    case = replace(CASES_HERE[1], threads=torch.get_num_threads())
    oldest = regression.Plan(
        revision=log.splitlines()[-1], exact=[case], sampled=replace(QUICK, cases=[case], pairs=1),
        out=tmp_path, cache=tmp_path / "cache",
    )  # fmt: skip
    found = {f.metric: f for f in regression.run(oldest, quiet=True).findings}
    for metric in ("param_count", "flops_paper"):  # the published models fix these
        assert found[metric].verdict is Verdict.UNCHANGED
    for metric in ("training_peak_estimated_bytes", SAMPLED):
        assert found[metric].base
        assert found[metric].head


# --- the sampled part, and its calibration -----------------------------------------------------


def test_base_and_head_are_sampled_in_turn(
    repository: Path, tmp_path: Path, patched: Callable[[str, str, str], None]
) -> None:
    outcome = regression.run(plan(repository, tmp_path, exact=(), sampled=QUICK), quiet=True)
    assert outcome.status == 3  # two processes are too few to say anything
    assert [f.case for f in outcome.findings] == list(CASES_HERE)
    sides = [store.read(tmp_path / f"{name}.jsonl") for name in ("base", "head")]
    for side, name in zip(sides, ("base", "head"), strict=True):
        assert len({record.session for record in side}) == 2
        assert [record.protocol["pair"] for record in side] == [0, 0, 1, 1]
        assert {record.protocol["side"] for record in side} == {name}
        for record in side:
            assert len(record.values) == 2 * record.protocol["per_turn"]
            assert 6 <= record.protocol["warmup"] <= 12
    first = [record.protocol["first"] for record in sides[0][::2]]
    assert first == ["base", "head"]


def test_a_head_that_breaks_is_a_regression(
    repository: Path, tmp_path: Path, patched: Callable[[str, str, str], None]
) -> None:
    patched(
        "hourglass.py", "        self._check_input(x)\n", "        raise ValueError('not yet')\n"
    )
    quick = replace(QUICK, cases=CASES_HERE[:1], pairs=1)
    outcome = regression.run(plan(repository, tmp_path, exact=(), sampled=quick), quiet=True)
    found = only(outcome.findings)
    assert (found.verdict, found.reason) == (Verdict.REGRESSED, "failed: not yet")


def test_calibration_is_resumed_and_reported(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = replace(QUICK, cases=CASES_HERE[:1], pairs=1)
    tried = calibrate.Plan(
        simulated=2, power=1, real=1, slowdowns=(0.5,), sampled=quick, store=tmp_path / "store",
        root=repository, quiet=True,
    )  # fmt: skip
    found = calibrate.run(tried)
    report = gate_calibration.write(found, tmp_path)
    assert (tmp_path / "gate_calibration.md").read_text() == report
    assert (tmp_path / "gate_power.png").stat().st_size > 5000
    assert "| measured | 50% | all cases | 1 |" in report
    assert "| 2.0% | none (A/A) | – | 2 |" in report
    lines = next((tmp_path / "store").glob("simulated-*")).read_text().splitlines()
    assert len(lines) == 3 * (2 + 3 * 2)  # spreads; A/A, and slowdowns of all or one
    assert {json.loads(line)["kind"] for line in lines} == {"all cases", "one case"}

    def again(*_: Any) -> Any:
        pytest.fail("tried again")

    monkeypatch.setattr(sampled, "sample", again)
    monkeypatch.setattr(calibrate, "_once", again)
    assert calibrate.run(tried) == found


def test_a_torn_line_of_a_calibration_is_made_again(tmp_path: Path) -> None:
    tried = calibrate.Plan(simulated=3, power=0, store=tmp_path, quiet=True)
    found = calibrate.run(tried)
    (file,) = tmp_path.glob("simulated-*")
    whole = file.read_text()
    file.write_text(whole[:-20])
    assert calibrate.run(tried) == found
    assert sorted(file.read_text().splitlines()) == sorted(whole.splitlines())


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("regression --base HEAD --exact-only --no-exact", "leave nothing to measure"),
        ("regression --base HEAD --pairs 3", "--pairs must be at least 4, got 3"),
        ("regression --base HEAD --budget 0", "--budget: must be above 0"),
        ("calibrate-gate --simulated -1", "--simulated: must be at least 0"),
        ("calibrate-gate --slowdowns 0", "--slowdowns: must be above 0"),
    ],
)
def test_wrong_usage(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(command.split())
    except SystemExit as end:  # how argparse ends
        status = int(end.code or 0)
    assert status == 2
    assert message in capsys.readouterr().err


# --- what surrounds it -------------------------------------------------------------------------


def test_the_workflow_runs_the_gate() -> None:
    flow = yaml.safe_load((ROOT / ".github/workflows/regression.yml").read_text())
    (job,) = flow["jobs"].values()
    steps = job["steps"]
    assert steps[0]["with"]["fetch-depth"] == 0
    said = "\n".join(step.get("run", "") for step in steps)
    for words in ("bench regression --base", "GITHUB_STEP_SUMMARY", "gh pr comment"):
        assert words in said


def test_hosts_of_plugins_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    before = exact.every_case(), sampled.cases()
    own = type("Own", (h2ot_core.AbstractHost,), {})
    monkeypatch.setitem(h2ot_core.HOSTS, "own", own)
    assert (exact.every_case(), sampled.cases()) == before
    assert {case.host for case in before[0]} == {case.host for case in before[1]}


def test_the_sampled_cases_can_be_built() -> None:
    code = (
        "import h2ot_core, torch\nfrom bench.gate.sampled import cases\n"
        "with torch.device('meta'):\n"
        "    print(*(h2ot_core.build(**c.build_arguments()).config.host for c in cases()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert sorted(done.stdout.split()) == ["mhformer", "mixste", "motionagformer", "motionbert"]
