"""Questions to git. Standard library only."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.records.errors import UsageError


def git(root: Path, *words: str) -> str:
    """Run a git command in a folder and return its output.

    Raises:
        UsageError: if git is not installed or refuses.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise UsageError(f"cannot run git: {error.strerror}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(f"git {words[0]} in {root}: {last}")
    return done.stdout.strip()


def commit(root: Path, *status: str) -> tuple[str, bool] | None:
    """The commit of a checkout, 12 digits, and whether files differ from it.

    Args:
        root: the top folder of the checkout.
        status: further arguments of ``git status``, such as what to leave out.

    Returns:
        None if the folder is not the top of a checkout.
    """
    try:
        if Path(git(root, "rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return None
        return git(root, "rev-parse", "HEAD")[:12], bool(
            git(root, "status", "--porcelain", *status)
        )
    except UsageError:
        return None
