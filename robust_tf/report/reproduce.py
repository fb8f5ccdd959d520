"""The section on repeating it: commands and versions."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence

import keras
import tensorflow as tf

from robust_tf.evaluation import reproduce_command
from robust_tf.report.blocks import Block, Cell, Code, Group, Row, Table, Text
from robust_tf.runs import Result, Run
from robust_tf.version import __version__


def reproduce(runs: Sequence[Run], command: str) -> list[Block]:
    """Commands for each run, and the versions behind its numbers and behind this page."""
    parts = []
    for k, run in enumerate(runs):
        lines = commands(run)
        code = Code("\n".join(lines), "commands")
        parts.append(Group([code], run.name, k, element="article"))
    here = {
        "robust_tf": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "python": platform.python_version(),
    }
    names = list(here)
    rows = []
    for k, run in enumerate(runs):
        told: object = run.versions
        rows.append(_versions(f"{run.name}, trained", told, names, k))
        for one in run.results:
            if one.file != "summary.json":
                told = one.evaluation.settings.get("versions")
                rows.append(_versions(f"{run.name}, {one.file}", told, names, k))
    rows.append(_versions("this report", here, names, None))
    text = (
        "config.gin is the operative configuration: it binds every value that was in force. "
        "bin/train gives the same bits on the same machine, versions and strategy; other machines "
        "differ by float rounding."
    )
    return [
        Text(text),
        *parts,
        Table("Versions behind the numbers", ["What", *names], rows, "versions"),
        Text("This page was made by:"),
        Code(command, "command of this report"),
    ]


def _versions(title: str, told: object, names: Sequence[str], k: int | None) -> Row:
    told = told if isinstance(told, dict) else {}
    return Row([title, *[Cell(str(told[n])) if n in told else Cell("–") for n in names]], k)


def commands(run: Run) -> list[str]:
    """What trains the run again into another folder, and evaluates it as its files say."""
    lines = []
    if run.configuration:
        config = shlex.quote(os.path.join(run.path, "config.gin"))
        again = shlex.quote(os.path.normpath(run.path) + "_again")
        lines.append(f"bin/train --gin_file={config} --run_dir={again}")
    for one in run.results:
        lines.append(_evaluate(one, run))
    return lines or ["# neither a configuration nor an evaluation is there"]


def _evaluate(one: Result, run: Run) -> str:
    """The command behind an evaluation, or that there is none."""
    if one.file == "summary.json":
        return (
            f"bin/evaluate --run_dir={shlex.quote(run.path)} --max_examples={len(one.evaluation)} "
            f"--draw={reproduce_command.draw_of(one.evaluation.settings)}"
        )
    found = reproduce_command.command(
        run.path,
        one.evaluation,
        one.data,
        one.inference,
        dataset=run.data.get("name"),
        imports=one.imports,
        output=os.path.join(run.path, f"again_{os.path.basename(one.file)}"),
    )
    return found or f"# {one.file}: {reproduce_command.UNSAID}"
