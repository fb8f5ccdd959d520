"""A study as one HTML page, in the style of the reports."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from robust_tf.report import page
from robust_tf.report.blocks import (
    Block,
    Cell,
    Code,
    Items,
    Row,
    Section,
    Table,
    Text,
    count,
    percent,
)
from robust_tf.studies import tables

GENERATOR = "robust_tf study"


def build(content: Mapping[str, Any]) -> str:
    """The page of a `study.json`.

    Raises:
      ValueError: Jinja is not installed.
    """
    sections = [
        Section("table", "Results", _results(content)),
        Section("claims", "Claims", _claims(content)),
        Section("differences", "Paired differences", _differences(content)),
        Section("seeds", "By seed", _by_seed(content)),
        Section("attacks", "Attacks", _attacks(content)),
        Section("repeat", "To repeat it", _repeat(content)),
    ]
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    shown = [section for section in sections if section.blocks]
    title = f"{content['title']}, budget '{content['budget']}'"
    return page.render(title, shown, made, generator=GENERATOR)


def _results(content: Mapping[str, Any]) -> list[Block]:
    columns = list(content["columns"])
    papers = [c for c in columns if any(c in row["paper"] for row in content["rows"])]
    heads = ["Row", *[f"{column}, %" for column in columns]]
    heads += [f"{column}, paper" for column in papers]
    heads += ["Minutes", "Seconds an epoch"]
    watched = any(tables.guard(row) != tables.NONE for row in content["rows"])
    heads += ["Guard"] * watched + ["Seeds"]
    rows = []
    for row in content["rows"]:
        cells: list[Any] = [row["title"]]
        cells += [Cell(tables.cell(row, c), _percent(row["mean"].get(c))) for c in columns]
        cells += [percent(_share(row["paper"].get(c))) for c in papers]
        cells += [
            Cell(tables.NONE) if time is None else Cell(f"{time:.1f}", time)
            for time in (tables.minutes(row), tables.epoch(row))
        ]
        rows.append(Row([*cells, *[tables.guard(row)] * watched, tables.seeds(row)]))
    caption = f"{content['title']}: mean and standard deviation over seeds"
    return [
        Text(tables.about(content)),
        Table(caption, heads, rows, "results"),
        Text(tables.reading(content), "hint"),
    ]


def _claims(content: Mapping[str, Any]) -> list[Block]:
    heads = ["Claim", "Verdict", "Figures", "Rule, fixed before the runs"]
    keys = ("text", "verdict", "figures", "rule")
    rows = [Row([one[key] for key in keys]) for one in content["claims"]]
    if not rows:
        return []
    return [
        Table("Claims and their verdicts", heads, rows, "claims-table"),
        Text("A claim is open while a seed is missing, and where seeds disagree.", "hint"),
    ]


def _differences(content: Mapping[str, Any]) -> list[Block]:
    titles = {row["name"]: row["title"] for row in content["rows"]}
    heads = "Rows|Column|Seed|Points|95 % interval|Only the first|Only the second|p|Images"
    rows = []
    for one in content["differences"]:
        pair = f"{titles[one['row']]} − {titles[one['than']]}"
        parts = {"mean": one, **one["seeds"]}
        for seed, part in parts.items() if len(one["seeds"]) > 1 else one["seeds"].items():
            alone = part.get("only_first"), part.get("only_second")
            chance = part.get("p")
            rows.append(
                Row(
                    [
                        pair,
                        one["column"],
                        seed,
                        Cell(f"{100 * part['difference']:+.2f}", 100 * part["difference"]),
                        Cell(f"{100 * part['low']:+.2f} to {100 * part['high']:+.2f}"),
                        *map(count, alone),
                        Cell(tables.NONE) if chance is None else Cell(f"{chance:.3g}", chance),
                        count(part["examples"]),
                    ]
                )
            )
    if not rows:
        return []
    text = (
        "Differences of two rows on the same test images. The interval is a bootstrap over images, "
        "p the exact McNemar test; neither speaks of other seeds, of which the rows above tell."
    )
    return [Table("Paired differences", heads.split("|"), rows, "pairs"), Text(text, "hint")]


def _by_seed(content: Mapping[str, Any]) -> list[Block]:
    columns = list(content["columns"])
    rows, faults = [], []
    for row in content["rows"]:
        for seed, one in row["seeds"].items():
            values = one.get("accuracy", {})
            about = [one["state"], one.get("precision"), ", ".join(one.get("attacks_in", []))]
            cells = [percent(values.get(column)) for column in columns]
            rows.append(Row([row["title"], seed, *cells, *about]))
            if "fault" in one:
                faults.append(f"{row['title']}, seed {seed}: {one['fault']}.")
    heads = ["Row", "Seed", *[f"{column}, %" for column in columns]]
    heads += ["State", "Trained in", "Attacked in"]
    missing: list[Block] = [Items(faults)] if faults else []
    return [*missing, Table("Each seed", heads, rows, "each")]


def _attacks(content: Mapping[str, Any]) -> list[Block]:
    rows = [
        Row([column, one["attack"], count(one["examples"])])
        for column, one in content["columns"].items()
    ]
    return [
        Table("Columns, their attacks and images", ["Column", "Attack", "Images"], rows, "what")
    ]


def _repeat(content: Mapping[str, Any]) -> list[Block]:
    seeds = ",".join(map(str, content["seeds"]))
    study = f"bin/study --gin_file={content['study']} --budget={content['budget']} --seeds={seeds}"
    commands = "\n".join(row["command"] for row in content["rows"] if not row["of"])
    return [
        Code(study, "command of the study"),
        Text("The same runs one by one, of the first seed:"),
        Code(commands, "commands of the rows"),
    ]


def _share(value: float | None) -> float | None:
    return None if value is None else value / 100


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
