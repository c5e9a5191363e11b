"""Measure one case in a fresh process, so that nothing that ran before can affect the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.records.case import Case
from bench.workers.process import WorkerProcess, serve

_TIMEOUT_S = 1800.0


def call(module: str, case: Case) -> dict[str, Any]:
    """Run ``python -m module`` on a case and return its answer.

    Raises:
        bench.records.status.Failure: if the case does not apply here, or the process ran out of
            memory, took over half an hour, or failed.
    """
    with WorkerProcess(module, timeout_s=_TIMEOUT_S) as process:
        return process.call("measure", case=case.to_json())


def answer(measure: Callable[[Case], dict[str, Any]]) -> None:
    """In the fresh process: measure the case with its number of threads."""

    def handler(case: dict[str, Any]) -> dict[str, Any]:
        import torch

        from bench.models import build, plugins

        plugins.load_all()
        read = Case.from_json(case)
        build.require_device(read)
        if read.threads:
            torch.set_num_threads(read.threads)
        return measure(read)

    serve({"measure": handler})
