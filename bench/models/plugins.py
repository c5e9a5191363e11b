"""Load plug-ins: modules that register a host, pruner or recoverer, or add a row to a table.

``h2ot_core.register`` knows hosts, pruners and recoverers; a metric, reader or runtime is a row in
``bench.metrics.METRICS``, ``bench.data.readers.READERS`` or ``bench.scenarios.runtimes.RUNTIMES``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from functools import cache
from importlib import metadata
from pathlib import Path

import h2ot_core
from bench.records.errors import UsageError

# Worker processes read it, to load the same plug-ins.
_VARIABLE = "H2OT_PLUGINS"
ENTRY_POINTS = "h2ot"


def load(name: str) -> None:
    """Load a plug-in, a file or a module name, into this process and those it starts.

    Raises:
        UsageError: if there is none, it cannot be imported, or a class or row of it is refused.
    """
    if name.endswith(".py"):
        name = str(Path(name).resolve())
    _load(name)
    known = list(filter(None, os.environ.get(_VARIABLE, "").split(os.pathsep)))
    os.environ[_VARIABLE] = os.pathsep.join(dict.fromkeys([*known, name]))


def load_all() -> None:
    """Load the plug-ins of installed packages, by entry point, and those of ``H2OT_PLUGINS``.

    Raises:
        UsageError: as :func:`load`.
    """
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        _load(entry.value.partition(":")[0])
    for name in filter(None, os.environ.get(_VARIABLE, "").split(os.pathsep)):
        _load(name)


@cache
def _load(name: str) -> None:
    if name.endswith(".py") and not Path(name).is_file():
        raise UsageError(f"no plug-in at {name}; give a Python file or the name of a module")
    try:
        if not name.endswith(".py"):
            importlib.import_module(name)
            return
        spec = importlib.util.spec_from_file_location(f"h2ot_plugin_{Path(name).stem}", name)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    except (h2ot_core.ConfigError, UsageError) as error:
        raise UsageError(f"plug-in {name}: {error}") from None
    except (ImportError, SyntaxError) as error:
        raise UsageError(f"plug-in {name} cannot be imported: {error}") from None
    except Exception as error:  # its code may raise anything
        line = traceback.extract_tb(error.__traceback__)[-1]
        raise UsageError(
            f"plug-in {name} cannot be loaded: {type(error).__name__}: {error} "
            f"({line.filename}, line {line.lineno})"
        ) from None
