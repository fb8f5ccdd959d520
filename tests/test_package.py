"""`import robust_tf`: what it offers, how little it costs, and what a type checker sees."""

import inspect
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

import robust_tf

CLONE = Path(robust_tf.__file__).parent.parent
PACKAGES = (
    "attacks data evaluation export figures inference losses methods models recipes report runs"
    " studies training"
).split()
FUNCTIONS = ("evaluate", "load_model", "load_run")
USER = """
from typing import Any

import robust_tf
from robust_tf import attacks, methods

network: Any = None
attack = attacks.PGD(eps=8 / 255, step_size=2 / 255, steps=10)
model = methods.ADR(network, attack=attack)
trades = robust_tf.methods.TRADES(network, attack, beta=6.0)
accuracy: float = robust_tf.evaluate(model, None, [attack]).worst_case_accuracy
reveal_type(attack.steps)
reveal_type(trades)
"""
# Each line is wrong in one way, and the error must name it.
MISTAKES = {
    "attacks.PGD(eps='x', step_size=0.1, steps=1)": 'Argument "eps" to "PGD"',
    "attacks.PGD(eps=0.1, stepsize=0.1, steps=1)": '"stepsize" for "PGD"',
    "methods.ADR(network, attack='PGD')": 'Argument "attack" to "ADR"',
    "methods.ADR(network, attack=attack, smoothnes=1.0)": '"smoothnes" for "ADR"',
    "robust_tf.atacks": 'Module has no attribute "atacks"',
}


def python(*arguments):
    """Runs Python on this clone as a user does from another folder."""
    path = os.pathsep.join([str(CLONE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_bare_import_takes_no_tensorflow():
    code = "import robust_tf, sys; dir(robust_tf); robust_tf.__version__; print(*sys.modules)"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert not {"tensorflow", "keras", "numpy", "gin"} & set(done.stdout.split())


def test_names_are_listed_before_anything_is_loaded():
    done = python("-c", "import robust_tf; print(*dir(robust_tf))")
    assert {*PACKAGES, *FUNCTIONS, "__version__"} <= set(done.stdout.split())


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_are_attributes(name):
    assert inspect.ismodule(getattr(robust_tf, name))
    assert getattr(robust_tf, name).__doc__


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_attributes(name):
    assert callable(getattr(robust_tf, name))
    assert inspect.getdoc(getattr(robust_tf, name))


def test_everything_listed_is_there():
    assert all(hasattr(robust_tf, name) for name in dir(robust_tf))
    with pytest.raises(AttributeError, match="'robust_tf' has no attribute 'atacks'"):
        _ = robust_tf.atacks


def test_types_are_declared():
    assert (resources.files("robust_tf") / "py.typed").is_file()


def test_a_type_checker_sees_attacks_and_methods(tmp_path):
    pytest.importorskip("mypy")
    file = tmp_path / "users_own.py"
    file.write_text(USER + "\n".join(MISTAKES) + "\n")
    first = USER.count("\n") + 1
    cache = tmp_path / "cache"
    settings = str(CLONE / "pyproject.toml")
    done = python("-m", "mypy", "--config-file", settings, "--cache-dir", str(cache), str(file))
    lines = done.stdout.splitlines()
    errors = [line for line in lines if "error:" in line]
    assert len(errors) == len(MISTAKES), done.stdout + done.stderr
    for k, message in enumerate(MISTAKES.values()):
        assert f"users_own.py:{first + k}: error:" in errors[k] and message in errors[k]
    revealed = [line.split('"')[1] for line in lines if "Revealed type" in line]
    assert revealed[0] in ("int", "builtins.int")  # by mypy's version
    assert revealed[1:] == ["robust_tf.methods.trades.TRADES"]
