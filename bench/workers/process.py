"""Worker processes: the one way to start, ask and stop one. One JSON object per line, over pipes.

The program that measures holds a :class:`WorkerProcess`; the process that it starts calls
:func:`serve`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from bench.records.status import Failure, excuse

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds this ``bench``."""

# GNU's and Intel's OpenMP: threads spin for some ten microseconds, and for a millisecond.
_SHORT_SPIN = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}


def variables(library: Path | None = None) -> dict[str, str]:
    """Environment variables of a worker process.

    Args:
        library: the folder whose ``h2ot_core`` is imported instead of this harness's.
    """
    folders = (library, ROOT, os.environ.get("PYTHONPATH"))
    path = os.pathsep.join(str(folder) for folder in folders if folder)
    # Threads of a process that waits for its turn must sleep soon. Those of a process at work must
    # not sleep between two operators, as with a passive policy. A user's own policy is kept.
    spin = {} if "OMP_WAIT_POLICY" in os.environ else _SHORT_SPIN
    return {**spin, **os.environ, "PYTHONPATH": path}


class WorkerProcess:
    """A process that answers requests until it is closed; while it waits it blocks on a pipe.

    Args:
        module: run as ``python -m module``; it calls :func:`serve`.
        library: as of :func:`variables`; the process then runs in that folder, and imports nothing
            from it but by ``PYTHONPATH``.
        cwd: folder of the process; by default this process's.
        env: environment variables beside those of :func:`variables`.
        timeout_s: how long :meth:`receive` waits before the process is killed.
    """

    def __init__(
        self,
        module: str,
        *,
        library: Path | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        self._timeout_s = timeout_s
        self._late = False
        # A file, since a pipe that nobody drains would block the process.
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [sys.executable, *(["-P"] if library else []), "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                bufsize=1,
                cwd=library or cwd,
                env={**variables(library), **(env or {})},
            )
        except BaseException:
            self._errors.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def send(self, do: str, **arguments: Any) -> None:
        """Send a request; :meth:`receive` reports a process that has ended.

        Args:
            do: name of one of the worker's handlers.
            arguments: of the handler.
        """
        assert self._process.stdin is not None
        with suppress(OSError):  # the process has ended
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Wait for the next answer.

        Raises:
            Failure: if the handler raised an error, or the process ended ("oom" where the system
                killed it, else "failed") or did not answer in time ("timeout").
        """
        assert self._process.stdout is not None
        guard = threading.Timer(self._timeout_s, self._give_up)
        guard.daemon = True
        guard.start()
        try:
            for line in self._process.stdout:
                with suppress(ValueError):  # printed before `serve`, or torn by the end
                    answer: Any = json.loads(line)
                    if isinstance(answer, dict):  # a printed number is JSON, but no answer
                        break
            else:
                raise self._ended()
        finally:
            guard.cancel()
        if "status" in answer:
            raise Failure(answer["status"], answer["reason"])
        return answer

    def call(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            Failure: as :meth:`receive`.
        """
        self.send(do, **arguments)
        return self.receive()

    def _give_up(self) -> None:
        self._late = True
        self._process.kill()

    def _ended(self) -> Failure:
        """Why there is no answer."""
        self._process.kill()  # unless it has ended
        status = self._process.wait()
        if self._late:
            return Failure("timeout", f"no answer within {self._timeout_s:g} s")
        if status in (-signal.SIGKILL, 137):
            return Failure("oom", "the process was killed, probably for want of memory")
        self._errors.seek(0)
        last = (self._errors.read().strip().splitlines() or ["no message"])[-1]
        if "OutOfMemoryError" in last or "MemoryError" in last:
            return Failure("oom", last)
        return Failure("failed", f"the process ended with status {status}: {last}")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not sent is lost
                    pipe.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(
    handlers: Mapping[str, Callable[..., Mapping[str, Any]]],
    *,
    failure: Callable[[Exception], Mapping[str, Any]] = excuse,
) -> None:
    """In a worker process: answer requests until there are no more.

    Answers are written to what was standard output. Everything else that is printed from here on,
    by libraries in C too, goes to standard error.

    Args:
        handlers: by name; called with the arguments of a request, they return its answer.
        failure: makes ``status`` and ``reason`` of an error that a handler raised.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = handlers[request.pop("do")](**request)
        except Exception as error:  # the parent records it and goes on with other cases
            answer = failure(error)
        print(json.dumps(answer), file=answers, flush=True)
