"""The errors the harness shows as one line instead of a traceback."""

from __future__ import annotations


class UsageError(Exception):
    """What was asked for cannot be done; the message says why and how to mend it."""


class StoreError(UsageError):
    """A record file cannot be read or written."""
