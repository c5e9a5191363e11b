"""Why a record has no values: errors to a status and a reason."""

from __future__ import annotations

from typing import Any

import torch


class NotApplicable(Exception):
    """The metric means nothing for this case, or cannot be had here; the message says why."""


def excuse(error: Exception) -> dict[str, Any]:
    """Status and reason of a record that an error left without values."""
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
