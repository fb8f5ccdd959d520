"""What pyproject.toml declares, the pinned versions, and what a wheel holds."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.resources
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CLONE = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
COMMANDS = ("train", "evaluate", "convert", "export", "figures", "report", "study")
# Extras whose packages a part of the library may import; the rest has the dependencies only.
MAY_IMPORT = {
    "robust_tf/data": ("formats",),
    "robust_tf/models": ("torch",),
    "robust_tf/figures": ("figures",),
    "robust_tf/cli": ("figures", "torch"),
    "robust_tf/report": ("report",),
    "robust_tf/export": ("tflite", "onnx"),
    "robust_tf/engines/ray_tasks.py": ("ray",),
    "robust_tf/training/optimizers.py": ("addons",),
    "benchmarks": ("bench",),
    "tests": ("test",),
}


def requirements(*extras: str) -> list[Requirement]:
    """The dependencies and those of `extras`, with the extras that they name themselves."""
    found = [Requirement(line) for line in PROJECT["dependencies"]]
    for extra in extras:
        for requirement in map(Requirement, EXTRAS[extra]):
            own = canonicalize_name(requirement.name) == "robust-tf"
            found += requirements(*requirement.extras) if own else [requirement]
    return found


def names(*extras: str) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements(*extras)}


def imported(file: Path) -> set[str]:
    """The foreign modules that a file imports anywhere, by their first name."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules.add(node.module.partition(".")[0])
    return modules - sys.stdlib_module_names - {"robust_tf", "tests", "benchmarks"}


def distributions(module: str) -> set[str]:
    """What installs `module`."""
    return {canonicalize_name(name) for name in installed().get(module, [module])}


@functools.cache
def installed() -> Mapping[str, list[str]]:
    """Top-level modules of this environment, and what installed them."""
    return importlib.metadata.packages_distributions()


@pytest.mark.parametrize("folder", ["robust_tf", "benchmarks", "tests"])
def test_what_is_imported_is_declared(folder):
    undeclared = []
    for file in (CLONE / folder).rglob("*.py"):
        path = file.relative_to(CLONE).as_posix()
        if path.startswith("benchmarks/peers_"):
            continue  # they run in environments of their own
        extras = [
            e for part, es in MAY_IMPORT.items() if f"{path}/".startswith(f"{part}/") for e in es
        ]
        allowed = names(*extras)
        for module in imported(file):
            if not distributions(module) & allowed:
                undeclared.append(f"{path} imports {module}")
    assert not undeclared


@pytest.mark.parametrize("stack", ["default", "addons"])
def test_constraints_pin_every_requirement_within_its_range(stack):
    text = (CLONE / f"constraints/{stack}.txt").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    pins = {}
    for requirement in map(Requirement, lines):
        (pin,) = requirement.specifier
        assert pin.operator == "==", requirement
        pins.setdefault(canonicalize_name(requirement.name), []).append(pin.version)
    for requirement in requirements("test", "bench", "addons" if stack == "addons" else "docs"):
        versions = pins.get(canonicalize_name(requirement.name))
        assert versions, f"{requirement.name} is not pinned in constraints/{stack}.txt"
        assert all(map(requirement.specifier.contains, versions)), f"{requirement}: {versions}"


def test_console_scripts_exist():
    scripts = PROJECT["scripts"]
    assert set(scripts) == {f"robust-tf-{command}" for command in COMMANDS}
    for name, target in scripts.items():
        module, function = target.split(":")
        assert name == f"robust-tf-{module.rpartition('.')[2]}"
        assert callable(getattr(importlib.import_module(module), function))


def test_recipes_come_with_the_package():
    recipes = importlib.resources.files("robust_tf") / "gin"
    assert Path(str(recipes)).resolve() == CLONE / "gin"
    assert any(entry.name.endswith(".gin") for entry in recipes.iterdir())
    # `import gin` is gin-config only as long as the folder of recipes is no package.
    assert not (CLONE / "gin/__init__.py").exists()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a copy of this clone, made by the setuptools at hand."""
    copy = tmp_path_factory.mktemp("wheel") / "clone"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CLONE / name, copy)
    for name in ("robust_tf", "gin", "tests"):
        shutil.copytree(
            CLONE / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", build, str(copy.parent)]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = copy.parent.glob("*.whl")
    return found


def test_the_wheel_holds_the_library_and_the_recipes_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    sources = {
        path.relative_to(CLONE).as_posix()
        for path in (CLONE / "robust_tf").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "gin" not in path.parts
    }
    recipes = {
        f"robust_tf/{path.relative_to(CLONE).as_posix()}" for path in (CLONE / "gin").rglob("*.gin")
    }
    assert len(recipes) > 20 and "robust_tf/py.typed" in held
    assert held == sources | recipes
    version = importlib.import_module("robust_tf.version").__version__
    assert re.search(rf"^Version: {re.escape(version)}$", text, re.M)
    for line in (*PROJECT["dependencies"], *EXTRAS["report"]):
        name = Requirement(line).name
        assert re.search(rf"^Requires-Dist: {re.escape(name)}\b", text, re.M), name


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment(wheel, tmp_path):
    """Every command, from a folder elsewhere; what needs an extra says so before it is there."""
    programs, elsewhere = tmp_path / "venv/bin", tmp_path / "elsewhere"
    venv.create(tmp_path / "venv", with_pip=True)
    elsewhere.mkdir()

    def call(program: str, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [programs / program, *arguments],
            cwd=elsewhere,
            # Nothing of this clone's, such as PYTHONPATH.
            env={"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, (program, arguments, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def install(requirement: str) -> None:
        constraints = str(CLONE / "constraints/default.txt")
        call("python", "-Im", "pip", "install", "--quiet", "-c", constraints, requirement)

    install(str(wheel))
    call("python", "-c", "from robust_tf import attacks, data, evaluation, methods, training")
    for command in COMMANDS:
        assert f"usage: robust-tf-{command} " in call(f"robust-tf-{command}", "--help")
    run = ("--run_dir", "run")
    recipe = ("--gin_file", "gin/standard_digits.gin", "--gin_param", "train.epochs=2")
    assert "accuracy" in call("robust-tf-train", *recipe, *run)
    assert "worst case" in call("robust-tf-evaluate", *run, "--attacks", "FGSM(eps=0.1)")
    call("robust-tf-export", *run, "--export_dir", "exported")
    assert "robust_tf[report]" in call("robust-tf-report", *run, status=2)
    install(f"{wheel}[report]")
    call("robust-tf-report", *run, "--output", "report.html")
    call("robust-tf-figures", "training", *run, "--output", "training.svg")
    for made in ("exported/saved_model.pb", "report.html", "training.svg"):
        assert (elsewhere / made).exists(), made
