"""The results of a run in the model card: what they are of, and what gives them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BARE = ", of the network alone, without the transformation"
NOT_HERE = ", which this export does not hold"


def lines(results: Sequence[dict[str, Any]], defended: bool) -> list[str]:
    """Markdown.

    Args:
      results: see `provenance.of_run`.
      defended: whether the export is of a network behind its transformation.
    """
    said = ["", "## Results", ""]
    for result in results:
        radii = result["eps"]
        upto = f" up to eps {radii[-1]:g}" if len(radii) > 1 else ""
        said += [
            f"On {_images(result)} ({result['file']}{_behind(result, defended)}): natural "
            f"{percent(result['natural_accuracy'])}, worst case over all attacks{upto}, image by "
            f"image, **{percent(result['worst_case_accuracy'])}**.",
            "",
            "| attack | accuracy |",
            "|---|---|",
            *(f"| {k} | {percent(v)} |" for k, v in result["robust_accuracy"].items()),
            "",
            *(f"* {flag}" for flag in result["flags"]),
            *([""] if result["flags"] else []),
            "```sh",
            result["command"],
            "```",
            "",
        ]
    return said


def percent(value: float) -> str:
    """'93.40 %' of a share in [0, 1]."""
    return f"{100 * value:.2f} %"


def _images(result: dict[str, Any]) -> str:
    """What a result was measured on: '500 test images'; which, if of another split or data."""
    said = f"{result['examples']:,} {result.get('split', 'test')} images"
    said += f" of {result['dataset']}" if "dataset" in result else ""
    return said + (f", shard {'/'.join(map(str, result['shard']))}" if "shard" in result else "")


def _behind(result: dict[str, Any], defended: bool) -> str:
    """What stands before the network of a result, where that is not clear from the export."""
    inference = result.get("inference")
    if not inference:
        return BARE if defended else ""
    said = f", behind {inference.get('kind', 'a defence')}"
    for name in ("delta", "gate"):
        if inference.get(name):
            value = " to ".join(f"{v:.4g}" for v in np.ravel(inference[name]))
            said += f", {name} {value}"
    return said + ("" if defended else NOT_HERE)
