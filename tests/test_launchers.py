"""The launchers in bin/ and the packaging, without installing anything."""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import robust_tf.version

CLONE = Path(__file__).resolve().parent.parent
COMMANDS = ("train", "evaluate", "export", "figures", "report", "test")
PIN = re.compile(r"^([\w.-]+)==(\S+)$", re.M)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def load(monkeypatch, name: str) -> types.ModuleType:
    """bin/NAME.py as a module of its own."""
    spec = importlib.util.spec_from_file_location(name, CLONE / f"bin/{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # dataclass looks its module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def environments(tmp_path, monkeypatch) -> types.ModuleType:
    """At work in an empty clone; what would be called is written down in `.calls`."""
    module = load(monkeypatch, "environments")
    clone = tmp_path / "clone"
    (clone / "constraints").mkdir(parents=True)
    for file in ("setup.py", "constraints/default.txt", "constraints/addons.txt"):
        shutil.copy(CLONE / file, clone / file)
    module.calls = []

    def call(command):
        module.calls.append(list(command))
        if "venv" in command:
            python = Path(command[-1]) / "bin/python"
            python.parent.mkdir(parents=True)
            python.touch()

    monkeypatch.setattr(module, "CLONE", clone)
    monkeypatch.setattr(module, "call", call)
    monkeypatch.setattr(module, "find_python", lambda stack: "python3.11")
    return module


@pytest.fixture
def launcher(environments, monkeypatch) -> types.ModuleType:
    """The launcher, with those environments."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # it adds its folder
    return load(monkeypatch, "launcher")


def stub_commands(folder: Path, **scripts: str) -> dict[str, str]:
    """An environment whose PATH holds `scripts` and no Python but them."""
    for name in ("dirname", "readlink"):
        (folder / name).symlink_to(shutil.which(name))
    for name, script in scripts.items():
        file = folder / name.replace("_", ".")
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
    return {"PATH": str(folder)}


@pytest.mark.parametrize("command", COMMANDS)
def test_launchers_are_executable_shell(command):
    file = CLONE / "bin" / command
    assert os.access(file, os.X_OK)
    for script in (file, CLONE / "bin/launch"):
        subprocess.run(["sh", "-n", str(script)], check=True)
    # The command that it hands on is its own name.
    assert f" {command} " in file.read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_launchers_take_the_first_python_that_fits(tmp_path, command):
    env = stub_commands(
        tmp_path,
        python3="echo 3.9",
        python3_11='case "$*" in *version*) echo 3.11 ;; *) echo "ran: $*" ;; esac',
    )
    link = tmp_path / "linked"  # also from elsewhere, through a link
    link.symlink_to(CLONE / "bin" / command)
    done = subprocess.run([str(link), "--x", "a b"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"ran: {CLONE}/bin/launcher.py {command} --x a b\n"


@pytest.mark.parametrize(
    "scripts, found",
    [
        ({"python3": "echo 3.9", "python": "echo 2.7"}, "found: python3 is 3.9, python is 2.7."),
        ({"python3": "echo 3.13", "python3_11": "exit 127"}, "found: python3 is 3.13."),
        ({}, "found: no Python at all."),
    ],
)
def test_other_pythons_are_refused_by_name(tmp_path, scripts, found):
    done = subprocess.run(
        [str(CLONE / "bin/train")],
        env=stub_commands(tmp_path, **scripts),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"robust_tf needs Python 3.11 or 3.12; {found}\n" in done.stderr
    assert "Install Python 3.11" in done.stderr


def test_set_up_installs_once(environments, capsys):
    stack = environments.STACKS["default"]
    python = environments.set_up(stack, frozenset())
    assert python == str(environments.CLONE / ".venv/bin/python")
    make, install = environments.calls
    assert make[0] == "python3.11" and make[-1] == str(environments.CLONE / ".venv")
    assert install[0] == python and install[-4:] == ["-c", "constraints/default.txt", "-e", "."]
    assert len(capsys.readouterr().err.splitlines()) == 1

    assert environments.set_up(stack, frozenset()) == python
    assert len(environments.calls) == 2
    assert capsys.readouterr().err == ""


def test_set_up_adds_missing_extras_to_what_is_there(environments):
    stack = environments.STACKS["addons"]
    environments.set_up(stack, frozenset())
    environments.set_up(stack, frozenset({"test"}))
    assert [call[-1] for call in environments.calls[1:]] == [".[addons]", ".[addons,test]"]
    environments.set_up(stack, frozenset())
    assert len(environments.calls) == 3


@pytest.mark.parametrize("file", ["setup.py", "constraints/default.txt"])
def test_changed_requirements_make_the_environment_anew(environments, file):
    stack = environments.STACKS["default"]
    environments.set_up(stack, frozenset({"test"}))
    (environments.CLONE / file).write_text("# other\n")
    assert environments.installed_extras(stack) is None
    leftover = environments.CLONE / ".venv/leftover"
    leftover.touch()
    environments.set_up(stack, frozenset())
    assert len(environments.calls) == 4
    assert not leftover.exists()


@pytest.mark.parametrize("already", [None, frozenset()])
def test_interrupted_set_up_does_not_count(environments, monkeypatch, already):
    stack = environments.STACKS["default"]
    if already is not None:
        environments.set_up(stack, already)
    make = environments.call

    def interrupted(command):
        make(command)
        if "pip" in command:
            raise KeyboardInterrupt

    monkeypatch.setattr(environments, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        environments.set_up(stack, frozenset({"test"}))
    assert environments.installed_extras(stack) is None


def test_a_failing_step_shows_its_error(monkeypatch):
    fresh = load(monkeypatch, "environments")
    with pytest.raises(fresh.SetupError, match="no such wheel(.|\n)*Run this again"):
        fresh.call(["sh", "-c", "echo fine; echo no such wheel >&2; exit 2"])


def test_a_clone_that_cannot_be_written_is_named(environments):
    (environments.CLONE / ".venv.lock").mkdir()  # cannot be opened for writing, not even by root
    with pytest.raises(environments.SetupError, match="cannot be written to(.|\n)*activate it"):
        environments.set_up(environments.STACKS["default"], frozenset())


def test_addons_refuses_a_python_without_its_wheels(monkeypatch):
    fresh = load(monkeypatch, "environments")
    done = subprocess.CompletedProcess([], 0, stdout="3.12\n")
    monkeypatch.setattr(fresh.subprocess, "run", lambda *a, **k: done)
    assert fresh.find_python(fresh.STACKS["default"]) == "python3.11"
    with pytest.raises(fresh.SetupError, match="needs Python 3.11; found: python3.11 is 3.12"):
        fresh.find_python(fresh.STACKS["addons"])


def test_a_folder_of_that_name_is_not_an_import(environments, tmp_path, monkeypatch):
    (tmp_path / "some_recipes").mkdir()
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert environments.importable(["some_package"])
    assert not environments.importable(["some_package", "some_recipes"])
    assert not environments.importable(["some_package", "absent_package"])


def test_the_clones_code_comes_first(launcher, environments, monkeypatch):
    def execv(python, command):
        raise SystemExit([python, *command, os.environ["PYTHONPATH"]])

    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setattr(launcher.os, "execv", execv)
    monkeypatch.setattr(environments, "importable", lambda modules: True)
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    with pytest.raises(SystemExit) as ended:
        launcher.main(["train", "--run_dir", "x"])
    path = f"{environments.CLONE}{os.pathsep}elsewhere"
    me = sys.executable
    train = "robust_tf.cli.train"
    assert ended.value.code == [me, me, "-P", "-m", train, "--run_dir", "x", path]
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "2"


def test_a_command_brings_the_extra_that_it_needs(launcher, environments, monkeypatch):
    def execv(python, command):
        raise SystemExit

    monkeypatch.setattr(launcher.os, "execv", execv)
    monkeypatch.setattr(environments, "importable", lambda modules: "plotly" not in modules)
    with pytest.raises(SystemExit):
        launcher.main(["train"])
    assert environments.calls == []
    with pytest.raises(SystemExit):
        launcher.main(["report"])
    assert environments.calls[-1][-1] == ".[report]"


def test_help_and_misuse_of_bin_test_set_nothing_up(launcher, environments, capsys):
    for arguments, status in ([["--help"], 0], [["--stack=tf1"], 2], [["--lint", "-k", "x"], 2]):
        with pytest.raises(SystemExit) as ended:
            launcher.main(["test", *arguments])
        assert ended.value.code == status
    output = capsys.readouterr()
    assert "--stack" in output.out and "tf1" in output.err and "-k x" in output.err
    assert environments.calls == []


@pytest.fixture
def packaging(monkeypatch) -> dict:
    """What setup.py hands to setuptools."""
    handed: dict = {}
    monkeypatch.setattr("setuptools.setup", lambda **arguments: handed.update(arguments))
    runpy.run_path(str(CLONE / "setup.py"))
    return handed


@pytest.mark.parametrize("stack", ["default", "addons"])
def test_constraints_pin_every_requirement_within_its_range(stack, packaging):
    extras = packaging["extras_require"]
    wanted = packaging["install_requires"] + extras["test"] + extras["bench"] + extras["report"]
    wanted += extras["figures"]
    wanted += extras["addons"] if stack == "addons" else []
    text = (CLONE / f"constraints/{stack}.txt").read_text()
    pins = {canonical(name): version for name, version in PIN.findall(text)}
    assert len(pins) == sum(not line.startswith("#") for line in text.splitlines())
    for requirement in map(Requirement, wanted):
        version = pins.get(canonical(requirement.name))
        assert version, f"{requirement.name} is not pinned in constraints/{stack}.txt"
        assert requirement.specifier.contains(version), f"{requirement} excludes {version}"


def test_only_the_pinned_versions_are_the_stack(environments, monkeypatch):
    text = (CLONE / "constraints/default.txt").read_text()
    versions = dict(PIN.findall(text))
    monkeypatch.setattr(environments.importlib.metadata, "version", lambda name: versions[name])
    assert environments.has_pinned_identity(environments.STACKS["default"])
    assert not environments.has_pinned_identity(environments.STACKS["addons"])
    versions["keras"] += "0"
    assert not environments.has_pinned_identity(environments.STACKS["default"])

    def absent(name):
        raise environments.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(environments.importlib.metadata, "version", absent)
    assert not environments.has_pinned_identity(environments.STACKS["default"])


def test_version_has_one_place(packaging):
    assert packaging["version"] == robust_tf.version.__version__


def test_recipes_come_with_the_package():
    recipes = importlib.resources.files("robust_tf") / "gin"
    assert Path(str(recipes)).resolve() == CLONE / "gin"
    assert any(entry.name.endswith(".gin") for entry in recipes.iterdir())
    # `import gin` is gin-config only as long as the folder of recipes is no package.
    assert not (CLONE / "gin/__init__.py").exists()


def test_console_scripts_exist(packaging):
    scripts = packaging["entry_points"]["console_scripts"]
    assert len(scripts) == 5
    for script in scripts:
        name, target = script.split(" = ")
        module, function = target.split(":")
        assert name == f"robust-tf-{module.rpartition('.')[2]}"
        assert callable(getattr(importlib.import_module(module), function))
