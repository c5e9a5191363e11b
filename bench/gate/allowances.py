"""``gate.toml``: increases that are intended, each with its reason."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from bench.gate.verdicts import EXACT, SAMPLED, Allowance
from bench.records.errors import UsageError

_FIELDS: dict[str, Any] = {"case": str, "metric": str, "upto": (int, float), "reason": str}


def read_allowances(path: Path) -> list[Allowance]:
    """The entries of a file; none if there is no file.

    Raises:
        UsageError: if it is no TOML, or an entry lacks a field, has an odd one, or no reason.
    """
    if not path.exists():
        return []
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read as TOML: {error}") from None
    entries = content.pop("allow", [])
    if content or not isinstance(entries, list):
        odd = ", ".join(content) or "allow"
        raise UsageError(f"{path} holds [[allow]] entries alone, got {odd}; see its header")
    return [_entry(entry, f"entry {n} of {path}") for n, entry in enumerate(entries, 1)]


def _entry(entry: Any, where: str) -> Allowance:
    if not isinstance(entry, dict) or set(entry) != set(_FIELDS):
        fields = sorted(entry) if isinstance(entry, dict) else entry
        raise UsageError(f"{where} has {fields}, expected {sorted(_FIELDS)}")
    for name, kind in _FIELDS.items():
        if not isinstance(entry[name], kind) or isinstance(entry[name], bool):
            raise UsageError(f"{where}: {name} cannot be {entry[name]!r}")
    if not entry["reason"].strip():
        raise UsageError(f"{where} gives no reason; say why the increase is intended")
    known = (*EXACT, SAMPLED)
    if entry["metric"].partition(":")[0] not in known:
        raise UsageError(f"{where}: no metric {entry['metric']!r}; choose from {', '.join(known)}")
    return Allowance(**entry)
