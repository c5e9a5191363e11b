"""How a host, pruner or recoverer from outside this package joins in."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from h2ot_core.errors import ConfigError
from h2ot_core.hosts import HOSTS
from h2ot_core.hosts.base import AbstractHost
from h2ot_core.prune import PRUNERS
from h2ot_core.prune.base import AbstractPruner
from h2ot_core.recover import RECOVERERS
from h2ot_core.recover.base import AbstractRecoverer

_SIZES = ("frames", "width", "depth", "heads", "joints")
_ARGUMENTS = {"host", "scheme", "frames", "r", "b", "prune", "recover", "pipeline"}
_SIGNALS = (None, "keys", "attention", "poses")


def register(name: str, kind: Any) -> None:
    """Make a host, pruner or recoverer known to ``build`` and to the command line.

    Args:
        name: argument of ``build`` that selects it; lower case.
        kind: a class that derives from ``AbstractHost``, ``AbstractPruner`` or
            ``AbstractRecoverer`` and defines what that class requires.

    Raises:
        ConfigError: naming everything that the class lacks, or that the name is in use.
    """
    registry: dict[str, Any]
    bases = kind.__mro__ if isinstance(kind, type) else ()
    if AbstractHost in bases:
        registry, lacks = HOSTS, _host_lacks(kind)
    elif AbstractPruner in bases:
        registry, lacks = PRUNERS, _strategy_lacks(kind)
        if kind.requires not in _SIGNALS:
            lacks.append(f"requires must be one of {_SIGNALS}, got {kind.requires!r}")
    elif AbstractRecoverer in bases:
        registry, lacks = RECOVERERS, _strategy_lacks(kind)
    else:
        raise ConfigError(
            f"{name!r} must be a class derived from AbstractHost, AbstractPruner or "
            f"AbstractRecoverer, got {kind!r}."
        )
    if not name or name != name.lower() or name == "none":
        lacks.append(f"its name must be lower case and not 'none', got {name!r}")
    present = registry.get(name)
    if present is not None and _where(present) != _where(kind):
        lacks.append(f"the name {name!r} is in use by {_where(present)}")
    if lacks:
        raise ConfigError(f"{_where(kind)} cannot be registered as {name!r}: {'; '.join(lacks)}.")
    registry[name] = kind


def _where(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _missing_methods(kind: type[Any]) -> list[str]:
    return [
        f"{method}{inspect.signature(getattr(kind, method))} is not defined"
        for method in sorted(getattr(kind, "__abstractmethods__", ()))
    ]


def _host_lacks(kind: type[AbstractHost]) -> list[str]:
    lacks = _missing_methods(kind)
    sizes = getattr(kind, "sizes", None)
    if not isinstance(sizes, Mapping):
        lacks.append(f"sizes must map {', '.join(_SIZES)} to default values")
    else:
        if absent := [size for size in _SIZES if size not in sizes]:
            lacks.append(f"sizes lacks {', '.join(absent)}")
        strategies: list[Any] = [*PRUNERS.values(), *RECOVERERS.values()]
        if clashes := sorted({name for other in strategies for name in other.options} & set(sizes)):
            lacks.append(f"sizes {', '.join(clashes)} are options of a strategy")
    if not isinstance(getattr(kind, "channels", None), int):
        lacks.append("channels must be the number of input channels per joint")
    return lacks


def _strategy_lacks(kind: type[Any]) -> list[str]:
    lacks = _missing_methods(kind)
    others: list[Any] = [*PRUNERS.values(), *RECOVERERS.values()]
    options = {name for other in others if _where(other) != _where(kind) for name in other.options}
    sizes = {name for host in HOSTS.values() for name in host.sizes}
    for names, whose in (
        (options, "options of another strategy"),
        (sizes | _ARGUMENTS, "sizes of a host or arguments of build"),
    ):
        if clashes := sorted(names & set(kind.options)):
            lacks.append(f"options {', '.join(clashes)} are {whose}")
    return lacks
