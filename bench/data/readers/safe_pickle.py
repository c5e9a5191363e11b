"""Published files that hold pickles, read without running what is in them.

A pickle is a program, and the standard reader runs it. The reader here admits numpy arrays and
scalars, dictionaries, lists, tuples, sets, text, bytes and numbers. Every function that a pickle of
those refers to is replaced by one of this module that checks its arguments; whatever else a file
refers to is refused by its name, and is never imported.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from bench.data.sequences import DataError

# Python and numpy report damage by whatever their zip, pickle and header readers raise.
_DAMAGE: Final = Exception

_DTYPE: Final = re.compile(
    r"[<>=|]?(b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,6}|O8?|\?|[bBhHiIlLqQefd])"
)


def load_pickle(path: str | os.PathLike[str], *, what: str) -> Any:
    """Read a pickle of plain data.

    Args:
        path: of the file.
        what: it is expected to be, for messages, such as "the Stacked Hourglass pickle".

    Returns:
        Its content; arrays in it are numpy arrays.

    Raises:
        DataError: there is no such file, it is torn or no pickle, or it refers to anything but
            numpy arrays and plain data.
    """
    path = Path(path)
    _exists(path, what)
    with path.open("rb") as file:
        return _unpickled(file, str(path), what)


def load_npz(path: str | os.PathLike[str], names: Sequence[str], *, what: str) -> dict[str, Any]:
    """Read arrays of an npz; those of dtype object are pickles of plain data.

    Args:
        path: of the file.
        names: of the arrays to read.
        what: the file is expected to be, for messages.

    Returns:
        Name to array. An object array without axes, which is how numpy stores a dictionary, is
        replaced by what it holds.

    Raises:
        DataError: there is no such file, it is torn or no npz, lacks an array, or a pickle in it
            refers to anything but numpy arrays and plain data.
    """
    path = Path(path)
    _exists(path, what)
    try:
        with zipfile.ZipFile(path) as archive:
            present = [name.removesuffix(".npy") for name in archive.namelist()]
            missing = [name for name in names if name not in present]
            if missing:
                raise DataError(
                    f"{path}: missing array {', '.join(map(repr, missing))}; it has "
                    f"{', '.join(map(repr, present)) or 'none'}, expected {what}"
                )
            return {name: _member(archive, name, path, what) for name in names}
    except DataError:
        raise
    except _DAMAGE as error:
        raise _damaged(str(path), what, error) from error


def _member(archive: zipfile.ZipFile, name: str, path: Path, what: str) -> Any:
    """Read one array of an npz."""
    with archive.open(f"{name}.npy") as file:
        shape, kind = _header(file)
        if kind is None or not kind.hasobject:
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
        array = _unpickled(file, f"{path}: array {name!r}", what)
        while file.read(1 << 20):
            pass  # to the end, where the checksum of the archive is compared
        if not isinstance(array, np.ndarray) or array.shape != shape:
            raise ValueError(f"array {name!r} is not the array of shape {shape} in its header")
        return array.item() if shape == () else array


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any] | None]:
    """Read an npy header: shape and dtype, which is None in formats that hold no pickles here."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        return (), None
    shape, _, kind = read(file)
    return shape, kind


def _exists(path: Path, what: str) -> None:
    """Raise unless there is a file to read."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected {what}, so check the path")


def _damaged(name: str, what: str, error: Exception) -> DataError:
    """The error for a file that cannot be read as what it should be."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(
        f"{name}: torn, damaged or another kind of file ({reason}); expected {what}, so copy or "
        "download it again"
    )


class _Refused(pickle.UnpicklingError):
    """What a pickle refers to or does that is not admitted."""


def _unpickled(file: IO[bytes], name: str, what: str) -> Any:
    """Read one pickle of plain data from an open file."""
    try:
        return _Unpickler(file).load()
    except _Refused as error:
        raise DataError(
            f"{name}: {error}, and was not loaded, because that could run code; expected only "
            f"numpy arrays and plain data ({what}), so download it from its publisher again"
        ) from None
    except _DAMAGE as error:
        raise _damaged(name, what, error) from error


class _Unpickler(pickle.Unpickler):
    """Resolves the names in a pickle by the table below, and imports nothing."""

    def __init__(self, file: IO[bytes]) -> None:
        # Bytes that Python 2 wrote as text become text of the same code points.
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands in for a global, or refuse it by name."""
        module = "builtins" if module == "__builtin__" else module  # its name in Python 2
        found = _ADMITTED.get((module, name))
        if found is None:
            raise _Refused(f"refers to {module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> Any:
        """Refuse objects outside the file."""
        raise _Refused(f"refers to {pid!r} outside of the file")


class _StandIn:
    """A global of a pickle: to be called, and never to be changed by the pickle."""

    __slots__ = ("_call", "_name")

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self._name, self._call = name, call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise _Refused(f"changes {self._name}")


class _Kind:
    """A dtype in the making: numpy's own would let a pickle set its insides."""

    __slots__ = ("dtype",)

    def __init__(self, text: object, *_: object) -> None:
        if not isinstance(text, str) or not _DTYPE.fullmatch(text):
            raise _Refused(f"calls numpy.dtype with {_short(text)}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: object) -> None:
        # (version, byte order, subtype, names, fields, size, alignment, flags, ...): the first two
        # are used, structured types are not admitted, and the rest follows from the text.
        if not isinstance(state, tuple) or len(state) < 5 or any(x is not None for x in state[2:5]):
            raise _Refused(f"calls numpy.dtype.__setstate__ with {_short(state)}")
        if state[1] not in ("<", ">", "|", "="):
            raise _Refused(f"calls numpy.dtype.__setstate__ with byte order {_short(state[1])}")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray[Any, np.dtype[Any]]):
    """An array whose state is checked before numpy gets it."""

    def __setstate__(self, state: Any) -> None:  # type: ignore[override]
        try:
            _, shape, kind, fortran, raw = state
            shape = tuple(shape)
            valid = all(type(n) is int and n >= 0 for n in shape) and len(shape) <= 32
        except (TypeError, ValueError):
            valid = False
        if not valid or not isinstance(kind, _Kind):
            raise _Refused(f"calls numpy.ndarray.__setstate__ with {_short(state)}")
        size = 1
        for n in shape:
            size *= n
        if kind.dtype.hasobject:
            fits = type(raw) is list and len(raw) == size
        else:
            if isinstance(raw, str):
                raw = raw.encode("latin1")
            fits = isinstance(raw, bytes) and len(raw) == size * kind.dtype.itemsize
        if not fits:
            raise ValueError(f"an array of shape {shape} has other than {size} values")
        super().__setstate__((1, shape, kind.dtype, bool(fortran), raw))  # type: ignore[arg-type]


def _reconstruct(subtype: object, shape: object, code: object) -> _Array:
    """Return the empty array that `_Array.__setstate__` then fills."""
    if subtype is not _ARRAY:
        raise _Refused(f"makes an array of {_short(subtype)}")
    return _Array((0,), dtype=np.int8)


def _from_buffer(
    raw: object, kind: object, shape: object, order: object, axes: object = None
) -> npt.NDArray[Any]:
    """Return an array of bytes that follow in the pickle (protocol 5)."""
    if (
        not isinstance(raw, bytes | bytearray)
        or not isinstance(kind, _Kind)
        or kind.dtype.hasobject
        or not isinstance(shape, tuple)
        or order not in ("C", "F")
        or axes is not None
    ):
        raise _Refused(f"calls numpy._frombuffer with {_short(kind)}, {_short(shape)}")
    flat = np.frombuffer(bytes(raw), dtype=kind.dtype).view(_Array)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(kind: object, raw: object = b"") -> Any:
    """Return a numpy scalar of its bytes."""
    if isinstance(raw, str):
        raw = raw.encode("latin1")
    if not isinstance(kind, _Kind) or kind.dtype.hasobject or not isinstance(raw, bytes):
        raise _Refused(f"calls numpy.scalar with {_short(raw)}")
    (value,) = np.frombuffer(raw, dtype=kind.dtype)
    return value


def _encode(text: object, encoding: object = "") -> bytes:
    """Return bytes that an old protocol wrote as text; the only codec it uses is latin1."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused(f"calls _codecs.encode with {_short(text)}, {_short(encoding)}")
    return text.encode("latin1")


def _collection(kind: type, content: type) -> Callable[..., Any]:
    """Return a maker of a container from a plain one."""

    def make(items: Any = ()) -> Any:
        if items != () and not isinstance(items, content):
            raise _Refused(f"calls {kind.__name__} with {_short(items)}")
        return kind(items)

    return make


def _never(*arguments: object) -> Any:
    raise _Refused("calls numpy.ndarray")


def _short(value: object) -> str:
    """Return how a value looks, in a few characters."""
    if isinstance(value, _StandIn):
        return value._name
    text = repr(value) if isinstance(value, str | bytes | int | float | None) else ""
    return text if 0 < len(text) <= 60 else f"a {type(value).__name__.removeprefix('_').lower()}"


_ARRAY: Final = _StandIn("numpy.ndarray", _never)


def _admitted() -> dict[tuple[str, str], _StandIn]:
    """Return every global that a pickle may refer to; numpy 2 renamed numpy.core to numpy._core."""
    by_name: dict[str, _StandIn] = {"numpy.ndarray": _ARRAY}
    functions: dict[str, Callable[..., Any]] = {
        "numpy.dtype": _Kind,
        "_codecs.encode": _encode,
        "builtins.set": _collection(set, list),
        "builtins.frozenset": _collection(frozenset, list),
        "builtins.bytes": _collection(bytes, bytes),
        "builtins.complex": complex,
    }
    for core in ("numpy.core", "numpy._core"):
        functions[f"{core}.multiarray._reconstruct"] = _reconstruct
        functions[f"{core}.multiarray.scalar"] = _scalar
        functions[f"{core}.numeric._frombuffer"] = _from_buffer
    by_name |= {name: _StandIn(name, call) for name, call in functions.items()}
    return {(name.rpartition(".")[0], name.rpartition(".")[2]): f for name, f in by_name.items()}


_ADMITTED: Final = _admitted()
