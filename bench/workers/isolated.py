"""Take a measurement in a fresh process, so that nothing that ran before can be seen in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.records.case import Case
from bench.records.status import NotApplicable

_TIMEOUT_S = 1800


def call(module: str, case: Case) -> dict[str, Any]:
    """Run ``python -m module`` on a case and return what it answers.

    Raises:
        NotApplicable: if the worker raised it.
        MemoryError: if the process was killed, or ran out of device memory.
        TimeoutError: if it took over half an hour.
        RuntimeError: with the process's last line, if it failed otherwise.
    """
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=json.dumps(case.to_json()),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"the measuring process took over {_TIMEOUT_S} s") from None
    if done.returncode in (-9, 137):
        raise MemoryError("the measuring process was killed, probably for want of memory")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        if "NotApplicable" in last:
            raise NotApplicable(last.partition(": ")[2])
        if "OutOfMemoryError" in last:
            raise MemoryError(last)
        raise RuntimeError(last)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def answer(worker: Callable[[Case], dict[str, Any]]) -> None:
    """In the fresh process: read the case, print what the worker measured."""
    from bench.models.plugins import load_all

    load_all()
    print(json.dumps(worker(Case.from_json(json.load(sys.stdin)))))  # noqa: T201
