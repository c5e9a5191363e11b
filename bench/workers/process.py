"""Talk with measuring processes: one JSON object per line, over pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds this ``bench``."""


# GNU's and Intel's OpenMP: some ten microseconds of waiting awake, and a millisecond.
_BRIEF = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}


def variables() -> dict[str, str]:
    """Environment variables under which a process imports this harness."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    # Threads of a process that waits for its turn must sleep before long. Those of one at work must
    # not sleep between two operators, as a passive policy would have it: a user's do not.
    brief = {} if "OMP_WAIT_POLICY" in os.environ else _BRIEF
    return {**brief, **os.environ, "PYTHONPATH": path}


class Talker:
    """A process that answers requests until it is closed; while it waits it is blocked on a pipe.

    Args:
        module: run as ``python -m module``.
        arguments: of the module.
        flags: of the interpreter, such as ``-P``.
        env: its environment variables; by default :func:`variables`.
        cwd: its folder; by default this process's.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        flags: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        # A file, as nobody would empty a pipe.
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._late = False
        self._process = subprocess.Popen(
            [sys.executable, *flags, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            bufsize=1,
            cwd=cwd,
            env=dict(variables() if env is None else env),
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, request: Mapping[str, Any]) -> None:
        """Send a request; a process that has ended will say so when asked for its answer."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def answer(
        self, request: Mapping[str, Any] | None = None, *, patience_s: float = 120.0
    ) -> dict[str, Any]:
        """The next answer, after a request if one is given.

        Args:
            request: sent first.
            patience_s: how long to wait before the process is killed.

        Returns:
            Of a process that has ended, or was killed: why, as ``status`` ("oom", "timeout" or
            "failed") and ``reason``.
        """
        if request is not None:
            self.ask(request)
        assert self._process.stdout is not None
        guard = threading.Timer(patience_s, self._give_up)
        guard.daemon = True
        guard.start()
        try:
            line = self._process.stdout.readline()
        finally:
            guard.cancel()
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:  # nothing, or the torn line of a process that died
            return self._end(patience_s)
        return found

    def _give_up(self) -> None:
        self._late = True
        self._process.kill()

    def _end(self, patience_s: float) -> dict[str, Any]:
        self._process.kill()  # unless it has ended
        status = self._process.wait()
        if self._late:
            return {"status": "timeout", "reason": f"no answer within {patience_s:g} s"}
        if status in (-signal.SIGKILL, 137):
            return {
                "status": "oom",
                "reason": "the process was killed, probably for want of memory",
            }
        self._said.seek(0)
        last = (self._said.read().strip().splitlines() or ["no message"])[-1]
        if "OutOfMemoryError" in last or "MemoryError" in last:
            return {"status": "oom", "reason": last}
        return {"status": "failed", "reason": f"the process ended with status {status}: {last}"}

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not sent is lost, as it should be
                    pipe.close()
        self._said.close()
