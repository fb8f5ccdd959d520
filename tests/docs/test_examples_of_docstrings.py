"""Examples in docstrings run: what stands behind `>>>`, and indented blocks that are Python."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import robust_tf
from robust_tf import attacks, methods, recipes
from tests.docs import commands, example_folder, small
from tests.docs.pages import CLONE

pytest.importorskip("sphinx", reason="docs/docstrings.py needs it")
_SPEC = importlib.util.spec_from_file_location("docstrings", CLONE / "docs" / "docstrings.py")
docstrings = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(docstrings)


def examples(docstring: str) -> tuple[str, str]:
    """What of a docstring is Python to be run, and what is gin."""
    python = [one.source for one in doctest.DocTestParser().get_examples(docstring)]
    gin = []
    for block, kind in docstrings.parts(docstring.splitlines()):
        text = "\n".join(line[4:] for line in block) + "\n"
        if kind == "code" and re.match(r"[\w./]+ = @\w", text):
            gin.append(text)
        elif kind == "code" and calls_something(text):
            python.append(text)
    return "".join(python), "".join(gin)


def calls_something(text: str) -> bool:
    """Whether a block is Python, and no formula."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return False
    return any(isinstance(node, (ast.Call, ast.Import, ast.ImportFrom)) for node in ast.walk(tree))


def found() -> dict[str, tuple[str, str, str]]:
    """Module, Python and gin of each docstring that has any, by its place."""
    result = {}
    for path in sorted((CLONE / "robust_tf").rglob("*.py")):
        parts = path.relative_to(CLONE).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                python, gin = examples(ast.get_docstring(node) or "")
                if python or gin:
                    result[f"{module}:{getattr(node, 'name', '')}"] = (module, python, gin)
    return result


FOUND = found()


def names() -> dict:
    """What an example may name beside its module's own: the packages, a model, images."""
    digits = robust_tf.data.load("digits")
    x, y = digits.train.images[:64].astype("float32") / 255, digits.train.labels[:64]
    layers = [keras.layers.Flatten(), keras.layers.Dense(10)]
    source = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    model = methods.AdversarialTraining(source, attacks.FGSMRS(0.1))
    model.compile("adam")
    packages = {name: getattr(robust_tf, name) for name in robust_tf.__all__}
    packages |= {name: getattr(attacks, name) for name in attacks.__all__}
    packages |= {"robust_tf": robust_tf, "keras": keras, "np": np, "tf": tf}
    arrays = {"x": x, "y": y, "x_val": x, "y_val": y, "x_test": x[:4], "y_test": y[:4]}
    return {**packages, **arrays, "model": model, "source": source, "digits": digits}


def test_there_are_some():
    assert {"robust_tf:", "robust_tf.recipes:", "robust_tf.models.cutting:split"} <= set(FOUND)


@pytest.mark.parametrize("place", FOUND)
def test_docstring(place, tmp_path, monkeypatch):
    module, python, gin = FOUND[place]
    example_folder.prepare(tmp_path, monkeypatch)
    (tmp_path / "example.gin").write_text(gin)
    recipes.parse(["example.gin"])
    for name in re.findall(r"\w+\.pt\b", python):
        small.write_checkpoint(name, "WideResNet(depth=10, width=1)")
    for name in re.findall(r"read_run\(\"(runs/\w+)\"\)", python):
        assert commands.run(["bin/train", f"--gin_file=gin/{name[5:]}.gin"]) == 0
    with example_folder.own_modules():
        code = compile(small.narrow(python), place, "exec")
        own = importlib.import_module(module)
        exec(code, {**names(), module.rpartition(".")[2]: own, **vars(own)})
