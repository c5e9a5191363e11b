"""Rules of the code base that no linter knows, read from the syntax trees."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import h2ot_core
from bench.cli.main import COMMANDS
from h2ot_core import HOSTS, PRUNERS, RECOVERERS
from h2ot_core.hosts.base import AbstractHost
from h2ot_core.prune.base import AbstractPruner
from h2ot_core.recover.base import AbstractRecoverer

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("h2ot_core", "bench", "reports", "suites")
NOXFILE = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))


@cache
def trees(package: str) -> Mapping[str, ast.Module]:
    """Path from the root to syntax tree, of every file of a package."""
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"no files in {package}"
    return {
        file.relative_to(ROOT).as_posix(): ast.parse(file.read_text(encoding="utf-8"))
        for file in files
    }


def everything() -> dict[str, ast.Module]:
    return {path: tree for package in PACKAGES for path, tree in trees(package).items()}


def imported(tree: ast.AST) -> set[str]:
    """Modules that a tree imports, at any depth of nesting."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def roots(tree: ast.AST) -> set[str]:
    return {name.partition(".")[0] for name in imported(tree)}


def names(tree: ast.AST) -> set[str]:
    """Every name and attribute that a tree mentions outside of texts."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call with the dotted name of what is called, as far as it has one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


# --- the rules find what they look for ---------------------------------------------------------


def test_the_rules_see_through_nesting() -> None:
    tree = ast.parse(
        "def f():\n    from time import perf_counter\n    import os.path\n"
        "    return torch.load(x, weights_only=False)\n"
    )
    assert imported(tree) == {"time", "time.perf_counter", "os.path"}
    assert roots(tree) == {"time", "os"}
    assert [name for name, _ in calls(tree)] == ["torch.load"]
    assert "load" in names(tree)
    assert list(unsafe(tree)) == ["weights_only=False"]
    assert not list(unsafe(ast.parse("torch.load(x, weights_only=True)")))
    assert list(unsafe(ast.parse("np.load(x, allow_pickle=flag)"))) == ["allow_pickle=flag"]


# --- the library -------------------------------------------------------------------------------

CLOCKS = {
    "perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "process_time", "time_ns",
    "synchronize", "elapsed_time", "timeit",
}  # fmt: skip
# Files of the library that read and write weights, and what they need for it.
WEIGHTS: dict[str, set[str]] = {
    "h2ot_core/checkpoints.py": {"numpy"},
    "h2ot_core/weights.py": {"safetensors"},
    "h2ot_core/files.py": set(),
}
# The file of the library that reads the environment.
ENVIRONMENT = "h2ot_core/kernels/detect.py"
FILES = {"os", "io", "pathlib", "shutil", "tempfile", "glob", "pickle", "zipfile", "json", "csv"}


@pytest.mark.parametrize("path", trees("h2ot_core"))
def test_the_library_needs_torch_alone(path: str) -> None:
    allowed = {*sys.stdlib_module_names, "torch", "h2ot_core", *WEIGHTS.get(path, ())}
    assert roots(trees("h2ot_core")[path]) <= allowed


@pytest.mark.parametrize("path", trees("h2ot_core"))
def test_the_library_reads_no_clock_prints_nothing_and_opens_no_file(path: str) -> None:
    tree = trees("h2ot_core")[path]
    assert not roots(tree) & {"time", "datetime", "timeit", "logging", "argparse", "subprocess"}
    assert not names(tree) & (CLOCKS | {"print", "stdout", "stderr"})
    if path not in WEIGHTS:
        assert roots(tree) & FILES <= ({"os"} if path == ENVIRONMENT else set())
        if path == ENVIRONMENT:
            uses = [line for line in ast.unparse(tree).splitlines() if "os." in line]
            assert len(uses) == 1
            assert "os.environ.get(" in uses[0]
        called = {name for name, _ in calls(tree)}
        assert not called & {"open", "torch.load", "torch.save"}


# --- commands ----------------------------------------------------------------------------------


def texts(tree: ast.AST) -> Iterator[set[str]]:
    """The texts in each list, tuple, set and dictionary of a tree."""
    for node in ast.walk(tree):
        items = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
        yield {item.value for item in items if isinstance(item, ast.Constant)}


def test_a_command_is_one_file_and_one_row() -> None:
    shared = {"__init__", "main", "options", "gate_options"}
    files = {Path(path).stem for path in trees("bench") if path.startswith("bench/cli/")}
    assert sorted(COMMANDS) == sorted(files - shared)
    for name in COMMANDS:
        command = importlib.import_module(f"bench.cli.{name}")
        assert command.HELP
        assert callable(command.add)
        assert callable(command.run)
    rows = set(COMMANDS) | {name.replace("_", "-") for name in COMMANDS}
    lists = {
        path: max((len(found & rows) for found in texts(tree)), default=0)
        for path, tree in {**everything(), "noxfile.py": NOXFILE}.items()
    }
    assert lists.pop("bench/cli/main.py") == len(COMMANDS)
    assert max(lists.values()) < len(COMMANDS) / 2


def test_the_help_waits_for_no_pytorch() -> None:
    code = (
        "import sys; from bench.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    )
    code += "print([name for name in ('torch', 'numpy', 'h2ot_core') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "calibrate-gate" in done.stdout
    assert done.stdout.endswith("[]\n")


# --- clocks ------------------------------------------------------------------------------------

CLOCK = "bench/timing/clock.py"
# Files that read a clock, but not for a measurement.
OTHER_CLOCKS = {
    "bench/records/store.py": {"strftime", "gmtime"},  # the name of a file set aside
    "bench/evaluation/lift_file.py": {"perf_counter"},  # tells its user how long it took
    "bench/train/loop.py": {"monotonic"},  # when to save and when to leave
    "bench/train/scale.py": {"monotonic"},  # when to leave
}


@pytest.mark.parametrize("path", everything())
def test_one_file_reads_the_clock_and_waits_for_the_device(path: str) -> None:
    tree = everything()[path]
    if path == CLOCK:
        assert {"perf_counter", "synchronize"} <= names(tree)
        return
    permitted = OTHER_CLOCKS.get(path, set())
    assert not names(tree) & (CLOCKS - permitted)
    if not permitted:
        assert not roots(tree) & {"time", "timeit", "datetime"}
    used = {name.partition(".")[2] for name, _ in calls(tree) if name.startswith("time.")}
    assert used == permitted


# --- imports -----------------------------------------------------------------------------------

# Package to those it may import; the command line is the entry to everything.
MAY_IMPORT = {
    "h2ot_core": set(),
    "bench": {"h2ot_core"},
    "reports": {"bench"},
    "suites": {"h2ot_core", "bench", "reports"},
}
ENTRY = "bench/cli/"


@pytest.mark.parametrize("path", everything())
def test_packages_import_downwards(path: str) -> None:
    package = path.partition("/")[0]
    others = roots(everything()[path]) & set(PACKAGES) - {package}
    assert others <= MAY_IMPORT[package] | ({"reports"} if path.startswith(ENTRY) else set())


@pytest.mark.parametrize("name", ["case", "record", "units", "errors", "store", "files"])
def test_values_and_their_file_need_the_standard_library_alone(name: str) -> None:
    tree = trees("bench")[f"bench/records/{name}.py"]
    own = {module for module in imported(tree) if module.startswith("bench.")}
    assert roots(tree) <= {*sys.stdlib_module_names, "bench"}
    allowed = {"case", "record", "errors", "files"}
    assert {module.split(".")[2] for module in own} <= allowed


def test_importing_the_harness_loads_nothing() -> None:
    assert (ROOT / "bench/__init__.py").read_text() == ""


def test_reports_are_built_without_torch() -> None:
    code = "import sys, reports.build; print(*sorted({'torch', 'h2ot_core'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


# --- registries --------------------------------------------------------------------------------


def concrete(base: type) -> set[type]:
    """All classes of the library under a base that can be made an object."""
    for module in pkgutil.walk_packages(h2ot_core.__path__, "h2ot_core."):
        importlib.import_module(module.name)
    found, todo = set(), [base]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if not inspect.isabstract(kind) and kind.__module__.startswith("h2ot_core."):
            found.add(kind)
    return found


@pytest.mark.parametrize(
    ("base", "registry"),
    [(AbstractHost, HOSTS), (AbstractPruner, PRUNERS), (AbstractRecoverer, RECOVERERS)],
)
def test_every_concrete_class_stands_in_its_registry(
    base: type, registry: dict[str, type[Any]]
) -> None:
    own = {kind for kind in registry.values() if kind.__module__.startswith("h2ot_core.")}
    assert own == concrete(base)
    assert len({kind.__module__ for kind in own}) == len(own), "one file each"
    assert all(name == name.lower() for name in registry)


def test_the_papers_strategies_are_there() -> None:
    assert {"tpc", "tpa", "tpmo", "tps"} <= set(PRUNERS)
    assert {"tra", "tri"} <= set(RECOVERERS)
    assert "mixste" in HOSTS


# --- files that are not trusted ----------------------------------------------------------------

SAFE = {"allow_pickle": False, "weights_only": True}


def unsafe(tree: ast.AST) -> Iterator[str]:
    """Arguments that let a file run code when it is read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in SAFE:
            value = node.value
            if not isinstance(value, ast.Constant) or value.value is not SAFE[node.arg]:
                yield f"{node.arg}={ast.unparse(value)}"


def every_file() -> list[str]:
    folders = (*PACKAGES, "examples")  # tests read files of their own making
    return sorted(
        file.relative_to(ROOT).as_posix()
        for folder in folders
        for file in (ROOT / folder).rglob("*.py")
    )


@pytest.mark.parametrize("path", every_file())
def test_no_file_is_read_in_a_way_that_runs_it(path: str) -> None:
    assert not list(unsafe(ast.parse((ROOT / path).read_text(encoding="utf-8"))))


@pytest.mark.parametrize("path", everything())
def test_nothing_is_unpickled_but_weights(path: str) -> None:
    for name, call in calls(everything()[path]):
        assert name not in ("pickle.load", "pickle.loads", "pickle.Unpickler", "eval", "exec")
        if name == "torch.load":
            assert path == "h2ot_core/checkpoints.py"
            assert "weights_only" in {keyword.arg for keyword in call.keywords}
