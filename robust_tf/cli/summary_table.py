"""Accuracies of trained runs side by side: of several methods, and over several seeds."""

from __future__ import annotations

from typing import Any


def comparison(rows: dict[str, dict[str, Any]]) -> str:
    """A table of summaries, one row for each method."""
    return _table({title: [row] for title, row in rows.items()}, "")


def over_seeds(rows: dict[str, list[dict[str, Any]]]) -> str:
    """A table of summaries of several seeds: mean and standard deviation (n - 1)."""
    count = len(next(iter(rows.values())))
    return _table(rows, f", mean ± standard deviation over {count} seeds")


def _table(rows: dict[str, list[dict[str, Any]]], what: str) -> str:
    import numpy as np

    first = next(iter(rows.values()))[0]
    count = first["evaluation"]["examples"]
    columns = ["natural", *first["robust_accuracy"], "worst case"]
    width = 15 if what else 9
    lines = [f"\naccuracy on {count} test images, %{what}"]
    lines.append(f"{'':24}" + "".join(f"{name:>{max(len(name), width) + 2}}" for name in columns))
    for title, own in rows.items():
        values = [
            [100 * row["natural_accuracy"] for row in own],
            *[[100 * row["robust_accuracy"][name] for row in own] for name in columns[1:-1]],
            [100 * row["worst_case"] for row in own],
        ]
        cells = ""
        for name, column in zip(columns, values, strict=True):
            text = f"{np.mean(column):.2f}"
            text += f" ± {np.std(column, ddof=1):.2f}" if len(column) > 1 else ""
            cells += f"{text:>{max(len(name), width) + 2}}"
        lines.append(f"{title:24}{cells}")
    return "\n".join(lines)
