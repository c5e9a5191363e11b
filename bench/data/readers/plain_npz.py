"""Arrays of npz files without pickles."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

# numpy reports damage by whatever its zip, text and header readers raise.
DAMAGE: Final = Exception


def read_arrays(
    path: Path, choose: Callable[[list[str]], Iterable[str]], error: type[Exception]
) -> dict[str, npt.NDArray[Any]]:
    """Read arrays of an npz file; object arrays (pickles) and damage are refused.

    Args:
        path: of an existing file.
        choose: from the names in the file to those to read; may raise.
        error: class of the errors raised.
    """
    with path.open("rb") as file:  # opened here, because numpy leaves torn files open
        try:
            archive = np.load(file, allow_pickle=False)
        except DAMAGE as cause:
            raise error(
                f"{path}: the npz is torn or incomplete ({_first_line(cause)}); copy or export it "
                "again"
            ) from None
        with archive:
            return {name: _read(path, archive, name, error) for name in choose(archive.files)}


def _read(path: Path, archive: Any, name: str, error: type[Exception]) -> npt.NDArray[Any]:
    try:
        array = archive[name]
    except DAMAGE as cause:
        if "allow_pickle" in str(cause):
            raise error(
                f"{path}: array {name!r} is an object array (a pickle), which is never loaded "
                "because loading one can run code; store plain numbers or np.array(list_of_str)"
            ) from None
        raise error(
            f"{path}: array {name!r} is torn or damaged ({_first_line(cause)}); copy or export the "
            "file again"
        ) from None
    if not isinstance(array, np.ndarray):  # an entry that is no array comes back as bytes
        raise error(f"{path}: {name!r} is no array; write the file with np.savez")
    return array


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
