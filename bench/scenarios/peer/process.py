"""One persistent process per side: asked one thing at a time, over pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.records.errors import UsageError

_ROOT = Path(__file__).resolve().parents[3]
_PATIENCE_S = 10  # for a process to leave once it is told to


class Side:
    """A measuring process. Made by :func:`started`.

    Attributes:
        name: for messages.
        versions: package to version, as that process sees them.
    """

    def __init__(self, name: str, process: subprocess.Popen[str], said: Path) -> None:
        self.name = name
        self.versions: dict[str, str] = {}
        self._process = process
        self._said = said

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            UsageError: if the process could not do it, or ended.
        """
        self.send(request)
        return self._answer()

    def ready(self) -> None:
        """Wait until the model is built.

        Raises:
            UsageError: if it cannot be built there.
        """
        self.versions = self._answer()["versions"]

    def send(self, request: Mapping[str, Any]) -> None:
        """Send one request; a process that has ended says so where its answer is waited for."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise UsageError(self._ended())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise UsageError(f"{self.name}: {answer['error']}")
        return answer

    def _ended(self) -> str:
        status = self._process.wait()
        lines = self._said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = lines[-1] if lines else "it said nothing"
        return f"the process of {self.name} ended with status {status}: {last}"


@contextmanager
def started(name: str, setup: Mapping[str, Any], folder: Path) -> Iterator[Side]:
    """A process that builds its model, until the block is left; see :meth:`Side.ready`.

    Args:
        name: for messages.
        setup: what to build, as ``bench.scenarios.peer.worker`` reads it.
        folder: where the process runs, and where what it prints is kept.
    """
    said = folder / f"{setup['side']}.log"
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    with said.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.scenarios.peer.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder,
            # The checkout is the user's: nothing is written there, compiled files included.
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    side = Side(name, process, said)
    try:
        side.send(setup)
        yield side
    finally:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # of what was left to send
                    pipe.close()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
