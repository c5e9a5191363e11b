"""What a wheel and an editable install put where; what workflows and CONTRIBUTING.md refer to."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
COPIED = (
    "h2ot_core", "bench", "reports", "suites", "tests", ".gitignore", "LICENSE", "README.md",
    "pyproject.toml",
)  # fmt: skip
VERSION = "1.2.3"
INSTALL = ("install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that sees neither this checkout nor a repository around it."""
    known = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "GIT_", "PIP_"))}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=known, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Environment:
    """A new virtual environment that also sees the packages, but no ``.pth`` file, of this one."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Environment:
        venv.create(folder, symlinks=True)
        one = cls(folder)
        (one.site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
        return one

    @property
    def python(self) -> Path:
        return Path(sysconfig.get_path("scripts", "venv", {"base": str(self.folder)})) / "python"

    @property
    def site(self) -> Path:
        base = str(self.folder)
        return Path(sysconfig.get_path("purelib", "venv", {"base": base, "platbase": base}))

    def install(self, *what: str | Path) -> None:
        run(sys.executable, "-m", "pip", "--python", self.python, *INSTALL, *what, cwd=self.folder)

    def installed(self) -> set[str]:
        return {path.name for path in self.site.iterdir()} - {"packages.pth"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources in a repository with a tag, and what earlier builds of them left behind."""
    for module in ("build", "hatchling", "hatch_vcs", "pip"):
        pytest.importorskip(module, reason=f"needs {module}: the group tests in pyproject.toml")
    root = tmp_path_factory.mktemp("packaging") / "checkout"
    root.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "out")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, root)
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    run("git", "init", "--quiet", cwd=root)
    run("git", "add", ".", cwd=root)
    run("git", *author, "commit", "--quiet", "--message", "all", cwd=root)
    run("git", *author, "tag", f"v{VERSION}", cwd=root)
    for old in ("build/lib/bench/__init__.py", "build/lib/h2ot_core/old.py", "dist/old.txt"):
        (root / old).parent.mkdir(parents=True)
        (root / old).touch()
    (root / "h2ot.egg-info").mkdir()
    (root / "h2ot.egg-info" / "top_level.txt").write_text("bench\nh2ot_core\n")
    return root


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    """Built in the checkout itself, as ``pip install .`` does."""
    out = checkout.parent / "wheel"
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", out, cwd=checkout)
    (file,) = out.iterdir()
    return file


def test_the_wheel_holds_the_library_alone(wheel: Path) -> None:
    assert wheel.name == f"h2ot-{VERSION}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    own = {name for name in names if not name.startswith(f"h2ot-{VERSION}.dist-info/")}
    assert {"h2ot_core/py.typed", "h2ot_core/trunks/mixste.safetensors"} <= own
    files = [path for path in (ROOT / "h2ot_core").rglob("*") if path.is_file()]
    assert own == {p.relative_to(ROOT).as_posix() for p in files if p.suffix != ".pyc"}
    assert f"h2ot-{VERSION}.dist-info/entry_points.txt" not in names


def test_an_installed_wheel_is_imported_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    environment = Environment.make(tmp_path / "venv")
    environment.install(wheel)
    assert environment.installed() == {"h2ot_core", f"h2ot-{VERSION}.dist-info"}
    code = (
        "import importlib.util, torch, h2ot_core\n"
        "print(h2ot_core.__version__, h2ot_core.__file__, sep='\\n')\n"
        "model = h2ot_core.build('mixste', scheme='h2ot', frames=27, r=(9,), b=(1,), width=16,\n"
        "    depth=3, heads=2).eval()\n"
        "print(tuple(model(torch.zeros(1, 27, 17, 2)).shape))\n"
        "print([n for n in ('bench', 'reports', 'suites') if importlib.util.find_spec(n)])\n"
    )
    version, *rest = run(environment.python, "-c", code, cwd=tmp_path).splitlines()
    assert version == VERSION
    assert rest == [str(environment.site / "h2ot_core/__init__.py"), "(1, 27, 17, 3)", "[]"]


@pytest.mark.slow
def test_an_editable_install_runs_the_harness_from_any_folder(
    checkout: Path, tmp_path: Path
) -> None:
    environment = Environment.make(tmp_path / "venv")
    environment.install("--editable", checkout)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = "import bench, h2ot_core, reports, suites\nprint(bench.__file__, h2ot_core.__file__)"
    files = run(environment.python, "-c", code, cwd=elsewhere).split()
    assert [Path(f).parent for f in files] == [checkout / "bench", checkout / "h2ot_core"]
    count = "count --host mixste --scheme none --csv -"
    (row,) = csv.DictReader(
        run(environment.python, "-m", "bench", *count.split(), cwd=elsewhere).splitlines()
    )
    assert (row["param_m"], row["flops_paper_g"]) == ("33.78", "277.25")  # the paper's Table 4
    assert list(elsewhere.iterdir()) == []


def test_the_source_distribution_is_the_checkout(checkout: Path) -> None:
    out = checkout.parent / "sdist"
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", out, cwd=checkout)
    with tarfile.open(out / f"h2ot-{VERSION}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = run("git", "ls-files", cwd=checkout).split()
    assert names - {"PKG-INFO"} == set(tracked)


def test_without_history_there_is_a_version_all_the_same(checkout: Path, tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns(".git", "tests", "bench")
    shutil.copytree(checkout, tmp_path / "export", ignore=ignore)
    told = run(sys.executable, "-m", "hatchling", "version", cwd=tmp_path / "export")
    assert told.strip() == "0.0"


# --- what is written about it ------------------------------------------------------------------

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def job_steps(workflow: Path) -> list[dict[str, Any]]:
    flow = yaml.safe_load(workflow.read_text())
    return [step for job in flow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_to_a_major_version(workflow: Path) -> None:
    used = [step["uses"] for step in job_steps(workflow) if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w/-]+@v\d+", name) for name in used)


def test_the_matrix_is_what_the_package_supports() -> None:
    flow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())
    matrix = flow["jobs"]["tests"]["strategy"]["matrix"]
    stated = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    assert matrix["python"] == stated
    assert PROJECT["project"]["requires-python"] == f">={stated[0]}"
    (lowest,) = re.findall(r"torch>=([\d.]+)", "\n".join(PROJECT["project"]["dependencies"]))
    assert f"tests_torch -- {lowest}.0" in {one["session"] for one in matrix["include"]}


@pytest.fixture(scope="module")
def sessions() -> set[str]:
    pytest.importorskip("nox", reason="needs nox: the group tests in pyproject.toml")
    listed = run(sys.executable, "-m", "nox", "--list", "--no-color", cwd=ROOT)
    return set(re.findall(r"^[-*] (\w+)", listed, flags=re.MULTILINE))


def test_every_suite_is_a_session(sessions: set[str]) -> None:
    suites = {"table_2", "table_3", "table_4", "table_5", "table_6", "table_7", "batch_size"}
    assert suites | {"streaming", "runtimes", "tests", "lint"} <= sessions


PAGES = sorted((*WORKFLOWS, *ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_sessions_that_are_named_exist(page: Path, sessions: set[str]) -> None:
    text = page.read_text().replace("${{ matrix.session }}", "tests")
    assert set(re.findall(r"nox -s (\w+)", text)) <= sessions


def test_hooks_take_the_versions_of_the_project() -> None:
    (source,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert source["repo"] == "local"
    assert {hook["language"] for hook in source["hooks"]} == {"system"}
    entries = {hook["entry"] for hook in source["hooks"]}
    assert {"ruff check", "ruff format", "mypy", "lint-imports --no-cache"} <= entries


def test_the_places_to_touch_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = {name for name in re.findall(r"`([\w./-]+)`", text) if "/" in name}
    assert len(paths) > 8
    assert [name for name in sorted(paths) if not (ROOT / name).exists()] == []
    rows = re.findall(r"`([A-Z_]+)` in `([\w./]+)`", text)
    assert len(rows) == 8
    for name, file in rows:
        assert re.search(rf"^{name}\b.* = ", (ROOT / file).read_text(), flags=re.MULTILINE)
