"""Puts the parts of an evaluation together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from robust_tf.evaluation import checks
from robust_tf.evaluation.results import Evaluation, Outcome


def merge(parts: Sequence[Evaluation]) -> Evaluation:
    """The evaluation of the whole from those of its shards 1/n to n/n, in any order.

    Verdicts are those of one run over everything, seconds and passes are summed. Signs of masking
    in the verdicts are looked for anew; those that any part found in the model are kept.

    Raises:
      ValueError: a shard is missing, there twice, or of another evaluation.
    """
    if not parts:
        raise ValueError("there is nothing to merge.")
    shards = [part.settings.get("shard") for part in parts]
    if any(shard is None for shard in shards):
        raise ValueError("one of the parts is not a shard: it was made without --shard=i/n.")
    count = parts[0].settings["shard"][1]
    found = sorted(tuple(shard) for shard in shards)  # type: ignore[arg-type]
    if found != [(k + 1, count) for k in range(count)]:
        listed = ", ".join(f"{part}/{of}" for part, of in found)
        raise ValueError(f"the parts are {listed}; expected each of 1/{count} to {count}/{count}.")
    parts = sorted(parts, key=lambda part: part.settings["shard"][0])
    first = _comparable(parts[0])
    for part in parts[1:]:
        other = _comparable(part)
        changed = sorted(k for k in {*first, *other} if first.get(k) != other.get(k))
        if changed:
            raise ValueError(f"the parts differ in {', '.join(changed)}: not of one evaluation.")
    total = sum(len(part) for part in parts)

    def whole(pieces: Sequence[np.ndarray]) -> np.ndarray:
        joined = np.zeros(total, bool)
        for k, piece in enumerate(pieces):
            joined[k::count] = piece
        return joined

    outcomes = {}
    for name in parts[0].outcomes:
        pieces = [part.outcomes[name] for part in parts]
        rounded = [piece.eight_bits for piece in pieces if piece.eight_bits is not None]
        details = dict(pieces[0].details)
        for key in ("stages", "float32_sample"):
            if key in details:
                details[key] = _summed([piece.details[key] for piece in pieces])
        outcomes[name] = Outcome(
            whole([piece.robust for piece in pieces]),
            sum(piece.seconds for piece in pieces),
            sum(piece.forwards for piece in pieces),
            sum(piece.gradients for piece in pieces),
            details,
            whole(rounded) if rounded else None,
            {s: whole([piece.stages[s] for piece in pieces]) for s in pieces[0].stages},
        )
    settings = {**parts[0].settings, "shard": None}
    merged = Evaluation(whole([part.natural for part in parts]), outcomes, settings)
    return dataclasses.replace(merged, flags=_flags(parts, merged))


def _flags(parts: Sequence[Evaluation], merged: Evaluation) -> list[dict[str, Any]]:
    """What one run over the whole would say, as far as the parts can know, in its order."""
    if not merged.settings.get("checks"):
        return []
    found: dict[str, dict[str, Any]] = {}
    for flag in (flag for part in parts for flag in part.flags):
        if flag["name"] not in checks.REVIEWED:
            found.setdefault(flag["name"], flag)
    weak = found.pop("weak_battery", None)  # of the attacks, which all parts share; it comes last
    reviewed = [dataclasses.asdict(flag) for flag in merged.review()]
    return [*found.values(), *reviewed, *([weak] if weak else [])]


def _comparable(part: Evaluation) -> dict[str, object]:
    """What the parts of one evaluation have in common."""
    return {name: value for name, value in part.settings.items() if name != "shard"}


def _summed(pieces: Sequence[dict]) -> dict:
    """Counts of the parts, added up."""
    return {key: sum(piece[key] for piece in pieces) for key in pieces[0]}


def parse_shard(text: str) -> tuple[int, int]:
    """(i, n) from 'i/n'.

    Raises:
      ValueError: it is not of that form.
    """
    part, slash, parts = text.partition("/")
    if not (slash and part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise ValueError(f"shard {text!r}: must be i/n with 1 <= i <= n, e.g. 1/4.")
    return int(part), int(parts)
