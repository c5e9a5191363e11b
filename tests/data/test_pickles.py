"""Pickles read without running them: what is admitted, and how hostile ones are refused."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data.readers.safe_pickle import load_npz, load_pickle
from bench.data.sequences import DataError

WHAT = "a file of the tests"


def _pickled(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def _same(a: Any, b: Any) -> None:
    """Compare nested plain data in which arrays may lie."""
    if isinstance(b, np.ndarray):
        assert isinstance(a, np.ndarray)
        # numpy itself turns swapped bytes round when it reads a pickle.
        assert (a.shape, a.dtype.newbyteorder("=")) == (b.shape, b.dtype.newbyteorder("="))
        if b.dtype.hasobject:
            for x, y in zip(a.ravel(), b.ravel(), strict=True):
                _same(x, y)
        else:
            np.testing.assert_array_equal(a, b)
    elif isinstance(b, dict):
        assert list(a) == list(b)
        for key in b:
            _same(a[key], b[key])
    elif isinstance(b, list | tuple):
        assert type(a) is type(b)
        for x, y in zip(a, b, strict=True):
            _same(x, y)
    else:
        assert a == b
        assert type(a) is type(b)


RNG = np.random.default_rng(0)
OBJECTS = np.empty((2, 2), dtype=object)
OBJECTS[:] = [["a", 1], [{"b": np.arange(3)}, None]]
PLAIN = {
    "numbers": [1, -(2**70), 2.5, True, None, 1j],
    "text": ("é", b"\x00\xff", b"", {1, 2}, frozenset({"a"})),
    "float32": RNG.random((4, 17, 3), dtype=np.float32),
    "big": RNG.random((300, 17, 3)),
    "fortran": np.asfortranarray(RNG.random((5, 4))),
    "swapped": np.arange(7, dtype=">i4"),
    "names": np.array(["54138969", "é"]),
    "bytes": np.array([b"ab", b"c"]),
    "masks": np.array([[True], [False]]),
    "half": np.arange(3, dtype=np.float16),
    "empty": np.zeros((0, 17, 2)),
    "strided": np.arange(24).reshape(4, 6)[::2, 1::2],
    "scalars": [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("s")],
    "objects": OBJECTS,
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_is_read_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    _same(load_pickle(_pickled(tmp_path / "a.pkl", PLAIN, protocol), what=WHAT), PLAIN)


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_both_spellings_of_numpy_are_read(tmp_path: Path, core: bytes) -> None:
    array = np.arange(6.0).reshape(2, 3)
    data = pickle.dumps([array, np.float64(2)], protocol=2)
    for old in (b"cnumpy._core.", b"cnumpy.core."):
        data = data.replace(old, b"c" + core + b".")
    assert core in data
    (tmp_path / "a.pkl").write_bytes(data)
    _same(load_pickle(tmp_path / "a.pkl", what=WHAT), [array, np.float64(2)])


def test_shared_and_recursive_structures_stay_so(tmp_path: Path) -> None:
    inner: list[Any] = [np.arange(3)]
    inner.append(inner)
    a, b = load_pickle(_pickled(tmp_path / "a.pkl", [inner, inner]), what=WHAT)
    assert a is b
    assert a[1] is a


def test_an_npz_of_dictionaries_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    poses: Any = {"S1": {"Walking": np.ones((3, 32, 3), dtype=np.float32)}}
    np.savez_compressed(path, positions_3d=poses, plain=np.arange(4), row=OBJECTS)
    found = load_npz(path, ["positions_3d", "plain", "row"], what=WHAT)
    _same(found, {"positions_3d": poses, "plain": np.arange(4), "row": OBJECTS})


# --- hostile files -----------------------------------------------------------------------------


class _Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class _Sets:
    """Pickles as a call whose result is then given a state."""

    def __init__(self, function: Any, arguments: Any, state: Any) -> None:
        self.call = function, arguments, state

    def __reduce__(self) -> Any:
        return self.call


def _global(module: str, name: str, argument: str) -> bytes:
    """A pickle of the call module.name(argument) by hand, so that nothing is imported here."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


def _hostile(mark: str) -> list[tuple[str, bytes, str]]:
    touch = f"open({mark!r}, 'w')"
    system = _Calls(os.system, f"touch {mark}")
    inside = np.empty((), dtype=object)
    inside[()] = {"S1": [system]}
    row = np.array([system, system], dtype=object)
    reconstruct = np.ndarray((0,)).__reduce__()[0]
    dumps = {
        "a reduced call": (system, r"refers to posix\.system"),
        "inside an object array": (inside, r"refers to posix\.system"),
        "inside a row of objects": (row, r"refers to posix\.system"),
        "inside a dictionary": ({"a": [1, (system,)]}, r"refers to posix\.system"),
        "eval": (_Calls(eval, touch), r"refers to builtins\.eval"),
        "getattr": (_Calls(getattr, "x", "upper"), r"refers to builtins\.getattr"),
        "a subclass of dict": (OrderedDict(a=1), r"refers to collections\.OrderedDict"),
        "a path": (_Calls(Path.touch, Path(mark)), r"refers to (pathlib|builtins)\."),
        "codecs, another codec": (
            _Calls(__import__("_codecs").encode, touch, "rot13"),
            r"calls _codecs\.encode with",
        ),
        "codecs, decode": (
            _Calls(__import__("_codecs").decode, b"x"),
            r"refers to _codecs\.decode",
        ),
        "copyreg": (
            _Calls(__import__("copyreg")._reconstructor, object, object, None),
            r"refers to copyreg\._reconstructor",
        ),
        "copyreg's registry": (
            _Calls(__import__("copyreg").add_extension, "os", "system", 240),
            r"refers to copyreg\.add_extension",
        ),
        "another numpy function": (_Calls(np.load, mark), r"refers to numpy\.load"),
        "numpy's file reader": (_Calls(np.fromfile, mark), r"refers to numpy.*\.fromfile"),
        "numpy.ndarray itself": (_Calls(np.ndarray, (10**9,)), r"calls numpy\.ndarray"),
        "a matrix": (_Calls(reconstruct, np.matrix, (0,), b"b"), r"refers to numpy.*\.?matrix"),
        "an array of no array": (
            _Calls(reconstruct, set, (0,), b"b"),
            "makes an array of builtins.set",
        ),
        "a state that is no state": (
            _Sets(reconstruct, (np.ndarray, (0,), b"b"), {"data": 1}),
            r"calls numpy\.ndarray\.__setstate__",
        ),
        "a structured dtype": (np.zeros(2, dtype=[("a", "f4")]), r"calls numpy\.dtype with 'V4'"),
        "a dtype of a time": (np.zeros(2, dtype="M8[s]"), r"calls numpy\.dtype with 'M8'"),
        "a dtype of another thing": (_Calls(np.dtype, ["f4"]), r"calls numpy\.dtype with a list"),
    }
    files = [(what, pickle.dumps(bad), message) for what, (bad, message) in dumps.items()]
    files += [
        ("os.system by name", _global("os", "system", f"touch {mark}"), r"refers to os\.system"),
        (
            "a dotted name",
            b"\x80\x04\x8c\x08builtins\x8c\x0fset.__doc__.abc\x93.",
            r"refers to builtins\.set\.__doc__",
        ),
        ("Python 2's eval", _global("__builtin__", "eval", touch), r"refers to builtins\.eval"),
        ("a changed numpy.dtype", b"cnumpy\ndtype\n(dVx\nVy\nsb.", r"changes numpy\.dtype"),
        ("a persistent id", b"P" + mark.encode() + b"\n.", "outside of the file"),
        ("an instance", b"(ios\nsystem\n.", r"refers to os\.system"),
    ]
    return files


HOSTILE = [what for what, _, _ in _hostile("x")]


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused_by_name_and_run_nothing(tmp_path: Path, what: str) -> None:
    mark = tmp_path / "executed"
    data, message = next((d, m) for name, d, m in _hostile(str(mark)) if name == what)
    path = tmp_path / "a.pkl"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        load_pickle(path, what=WHAT)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    # The same bytes as the content of an npz.
    header = b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': ()}"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("data.npy", header.ljust(127) + b"\n" + data)
    with pytest.raises(DataError, match=message):
        load_npz(tmp_path / "a.npz", ["data"], what=WHAT)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.npz", "a.pkl"]


def test_the_same_files_do_run_when_read_by_the_standard_reader(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    data = next(d for name, d, _ in _hostile(str(mark)) if name == "os.system by name")
    pickle.loads(data)
    assert mark.exists()


@pytest.mark.parametrize(
    "state",
    [
        (1, (3,), "f8", False, b"\0" * 8),  # too few bytes
        (1, (-1,), "f8", False, b""),
        (1, (10**9, 10**9), "f8", False, b""),
        (1, (2,), "O", False, [1]),  # numpy would read past the end of the list
        (1, (2,), "O", False, b"\0" * 16),  # bytes as pointers
        (1, (2,), "f8", False, [1.0, 2.0]),
    ],
)
def test_an_array_of_other_size_than_it_says_is_no_array(tmp_path: Path, state: Any) -> None:
    reconstruct = np.ndarray((0,)).__reduce__()[0]
    state = (*state[:2], np.dtype(state[2]), *state[3:])
    path = _pickled(tmp_path / "a.pkl", _Sets(reconstruct, (np.ndarray, (0,), b"b"), state))
    with pytest.raises(DataError, match=r"torn, damaged|calls numpy\.ndarray\.__setstate__"):
        load_pickle(path, what=WHAT)


# --- damage ------------------------------------------------------------------------------------


def test_missing_foreign_and_torn_files_are_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.pkl: no such file; expected a file of the tests"):
        load_pickle(tmp_path / "none.pkl", what=WHAT)
    with pytest.raises(DataError, match="no such file"):
        load_npz(tmp_path / "none.npz", ["a"], what=WHAT)
    foreign = tmp_path / "foreign"
    for content in (b"", b"a,b\n1,2\n", b"PK\x03\x04", b"\x80\x04"):
        foreign.write_bytes(content)
        for load in (
            lambda: load_pickle(foreign, what=WHAT),
            lambda: load_npz(foreign, [], what=WHAT),
        ):
            with pytest.raises(DataError, match=r"foreign: torn, damaged.*download it again"):
                load()
    whole = _pickled(tmp_path / "a.pkl", PLAIN).read_bytes()
    np.savez_compressed(tmp_path / "a.npz", data=np.array(PLAIN, dtype=object))
    packed = (tmp_path / "a.npz").read_bytes()
    for share in (0.01, 0.5, 0.99):
        foreign.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match="torn, damaged"):
            load_pickle(foreign, what=WHAT)
        foreign.write_bytes(packed[: int(share * len(packed))])
        with pytest.raises(DataError, match="torn, damaged"):
            load_npz(foreign, ["data"], what=WHAT)
    at = len(packed) // 2
    foreign.write_bytes(packed[:at] + bytes([packed[at] ^ 255]) + packed[at + 1 :])
    with pytest.raises(DataError, match="torn, damaged"):
        load_npz(foreign, ["data"], what=WHAT)


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.arange(3))
    with pytest.raises(DataError, match="missing array 'b'; it has 'a', expected a file"):
        load_npz(tmp_path / "a.npz", ["a", "b"], what=WHAT)
