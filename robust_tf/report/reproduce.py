"""The section on repeating it: commands and versions."""

from __future__ import annotations

import dataclasses
import os
import platform
import shlex
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from robust_tf.attacks import PGD, Attack, MultiTargeted, ProjectedGradient
from robust_tf.evaluation.describe import eps_of, norm_of
from robust_tf.report.markup import Html, join, tag
from robust_tf.report.measured import Measured
from robust_tf.report.runs import Run
from robust_tf.report.tables import Cell, Row, table
from robust_tf.version import __version__


def reproduce(runs: Sequence[Run], command: str) -> Html:
    """Commands for each run, and the versions behind its numbers and behind this page."""
    parts = []
    for k, run in enumerate(runs):
        lines = commands(run)
        code = tag(
            "pre", tag("code", "\n".join(lines)), tabindex="0", aria_label="commands", class_="wrap"
        )
        parts.append(tag("article", tag("h3", run.name), code, data_run=k))
    here = {
        "robust_tf": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "python": platform.python_version(),
    }
    names = list(here)
    rows = []
    for k, run in enumerate(runs):
        told = run.summary.get("versions")
        rows.append(_versions(f"{run.name}, trained", told, names, k))
        for one in run.measured:
            if one.file != "summary.json":
                told = one.evaluation.settings.get("versions")
                rows.append(_versions(f"{run.name}, {one.file}", told, names, k))
    rows.append(_versions("this report", here, names, None))
    text = (
        "config.gin is the operative configuration: it binds every value that was in force. "
        "bin/train gives the same bits on the same machine, versions and strategy; other machines "
        "differ by float rounding."
    )
    return join(
        tag("p", text),
        parts,
        table("Versions behind the numbers", ["What", *names], rows, "versions"),
        tag("p", "This page was made by:"),
        tag(
            "pre",
            tag("code", command),
            tabindex="0",
            aria_label="command of this report",
            class_="wrap",
        ),
    )


def _versions(title: str, told: object, names: Sequence[str], k: int | None) -> Row:
    told = told if isinstance(told, dict) else {}
    return Row([title, *[Cell(str(told[n])) if n in told else Cell("–") for n in names]], k)


def commands(run: Run) -> list[str]:
    """What trains the run again into another folder, and evaluates it as its files say."""
    folder = shlex.quote(run.path)
    lines = []
    if run.config:
        config = shlex.quote(os.path.join(run.path, "config.gin"))
        again = shlex.quote(os.path.normpath(run.path) + "_again")
        lines.append(f"bin/train --gin_file={config} --run_dir={again}")
    for one in run.measured:
        line = _evaluate(one, run.path, folder)
        lines.append(line or f"# {one.file}: an attack in it cannot be written as text")
    return lines or ["# neither a configuration nor an evaluation is there"]


def _evaluate(one: Measured, path: str, folder: str) -> str | None:
    """The command behind an evaluation; None where its attacks have no text."""
    line = f"bin/evaluate --run_dir={folder}"
    if one.file == "summary.json":
        return f"{line} --max_examples={len(one.evaluation)}"
    settings = one.evaluation.settings
    if one.inference:
        line += f" --inference={one.inference.get('kind')}"
        names = [a for a in one.attacks if a.name.startswith("oblivious: ")]
    else:
        names = one.attacks
    if any(a.attack is None for a in names):
        return None
    texts = [as_text(a.attack) for a in names if a.attack is not None]
    if any("object at 0x" in text or "<" in text for text in texts):
        return None
    line += f" --attacks={_quoted('; '.join(dict.fromkeys(texts)))}"
    plain = (("max_examples", len(one.evaluation)), ("seed", settings.get("seed", 0)))
    line += "".join(f" --{name}={value}" for name, value in plain)
    if settings.get("search_dtype"):
        line += f" --search_dtype={settings['search_dtype']}"
    if settings.get("eight_bits"):
        line += " --eight_bits"
    if isinstance(settings.get("shard"), (list, tuple)):
        line += f" --shard={'/'.join(map(str, settings['shard']))}"
    if one.data.get("split", "test") != "test":
        line += f" --split={one.data['split']}"
    return f"{line} --output={shlex.quote(os.path.join(path, 'again_' + one.file))}"


def as_text(attack: Attack) -> str:
    """The attack as `bin/evaluate --attacks` takes it; short where it is a usual PGD."""
    if isinstance(attack, MultiTargeted):
        return f"MultiTargeted({as_text(attack.attack)}{', logits=True' * attack.logits})"
    if isinstance(attack, ProjectedGradient) and eps_of(attack) is not None:
        eps, size = attack.threat.eps, getattr(attack.step, "step_size", None)
        if size is not None and norm_of(attack) == "Linf":
            if attack == PGD(eps=eps, step_size=size, steps=attack.steps):
                return f"PGD(eps={_value(eps)}, step_size={_value(size)}, steps={attack.steps})"
    return _short(attack)


def _short(value: Any) -> str:
    """`repr` without what is as by default, of an attack and of its parts."""
    if not dataclasses.is_dataclass(value):
        return repr(value)
    said = []
    for field in dataclasses.fields(value):
        own = getattr(value, field.name)
        if own != field.default:
            said.append(f"{field.name}={_short(own)}")
    return f"{type(value).__name__}({', '.join(said)})"


def _quoted(text: str) -> str:
    """In double quotes where that is enough, since attacks hold single ones."""
    return shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'


def _value(value: float) -> str:
    """'0.3', or '8/255' where it is exactly that."""
    pixels = round(255 * value)
    return f"{pixels}/255" if pixels / 255 == value and 0 < pixels < 255 else repr(value)
