"""Markdown tables of studies, and those that a document takes from `results/*.json`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from robust_tf import files
from robust_tf.studies.summary import FORMAT

NONE = "–"
# <!-- table: results/digits.json --> ... <!-- end -->; 'claims:' and 'differences:' likewise.
_MARKED = re.compile(r"(<!-- (table|differences|claims): (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a `study.json`.

    Raises:
      FileError: it cannot be read. ValueError: it is not a study's, or of a later version.
    """
    return checked(os.fspath(path), files.read_json(path))


def checked(path: str, content: Any) -> dict[str, Any]:
    """The content of a `study.json`, if it is that.

    Raises:
      ValueError: it is not a study's, or of a later version; names the path.
    """
    if not is_study(content):
        raise ValueError(f"{path} is not the result of a study; bin/study writes them.")
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{path} has the format {content.get('format')!r}, this version reads {FORMAT}; run "
            "the study again."
        )
    return content


def is_study(content: Any) -> bool:
    """Whether it looks like the content of a `study.json`, of whatever version."""
    return isinstance(content, dict) and {"study", "rows", "columns"} <= set(content)


def table(content: Mapping[str, Any]) -> str:
    """The rows: percent, mean ± standard deviation over seeds, and the paper's number."""
    columns = list(content["columns"])
    papers = any(row["paper"] for row in content["rows"])
    watched = [guard] if any(guard(row) != NONE for row in content["rows"]) else []
    head = ["", *[_head(content, column) for column in columns], "minutes", "seconds an epoch"]
    head += ["guard"] * len(watched) + ["seeds"]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in content["rows"]:
        cells = [cell(row, column) for column in columns]
        if papers:
            cells = [
                f"{own} ({row['paper'][column]:g})" if column in row["paper"] else own
                for own, column in zip(cells, columns, strict=True)
            ]
        times = [NONE if time is None else f"{time:.1f}" for time in (minutes(row), epoch(row))]
        lines.append(_line([row["title"], *cells, *times, *[f(row) for f in watched], seeds(row)]))
    return "\n".join(lines)


def cell(row: Mapping[str, Any], column: str) -> str:
    """'95.13 ± 0.20', percent; '95.13' of one seed; a dash of none."""
    mean, std = row["mean"].get(column), row["std"].get(column)
    if mean is None:
        return NONE
    return f"{100 * mean:.2f}" + ("" if std is None else f" ± {100 * std:.2f}")


def seeds(row: Mapping[str, Any]) -> str:
    """The seeds that are done, and whether their network collapsed; what is not, by its state."""
    done = [
        seed + " (collapsed)" * bool(one.get("collapsed"))
        for seed, one in row["seeds"].items()
        if "accuracy" in one
    ]
    left = {one["state"] for one in row["seeds"].values() if "accuracy" not in one}
    parts = [", ".join(done), *sorted("not evaluated" if s == "done" else s for s in left)]
    return "; ".join(filter(None, parts))


def minutes(row: Mapping[str, Any]) -> float | None:
    """Of the training, mean over seeds; None where nothing tells it."""
    took = [s["training_seconds"] for s in row["seeds"].values() if "training_seconds" in s]
    return sum(took) / len(took) / 60 if took and not row["of"] else None


def epoch(row: Mapping[str, Any]) -> float | None:
    """Seconds of an epoch of the training, mean over seeds; None where nothing tells it."""
    trained = [s for s in row["seeds"].values() if "training_seconds" in s and s.get("epochs")]
    if not trained or row["of"]:
        return None
    return sum(s["training_seconds"] / s["epochs"] for s in trained) / len(trained)


def guard(row: Mapping[str, Any]) -> str:
    """What the guard against catastrophic overfitting found, and when; a dash where none watched.

    'epoch 3, step 240' is the first find of a seed; 'no (17 checks)'.
    """
    told = []
    for one in row["seeds"].values():
        if not row["of"] and one.get("guard"):
            found, checks = one["guard"]["found"], one["guard"]["checks"]
            first = found[0] if found else {}
            none = f"no ({checks} check{'s' * (checks != 1)})"
            told.append(f"epoch {first['epoch']}, step {first['step']:,}" if found else none)
    return "; ".join(dict.fromkeys(told)) or NONE


def differences(content: Mapping[str, Any]) -> str:
    """Paired differences in points: 95 % interval over images, and p of each seed."""
    head = ["", "column", "difference", "95 % interval", "p (McNemar), by seed", "images"]
    lines = [_line(head), _line(["---"] * len(head))]
    titles = {row["name"]: row["title"] for row in content["rows"]}
    for one in content["differences"]:
        interval = f"{100 * one['low']:+.2f} to {100 * one['high']:+.2f}"
        chances = ", ".join(f"{pair['p']:.2g}" for pair in one["seeds"].values())
        pair = f"{titles[one['row']]} − {titles[one['than']]}"
        mean, images = f"{100 * one['difference']:+.2f}", f"{one['examples']:,}"
        lines.append(_line([pair, one["column"], mean, interval, chances, images]))
    return "\n".join(lines)


def claims(content: Mapping[str, Any]) -> str:
    """Each claim with its verdict, the figures, and the rule."""
    head = ["claim", "verdict", "figures", "rule"]
    lines = [_line(head), _line(["---"] * len(head))]
    for one in content["claims"]:
        verdict = f"**{one['verdict']}**"
        lines.append(_line([one["text"], verdict, one["figures"] or NONE, one["rule"]]))
    return "\n".join(lines)


def plain(content: Mapping[str, Any]) -> str:
    """The table of a result file that is no study's: its `head` and its `lines`, as they stand."""
    head, lines = content["head"], content["lines"]
    return "\n".join(_line(cells) for cells in [head, ["---"] * len(head), *lines])


_KINDS = {"table": table, "differences": differences, "claims": claims}


def document(content: Mapping[str, Any]) -> str:
    """All that a study has found, as a Markdown page."""
    parts = [f"# {content['title']}", about(content), table(content), reading(content)]
    if content["claims"]:
        parts += ["## Claims", claims(content)]
    if content["differences"]:
        parts += ["## Paired differences", differences(content)]
    faults = [
        f"* {row['title']}, seed {seed}: {one['fault']}."
        for row in content["rows"]
        for seed, one in row["seeds"].items()
        if "fault" in one
    ]
    parts += ["## Not done", "\n".join(faults)] if faults else []
    commands = "\n".join(row["command"] for row in content["rows"] if not row["of"])
    parts += ["## The same runs one by one", f"```sh\n{commands}\n```"]
    return "\n\n".join(parts) + "\n"


def about(content: Mapping[str, Any]) -> str:
    """Where it comes from, and under which budget."""
    changes = content["changes"]
    added = (
        f", on top of each row: {', '.join(changes)}" if changes else ", the recipes as they are"
    )
    texts = [f"Source: {content['source']}." if content["source"] else "", content["notes"]]
    texts += [f"Budget '{content['budget']}'{added}."]
    made = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    return " ".join(filter(None, [*texts, f"Written on {content['device']}; {made}."]))


def reading(content: Mapping[str, Any]) -> str:
    """How the table is read."""
    papers = any(row["paper"] for row in content["rows"])
    text = "Percent of the test images, mean ± standard deviation over seeds (one seed: no ±)."
    text += " In brackets the paper's number." if papers else ""
    text += " Minutes and seconds are those of the training, mean over seeds."
    if any(guard(row) != NONE for row in content["rows"]):
        text += " Guard: where it first found catastrophic overfitting or divergence."
    return text


def rewrite(path: str | os.PathLike[str], write: bool = True) -> bool:
    """Puts the tables of `results/*.json` between the marks of a Markdown document.

    A table stands between `<!-- table: results/NAME.json -->` and `<!-- end -->`; `differences:`
    and `claims:` in place of `table:` give those. A file with `head`, a list of titles, and
    `lines`, lists of cells, gives the table as it stands. Paths are relative to the document.

    Args:
      path: of the document.
      write: False: only looks.

    Returns:
      Whether the document was, or would be, changed.

    Raises:
      FileError, ValueError: a file that is missing or is not a study's; a mark without an end.
    """
    text, folder = files.read_text(path), os.path.dirname(os.fspath(path))
    begun = len(re.findall(r"^<!-- (?:table|differences|claims): ", text, re.M))
    if begun != len(_MARKED.findall(text)):
        raise ValueError(f"{os.fspath(path)}: a table's mark has no <!-- end --> after it.")

    def made(found: re.Match[str]) -> str:
        path = os.path.join(folder, found[3])
        content = files.read_json(path)
        stands = isinstance(content, dict) and {"head", "lines"} <= set(content)
        own = plain(content) if stands and found[2] == "table" else _KINDS[found[2]](read(path))
        return f"{found[1]}\n{own}\n\n{found[4]}"

    after = _MARKED.sub(made, text)
    if write and after != text:
        files.write_text(path, after)
    return after != text


def _head(content: Mapping[str, Any], column: str) -> str:
    examples = content["columns"][column]["examples"]
    most = max((one["examples"] or 0 for one in content["columns"].values()), default=0)
    return column if not examples or examples == most else f"{column} ({examples:,} images)"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"
