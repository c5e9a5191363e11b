"""The progress line of every measurement."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress(
    title: str, total: int, quiet: bool = False, unit: str = "case", initial: int = 0
) -> Iterator[Callable[..., None]]:
    """Show a line with the time left on the standard error stream.

    Args:
        title: what is being done.
        total: units of work; the line is hidden if there are none.
        quiet: hide the line.
        unit: of work.
        initial: units that were done before.

    Yields:
        A function to call with a label, and with the units done if that is not one.
    """
    interval = 0.5 if sys.stderr.isatty() else 10.0
    with tqdm(
        total=total, desc=title, disable=quiet or not total, mininterval=interval, file=sys.stderr,
        dynamic_ncols=True, unit=unit, initial=initial,
    ) as bar:  # fmt: skip

        def tick(label: str = "", done: float = 1) -> None:
            if label:
                bar.set_postfix_str(label, refresh=False)
            bar.update(done)

        yield tick
