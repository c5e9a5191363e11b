"""Hosts: one file per video pose transformer, one row each in HOSTS."""

from __future__ import annotations

from h2ot_core.hosts.base import AbstractHost, Step
from h2ot_core.hosts.mixste import MixSTE

HOSTS: dict[str, type[AbstractHost]] = {"mixste": MixSTE}

__all__ = ["HOSTS", "AbstractHost", "MixSTE", "Step"]
