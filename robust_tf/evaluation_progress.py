"""How far an evaluation is and what is known of it so far, from its files, without TensorFlow.

While an evaluation runs, its record (`FILE.partial`) holds the verdicts of all batches that are
done; one that runs in shards has a folder (`FILE.shards`) with a record, or at the end a result,
for each. Of the verdicts so far follow bounds: an image that an attack has still to be run on may
turn out either way.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from typing import Any

import numpy as np

from robust_tf.ranges import from_ranges

PARTIAL, SHARDS, PLAN = ".partial", ".shards", "plan.json"


@dataclasses.dataclass(frozen=True, eq=False)
class AttackSoFar:
    """What one attack has done on the n images of a part.

    Attributes:
      robust: bool (n,), whether no adversarial image has been found yet; False where the clean
        image is misclassified.
      settled: bool (n,), whether the attack will not be run on the image any more.
      measures_distance: whether it looks for the nearest adversarial image, so that an adversarial
        one is no verdict.
      passes: stages of the attack times the images that each has been run on.
      passes_left: those that are left if it finds nothing more.
    """

    robust: np.ndarray
    settled: np.ndarray
    measures_distance: bool = False
    passes: int = 0
    passes_left: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class PartSoFar:
    """What is known of an evaluation, or of one shard of it.

    Attributes:
      size: its images.
      natural: bool (n,), whether the clean image is classified correctly; None: not known yet.
      attacks: by name, all that will be run.
      total: images of all shards; of `read`, of those that write one result.
      written: when its file was written, seconds since 1970.
      finished: whether that is its result.
    """

    size: int
    natural: np.ndarray | None
    attacks: dict[str, AttackSoFar]
    total: int
    written: float
    finished: bool = False


def shard_path(folder: str, index: int, count: int) -> str:
    """The result of shard index of count, 1 .. count, in a folder of shards."""
    return os.path.join(folder, f"{index}-of-{count}.json")


def read(output: str) -> dict[str, PartSoFar | None]:
    """All parts of the evaluation that writes `output`, by name; None: not begun.

    Raises:
      FileNotFoundError: there is nothing of it.
      ValueError: a file that is not what an evaluation keeps.
    """
    plan = _read_json(os.path.join(output + SHARDS, PLAN))
    if plan is not None:
        try:
            count, within = int(plan[0]["count"]), plan[0]["about"].get("shard") or (1, 1)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{output}{SHARDS} holds no plan of shards: {error!r}.") from error
        parts: dict[str, PartSoFar | None] = {}
        for k in range(1, count + 1):
            one = part(shard_path(output + SHARDS, k, count))
            if one is not None:  # the whole may itself be a shard
                one = dataclasses.replace(
                    one, total=len(range(within[0] - 1, one.total, within[1]))
                )
            parts[f"shard {k}/{count}"] = one
        return parts
    if found := part(output):
        return {"": dataclasses.replace(found, total=found.size)}
    raise FileNotFoundError(
        f"there is neither {output} nor a record of it, {output}{PARTIAL} or {output}{SHARDS}; "
        "give the --output of the evaluation."
    )


def part(path: str) -> PartSoFar | None:
    """What is known of the evaluation whose result is written to `path`; None: nothing.

    Raises:
      ValueError: a file that is not what an evaluation keeps.
    """
    # A record goes when the result is there, and beside an older result it is what runs now.
    for name, reader in ((path + PARTIAL, _of_record), (path, _of_result)):
        found = _read_json(name)
        if found is not None:
            try:
                return reader(*found)
            except (KeyError, TypeError, IndexError, AttributeError) as error:
                raise ValueError(f"{name} is not what an evaluation writes: {error!r}.") from error
    return None


def _read_json(path: str) -> tuple[Any, float] | None:
    """The content of a file and when it was written; None where there is no such file."""
    if "://" in path:  # a bucket
        import tensorflow as tf

        if not tf.io.gfile.exists(path):
            return None
        with tf.io.gfile.GFile(path) as file:
            return json.loads(file.read()), tf.io.gfile.stat(path).mtime_nsec / 1e9
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file), os.stat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error


def _of_result(content: Any, written: float) -> PartSoFar:
    value = content["evaluation"]
    size = value["examples"]
    natural, all_of_it = ~from_ranges(value["misclassified"], size), np.ones(size, bool)
    attacks = {}
    for name, one in value["attacks"].items():
        robust = natural & ~from_ranges(one["broken"], size)
        attacks[name] = AttackSoFar(robust, all_of_it, "distance" in one, int(natural.sum()))
    return PartSoFar(size, natural, attacks, value.get("total_examples", size), written, True)


def _of_record(content: Any, written: float) -> PartSoFar:
    about, pieces = content["identity"], content["pieces"]
    index, count = about.get("shard") or (1, 1)
    total = about["total_examples"]
    drawn = about.get("draw", {}).get("numbers", range(total))
    numbers = np.asarray(drawn)[index - 1 :: count]
    natural = None
    if "natural" in pieces:
        natural = np.zeros(len(numbers), bool)
        natural[pieces["natural"]] = True
    attacks = {name: _replayed(name, natural, numbers, about, pieces) for name in about["attacks"]}
    return PartSoFar(len(numbers), natural, attacks, total, written)


def _replayed(
    name: str,
    natural: np.ndarray | None,
    numbers: np.ndarray,
    about: dict[str, Any],
    pieces: dict[str, Any],
) -> AttackSoFar:
    """An attack as `evaluate` would go through it, as far as the pieces go."""
    if natural is None:
        nothing = np.zeros(len(numbers), bool)
        return AttackSoFar(~nothing, nothing, passes_left=len(numbers))
    stages = sum(one == name or one.startswith(f"{name}: ") for one in about["kinds"]) or 1
    robust, left, measures = natural.copy(), np.where(natural, stages, 0), False
    for stage in range(stages):
        size, still = about["batch_size"], np.flatnonzero(robust & (left == stages - stage))
        for batch in (still[begin : begin + size] for begin in range(0, len(still), size)):
            piece = pieces.get(f"{name}/{stage}/{batch[0]}")
            if piece is None:
                break
            left[batch] -= 1
            robust[batch[piece["broken"]]] = False
            measures |= "distances" in piece
    passes, through = int((stages - left)[natural].sum()), left == 0
    if about.get("search_dtype") == "bfloat16" and about["search_sample"]:
        # Some of those that are left are attacked again in float32, at the end.
        sampled = robust & (
            numbers % max(about["total_examples"] // about["search_sample"], 1) == 0
        )
        again = pieces.get(f"{name}/repeat")
        if again is None:
            through &= ~sampled
        else:
            lost = [position for stage in again for position in stage]
            robust[np.flatnonzero(sampled)[lost]] = False
    return AttackSoFar(robust, through | ~robust, measures, passes, int(left[robust].sum()))


def worst_case(found: PartSoFar) -> tuple[np.ndarray, np.ndarray] | None:
    """The images that are robust at least, and those that may be, each bool (n,).

    None where an attack measures distances, which count as far as the other attacks go.
    """
    attacks = found.attacks.values()
    if found.natural is None or any(one.measures_distance for one in attacks):
        return None
    most = np.logical_and.reduce([found.natural, *(one.robust for one in attacks)])
    return most & np.logical_and.reduce([one.settled for one in attacks]), most


def table(parts: dict[str, PartSoFar | None]) -> str:
    """How far all parts are, and the bounds on each accuracy, as text."""
    begun = [one for one in parts.values() if one is not None]
    known = [one for one in begun if one.natural is not None]
    lines = [f"{name}: {_state(one)}" for name, one in parts.items() if name]
    if not known:
        return "\n".join([*lines, "no image has been looked at yet."])
    total, seen = begun[0].total, sum(one.size for one in known)
    naturals = [one.natural for one in known if one.natural is not None]
    right = sum(int(one.sum()) for one in naturals)
    rows = [("natural", f"{seen:,}", _between(right, right + total - seen, total))]
    for name in known[0].attacks:
        own = [one.attacks[name] for one in known]
        done = sum(int(one.settled.sum()) for one in own)
        most = sum(int(one.robust.sum()) for one in own) + total - seen
        least = sum(int((one.robust & one.settled).sum()) for one in own)
        measures = any(one.measures_distance for one in own)
        rows.append((name, f"{done:,}", "" if measures else _between(least, most, total)))
    bounds = [one for one in map(worst_case, known) if one is not None]
    if len(bounds) == len(known):
        least, most = (sum(int(one[k].sum()) for one in bounds) for k in (0, 1))
        rows.append(("worst case", "", _between(least, most + total - seen, total)))
    head = ("", f"of {total:,} images", "accuracy")
    widths = [max(len(row[k]) for row in (head, *rows)) for k in range(2)]
    lines += [
        f"{row[0]:{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]}".rstrip() for row in (head, *rows)
    ]
    if all(one.finished for one in parts.values() if one) and len(begun) == len(parts):
        return "\n".join(lines)
    lines.append(
        "these are bounds: an image that an attack has still to be run on may turn out either way."
    )
    return "\n".join(lines)


def _between(least: int, most: int, total: int) -> str:
    low, high = (f"{100 * count / max(total, 1):.2f} %" for count in (least, most))
    return low if least == most else f"{low} to {high}"


def _state(one: PartSoFar | None) -> str:
    if one is None:
        return "not begun"
    if one.finished:
        return "done"
    passes = sum(attack.passes for attack in one.attacks.values())
    left = sum(attack.passes_left for attack in one.attacks.values())
    share = 100 * passes / max(passes + left, 1)
    return f"{share:.0f} %, record written {max(time.time() - one.written, 0):.0f} s ago"
