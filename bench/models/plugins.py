"""Load plug-ins: modules that call ``h2ot_core.register``."""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import cache
from importlib import metadata
from pathlib import Path

import h2ot_core
from bench.records.errors import UsageError

# Read by measuring processes too, which must know what this one knows.
_VARIABLE = "H2OT_PLUGINS"
ENTRY_POINTS = "h2ot"


def load(name: str) -> None:
    """Load a plug-in given as a file or a module name, for this process and those it starts.

    Raises:
        UsageError: if it cannot be imported, or registers nothing that works.
    """
    if name.endswith(".py"):
        name = str(Path(name).resolve())
    _load(name)
    known = list(filter(None, os.environ.get(_VARIABLE, "").split(os.pathsep)))
    os.environ[_VARIABLE] = os.pathsep.join(dict.fromkeys([*known, name]))


def load_all() -> None:
    """Load what an installed package announces under the entry point group, and what was given."""
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        _load(entry.value.partition(":")[0])
    for name in filter(None, os.environ.get(_VARIABLE, "").split(os.pathsep)):
        _load(name)


@cache
def _load(name: str) -> None:
    try:
        if not name.endswith(".py"):
            importlib.import_module(name)
            return
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"no plug-in at {path}")
        spec = importlib.util.spec_from_file_location(f"h2ot_plugin_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except h2ot_core.ConfigError as error:
        raise UsageError(f"plug-in {name}: {error}") from None
    except (ImportError, SyntaxError) as error:
        raise UsageError(f"plug-in {name} cannot be imported: {error}") from None
