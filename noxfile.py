# /// script
# dependencies = ["nox"]
# ///
"""Sessions: each installs the project and wraps one command that also runs without nox."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nox

nox.options.sessions = ["tests"]
nox.options.reuse_existing_virtualenvs = True
nox.needs_version = ">=2024.10.9"

TORCH = "torch==2.13.0"
# suites/table_4_schedule.py is the session table_4, suites/table_streaming.py is streaming.
SUITES = {
    re.sub(r"^(table_\d+)_.*|^table_(.*)", r"\1\2", path.stem): f"suites/{path.name}"
    for path in sorted((Path(__file__).parent / "suites").glob("table_*.py"))
    if path.stem != "table_runtimes"  # the session runtimes also writes the report
}


def _install(session: nox.Session, *groups: str, extras: str = "bench", torch: str = TORCH) -> None:
    """PyTorch first and pinned, so that nothing else chooses its version."""
    session.install(torch)
    # Named again: what an extra brings, such as torchvision, has to be of this release.
    session.install(torch, "-e", f".[{extras}]")
    if groups:
        session.install(
            *nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), *groups)
        )


@nox.session
def tests(session: nox.Session) -> None:
    """Run the test suite; arguments go to pytest."""
    _install(session, "tests")
    session.run("python", "-m", "pytest", "-n", "2", *session.posargs)


@nox.session
def tests_torch(session: nox.Session) -> None:
    """Run the tests on another PyTorch: its version first, further arguments go to pytest."""
    if not session.posargs:
        session.error("name a version of PyTorch: nox -s tests_torch -- 2.14.1")
    version, *arguments = session.posargs
    _install(session, "tests", torch=f"torch=={version}")
    session.run("python", "-m", "pytest", "-n", "2", *arguments)


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style, types and the direction of imports: all hooks of pre-commit."""
    _install(session, "lint")
    session.run("pre-commit", "run", "--all-files", "--show-diff-on-failure", *session.posargs)


def _suite(session: nox.Session) -> None:
    """Measure one suite; arguments such as --motion FILE, --rounds N, --device cuda, -k NAME."""
    _install(session)
    session.run("python", "-m", "pytest", SUITES[session.name], *session.posargs)


for name in SUITES:
    nox.session(_suite, name=name)


@nox.session
def figures(session: nox.Session) -> None:
    """Measure and draw the paper's figures."""
    _install(session)
    session.run("python", "-m", "bench", "figures", "--report", *session.posargs)


@nox.session
def accuracy(session: nox.Session) -> None:
    """Measure what every row does to the error of the trunk; --quick, or --scale paper on a GPU."""
    _install(session)
    session.run("python", "-m", "bench", "accuracy", "--report", *session.posargs)


@nox.session
def runtimes(session: nox.Session) -> None:
    """Speed and drift of torch.compile, CUDA graphs, bfloat16, TF32 and ONNX Runtime."""
    _install(session, extras="bench,onnx")
    session.run("python", "-m", "bench", "runtimes", "--report", *session.posargs)


@nox.session
def peer(session: nox.Session) -> None:
    """Compare with a checkout of a published repository: --peer PATH."""
    _install(session, extras="bench,peer")
    session.run("python", "-m", "bench", "peer", *session.posargs)


@nox.session
def ablation(session: nox.Session) -> None:
    """Measure all tables and figures and write the report; --quick for the main rows only."""
    _install(session)
    session.run("python", "-m", "bench", "run", "--report", *session.posargs)


@nox.session
def regression(session: nox.Session) -> None:
    """Compare the working tree with a revision: --base REV, see python -m bench regression."""
    _install(session)
    try:
        session.run("python", "-m", "bench", "regression", *session.posargs)
    except nox.command.CommandFailed as failed:
        # The exit status says what was found, so it is passed on: nox itself would make it 1.
        code = str(failed.reason).rpartition(" ")[2]
        sys.exit(int(code) if code.isdigit() else 1)


@nox.session
def report(session: nox.Session) -> None:
    """Write the report from what is stored."""
    _install(session)
    session.run("python", "-m", "bench", "report", *session.posargs)
