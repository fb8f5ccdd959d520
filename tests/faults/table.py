"""The table of RESULTS.md, from the counts in results/faults.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from robust_tf import files
from tests.faults.harness import CLONE

RESULTS, DOCUMENT = CLONE / "results" / "faults.json", CLONE / "RESULTS.md"
_MARKED = re.compile(r"(<!-- faults: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(content: Mapping[str, Any]) -> str:
    """A line for each case: tries, survived, and how."""
    lines = ["| fault | | tries | survived | how |", "| --- | --- | --- | --- | --- |"]
    for one in content["cases"]:
        how = "; ".join(f"{text}: {times}" for text, times in one["how"].items())
        cells = [one["group"], one["title"], one["tries"], one["survived"], how]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines)


def rewritten(text: str) -> str:
    """A document with the tables between its marks made anew."""

    def made(found: re.Match[str]) -> str:
        return f"{found[1]}\n{table(files.read_json(CLONE / found[2]))}\n\n{found[3]}"

    return _MARKED.sub(made, text)
