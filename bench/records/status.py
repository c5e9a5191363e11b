"""From errors to the status and reason of a record without values."""

from __future__ import annotations

from typing import Any

import torch


class NotApplicable(Exception):
    """The metric does not apply to this case or machine; the message says why."""


class Failure(Exception):
    """A measurement that a worker process could not make.

    Attributes:
        status: of the record: "skipped", "oom", "timeout" or "failed".
        reason: of the record.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def excuse(error: Exception) -> dict[str, Any]:
    """Status and reason of a record whose measurement raised an error."""
    if isinstance(error, Failure):
        return {"status": error.status, "reason": error.reason}
    if isinstance(error, NotApplicable):
        status = "skipped"
    elif isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        status = "oom"
    elif isinstance(error, TimeoutError):
        status = "timeout"
    else:
        status = "failed"
    lines = str(error).strip().splitlines()
    return {"status": status, "reason": lines[0] if lines else type(error).__name__}
