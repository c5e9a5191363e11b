"""The errors that the command line reports as one line instead of a traceback."""

from __future__ import annotations


class UsageError(Exception):
    """Base of all errors that a user can mend; the message says what is wrong and how."""


class StoreError(UsageError):
    """A record file cannot be read or written."""
