"""One visit to a piece of work: as many samples as make it worth the while."""

from __future__ import annotations
