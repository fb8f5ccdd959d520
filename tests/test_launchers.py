"""The launchers in bin/, in a clone of their own, with a Python that only writes down its calls."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

CLONE = Path(__file__).resolve().parent.parent
COMMANDS = ("train", "evaluate", "convert", "export", "figures", "report", "study", "test")
# Tells its version, makes environments with itself as interpreter, fails at pip while there is a
# file `broken`, and ends with status 7 as a command.
PYTHON = """#!/bin/sh
echo "$*" >>{clone}/calls
case "$*" in
    *version_info*) echo {version} ;;
    *importlib.metadata*) {active} ;;
    *venv*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && sleep 0.2 ;;
    *pip*) ! [ -e {clone}/broken ] ;;
    *sleep*) trap 'exit 3' TERM; sleep 60 & wait ;;
    *) echo "$ROBUST_TF_PROG"; exit 7 ;;
esac
"""


# All else on the PATH: no Python of this machine is to be found.
TOOLS = "sh dirname readlink cat cksum grep sed flock rm mkdir cp sleep".split()


class Clone:
    """A clone with the launchers, and a PATH with one Python."""

    def __init__(self, folder: Path, version: str = "3.11", active: str = "false"):
        self.root, self.programs = folder / "clone", folder / "programs"
        self.root.mkdir()
        for name in ("bin", "constraints"):
            shutil.copytree(CLONE / name, self.root / name)
        shutil.copy(CLONE / "pyproject.toml", self.root)
        (self.root / "tests").mkdir()
        shutil.copy(CLONE / "tests/addons.txt", self.root / "tests")
        self.programs.mkdir()
        for name in TOOLS:
            (self.programs / name).symlink_to(shutil.which(name))
        self.python = self.programs / "python3"
        self.python.write_text(PYTHON.format(clone=self.root, version=version, active=active))
        self.python.chmod(0o755)
        for name in ("python", "python3.11", "python3.12"):
            (self.programs / name).symlink_to(self.python)

    def start(self, *command: str, **environment: str) -> subprocess.Popen:
        environment = {"PATH": str(self.programs), **environment}
        return subprocess.Popen(
            [self.root / "bin" / command[0], *command[1:]],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *command: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*command, **environment)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    def calls(self) -> list[str]:
        """Since the last time; without the questions for a version."""
        lines = (self.root / "calls").read_text().splitlines()
        (self.root / "calls").unlink()
        return [line for line in lines if not line.startswith("-Ic")]


@pytest.fixture
def clone(tmp_path) -> Clone:
    return Clone(tmp_path)


def test_every_command_has_its_launcher():
    for command in COMMANDS:
        file = CLONE / "bin" / command
        assert os.access(file, os.X_OK)
        subprocess.run(["sh", "-n", file], check=True)
        assert command == "test" or file.read_text().endswith(f'/launch" {command} "$@"\n')


def test_the_environment_is_made_once_and_the_status_is_the_commands(clone):
    status, output, errors = clone("train", "--x", "a b")
    assert status == 7 and output == "bin/train\n" and len(errors.splitlines()) == 1
    make, install, run = clone.calls()
    assert make == f"-Im venv {clone.root}/.venv"
    assert install.endswith("-c constraints/default.txt -e .[report]")
    assert run == "-P -m robust_tf.cli.train --x a b"
    assert clone("report") == (7, "bin/report\n", "")
    assert clone.calls() == ["-P -m robust_tf.cli.report"]


def test_the_tests_add_what_they_need_and_the_commands_use_it(clone):
    clone("train")
    clone.calls()
    assert clone("test", "-k", "adr", "tests/x")[0] == 7
    install, run = clone.calls()
    assert install.endswith("-e .[docs,test]") and run == "-P -m pytest -k adr tests/x"
    clone("train")
    assert clone.calls() == ["-P -m robust_tf.cli.train"]


def test_bin_docs_builds_the_site(clone):
    assert clone("docs", "site")[0] == 7
    install, run = clone.calls()[1:]
    assert install.endswith("-c constraints/default.txt -e .[docs]")
    assert run.startswith("-P -m sphinx -q -W ") and run.endswith(f" {clone.root} site")
    clone("train")
    assert clone.calls()[0].endswith("-e .[report]")
    for command in ("docs", "train"):  # what one has added the other keeps
        assert clone(command)[0] == 7
        assert len(clone.calls()) == 1
    assert "FOLDER" in clone("docs", "--help")[1] and not (clone.root / "calls").exists()


def test_bin_test_has_two_stacks_and_the_linters(clone):
    assert clone("test", "--stack=addons")[0] == 7
    install, run = clone.calls()[1:]
    assert install.endswith("-c constraints/addons.txt -e .[addons,test]")
    assert " -n auto " in run and run.endswith(" ".join(addons_files()))
    clone("test", "--all", "--stack=addons")
    assert clone.calls()[-1].endswith("--dist=worksteal")
    clone("test", "-m", "slow", "--stack=addons")
    assert clone.calls() == ["-P -m pytest -m slow"]
    clone("test", "tests/x")
    clone.calls()
    assert clone("test", "--lint")[0] == 1
    assert [call[6:] for call in clone.calls()] == [
        "ruff check",
        "ruff format --check",
        "mypy",
    ]


def addons_files() -> list[str]:
    lines = (CLONE / "tests/addons.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_what_the_addons_stack_runs_exists():
    assert addons_files() and all((CLONE / file).exists() for file in addons_files())


def test_help_and_misuse_of_bin_test_set_nothing_up(clone):
    for arguments, status in ((["-h"], 0), (["--stack=tf1"], 2), (["--lint", "-k", "x"], 2)):
        found, output, errors = clone("test", *arguments)
        assert found == status and ("--lint" in output) == (status == 0) == (not errors)
    assert not (clone.root / "calls").exists()


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints/default.txt"])
def test_other_requirements_make_the_environment_anew(clone, file):
    clone("train")
    (clone.root / file).write_text("# other\n")
    (clone.root / ".venv/leftover").touch()
    clone("train")
    assert not (clone.root / ".venv/leftover").exists()


@pytest.mark.parametrize("before", [(), ("train",)])
def test_a_set_up_that_did_not_end_does_not_count(clone, before):
    for command in before:
        clone(command)
    (clone.root / "broken").touch()
    status, _, errors = clone("test", "tests/x")
    assert status == 1 and "Run this again" in errors
    (clone.root / "broken").unlink()
    clone.calls()
    assert clone("test", "tests/x")[0] == 7
    assert len(clone.calls()) == 3  # from nothing


def test_two_launchers_at_once_make_one_environment(clone):
    both = [clone.start("train"), clone.start("evaluate")]
    assert [process.wait(60) for process in both] == [7, 7]
    assert sum("venv" in call for call in clone.calls()) == 1


@pytest.mark.parametrize(
    "command, version, needed",
    [("train", "3.10", "3.11 3.12 3.13"), ("train", "3.14", "3.13"), ("test", "3.12", "3.11")],
)
def test_other_pythons_are_refused_by_name(tmp_path, command, version, needed):
    arguments = [command, "--stack=addons"] if command == "test" else [command]
    status, _, errors = Clone(tmp_path, version)(*arguments)
    assert status == 1 and f"python3 is {version}" in errors and needed in errors


def test_an_active_environment_with_robust_tf_is_used(tmp_path):
    active = Clone(tmp_path, active="true")
    status, output, errors = active("train", VIRTUAL_ENV="/somewhere")
    assert (status, output, errors) == (7, "bin/train\n", "")
    assert active.calls() == ["-P -m robust_tf.cli.train"]


def test_signals_reach_the_command(clone):
    clone("train")
    clone.calls()
    process = clone.start("train", "sleep")
    while not (clone.root / "calls").exists():  # until the command runs
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 3


def test_the_clones_code_comes_first(clone):
    clone.python.write_text(clone.python.read_text().replace('"$ROBUST_TF_PROG"', '"$PYTHONPATH"'))
    assert clone("train", PYTHONPATH="other")[1] == f"{clone.root}:other\n"
