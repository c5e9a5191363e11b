"""The two programs that a gate compares: one ``h2ot_core`` each, under the same harness."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.records.environment import environment
from bench.records.errors import UsageError
from bench.records.files import folder_digest, text_digest
from bench.records.git import git
from bench.workers.process import ROOT, WorkerProcess

HARNESS = ROOT
"""The folder that holds this ``bench``."""

_MEASURED = "h2ot_core"


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A program under test.

    Attributes:
        name: "base" or "head".
        root: the folder that holds its ``h2ot_core``.
        commit: of the checkout.
        dirty: whether its ``h2ot_core`` has changes that are in no commit.
        slowdown: share by which every forward pass is made slower, to test the gate itself.
    """

    name: str
    root: Path
    commit: str
    dirty: bool = False
    slowdown: float = 0.0

    def worker(self, *, timeout_s: float = 120.0) -> WorkerProcess:
        """Start a process of ``bench.gate.worker``; its first answer means that it is ready."""
        process = WorkerProcess("bench.gate.worker", library=self.root, timeout_s=timeout_s)
        process.send("begin", root=str(self.root), slowdown=self.slowdown)
        return process

    def facts(self, threads: int) -> dict[str, Any]:
        """The environment of its records."""
        code = folder_digest(self.root / _MEASURED)
        here = environment(threads)
        print_ = text_digest(f"{here['fingerprint']} {code}")
        return {
            **here, "code": code, "commit": self.commit, "dirty": self.dirty, "fingerprint": print_,
        }  # fmt: skip


def working_tree(root: Path = HARNESS, *, slowdown: float = 0.0) -> Revision:
    """The head: the files as they are, committed or not.

    Raises:
        UsageError: outside a git checkout, or without an ``h2ot_core`` there.
    """
    if not (root / _MEASURED / "__init__.py").is_file():
        raise UsageError(f"no {_MEASURED} in {root}; run the gate in a checkout of the project")
    commit = git(root, "rev-parse", "HEAD")
    dirty = bool(git(root, "status", "--porcelain", "--", _MEASURED))
    return Revision(name="head", root=root, commit=commit[:12], dirty=dirty, slowdown=slowdown)


@contextmanager
def checkout(
    revision: str, root: Path = HARNESS, *, name: str = "base", slowdown: float = 0.0
) -> Iterator[Revision]:
    """A revision's ``h2ot_core`` in a git worktree of its own, removed at the end.

    Args:
        revision: anything that names a commit.
        root: the checkout whose revision it is.

    Raises:
        UsageError: outside a git checkout, for an unknown revision, or one without the library.
    """
    try:
        commit = git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except UsageError:
        git(root, "rev-parse", "HEAD")  # raises if this is no checkout at all
        raise UsageError(
            f"no revision {revision!r} in {root}; fetch it first (a shallow clone has few)"
        ) from None
    folder = Path(tempfile.mkdtemp(prefix="h2ot-gate-"))
    tree = folder / "tree"
    try:
        # Only the library is written: the harness must not be found there.
        git(root, "worktree", "add", "--detach", "--no-checkout", str(tree), commit)
        git(tree, "checkout", commit, "--", _MEASURED)
        yield Revision(name=name, root=tree, commit=commit[:12], slowdown=slowdown)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(UsageError):
            git(root, "worktree", "prune")
