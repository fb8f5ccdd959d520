"""The state of an evaluation on disk, from which it continues; adversarial images; shards."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import time
import urllib.parse
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import files
from robust_tf.evaluation import checks
from robust_tf.evaluation.results import Evaluation, Outcome


class EvaluationState:
    """Finished pieces of an evaluation, each a piece of JSON under a key, in one file.

    Args:
      path: of the file; None keeps nothing. A file of the same evaluation is continued.
      images: folder for the adversarial images, or None. See `load_adversarial`.
      source: what the model was loaded from, where that is known.

    Raises:
      FileError: a path that cannot be written.
    """

    def __init__(
        self, path: str | None = None, images: str | None = None, source: str | None = None
    ):
        self.path, self.images, self.source = path, images, source
        self._identity: Any = None
        self._pieces: dict[str, Any] = {}
        self._written = 0.0
        if path:
            files.check_writable(path)
        if images:
            files.check_writable(os.path.join(images, "part.npz"))

    def open(self, identity: dict[str, Any]) -> int:
        """Reads what is there; the number of pieces found.

        Raises:
          FileError: the file is damaged.
          ValueError: the file, or the folder for images, belongs to another evaluation.
        """
        identity = {**identity, "source": self.source, "images": self.images}
        identity = json.loads(json.dumps(identity))  # as it is read: lists where there were tuples
        self._identity, self._pieces = identity, {}
        found = self._read()
        if not found and self.images and tf.io.gfile.glob(os.path.join(self.images, "*/*.npz")):
            raise ValueError(
                f"{self.images} holds the images of another evaluation; choose an empty folder."
            )
        return found

    def _read(self) -> int:
        identity = self._identity
        if not self.path or not files.exists(self.path):
            return 0
        found = _read_record(self.path)
        changed = sorted(
            name
            for name in {*identity, *found["identity"]}
            if identity.get(name) != found["identity"].get(name)
        )
        if changed:
            raise ValueError(
                f"{self.path} holds an unfinished evaluation that differs in {', '.join(changed)}; "
                "delete it, or choose another output."
            )
        self._pieces = found["pieces"]
        return len(self._pieces)

    def begun_with(self, name: str) -> Any:
        """A setting of the unfinished evaluation in the file, None where there is none.

        Raises:
          FileError: the file is damaged.
          ValueError: it is another.
        """
        there = self.path and files.exists(self.path)
        return _read_record(str(self.path))["identity"].get(name) if there else None

    def get(self, key: str) -> Any:
        """The piece of this key, or None."""
        return self._pieces.get(key)

    def put(self, key: str, piece: Any) -> None:
        """Keeps a piece; the file is written every few seconds."""
        self._pieces[key] = piece
        if time.monotonic() - self._written > 5:
            self.save()

    def save(self) -> None:
        """Writes all pieces, whole or not at all."""
        if self.path and self._identity is not None:
            files.write_json(self.path, {"identity": self._identity, "pieces": self._pieces})
        self._written = time.monotonic()

    def close(self) -> None:
        """Deletes the file: the evaluation has a result."""
        if self.path:
            files.remove(self.path)

    def save_images(self, attack: str, key: str, numbers: np.ndarray, x_adv: np.ndarray) -> None:
        """Writes adversarial images (n, ...) of the examples with these numbers."""
        if not self.images or not len(numbers):
            return
        path = os.path.join(self.images, _file_name(attack), f"{key}-{numbers[0]:08d}.npz")
        content = io.BytesIO()
        np.savez_compressed(content, numbers=numbers, images=x_adv)
        with files.atomic(path) as temporary, tf.io.gfile.GFile(temporary, "wb") as file:
            file.write(content.getvalue())


def _read_record(path: str) -> dict[str, Any]:
    """'identity' and 'pieces' of an evaluation that was interrupted.

    Raises:
      FileError: the file is damaged.
      ValueError: it is another.
    """
    try:
        found = files.read_json(path)
    except files.FileError as error:
        raise files.FileError(f"{error} Delete it, and the evaluation begins anew.") from error
    parts = ("identity", "pieces")
    if not isinstance(found, dict) or not all(isinstance(found.get(p), dict) for p in parts):
        raise ValueError(f"{path} is not the state of an evaluation; delete it.")
    return found


def load_adversarial(folder: str | os.PathLike[str], attack: str) -> tuple[np.ndarray, np.ndarray]:
    """The adversarial images that an evaluation wrote, to the bit.

    Args:
      folder: that was given to the evaluation.
      attack: name of the attack in its result.

    Returns:
      numbers int32 (n,), rising, and images float32 (n, ...): of each example that was classified
      correctly, the adversarial image, or where there is none the last one tried.

    Raises:
      FileError: nothing of this attack is there.
    """
    place = os.path.join(os.fspath(folder), _file_name(attack))
    paths = sorted(tf.io.gfile.glob(os.path.join(place, "*.npz")))
    paths = [path for path in paths if not files.is_leftover(path)]
    if not paths:
        raise files.FileError(f"there are no adversarial images of {attack!r} in {folder}.")
    numbers, images = [], []
    for path in paths:
        part = _read_images(path)
        numbers.append(part["numbers"])
        images.append(part["images"])
    # Of an example that was attacked again in float32, the later image counts.
    last = dict(zip(np.concatenate(numbers).tolist(), np.concatenate(images), strict=True))
    order = sorted(last)
    return np.array(order, np.int32), np.stack([last[number] for number in order])


def _read_images(path: str) -> dict[str, np.ndarray]:
    """The arrays in a file of `save_images`, whose format has checksums.

    Raises:
      FileError: it is damaged.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            part = np.load(io.BytesIO(file.read()), allow_pickle=False)
            found = {name: part[name] for name in ("numbers", "images")}
        if len(found["numbers"]) != len(found["images"]):
            raise ValueError("there are not as many numbers as images")
    except (OSError, tf.errors.OpError, zipfile.BadZipFile, zlib.error) as error:
        raise files.FileError(f"cannot read {path}: {files.reason(error)}.") from error
    except Exception as error:  # NumPy raises of every kind for a damaged file
        raise files.FileError(
            f"{path} is damaged ({files.reason(error)}): delete it and evaluate again."
        ) from error
    return found


def _file_name(attack: str) -> str:
    """An attack's name as a folder's; other attacks have others."""
    return urllib.parse.quote(attack, safe=" =.,+-_()")


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
        joined = np.zeros(total, pieces[0].dtype)
        for k, piece in enumerate(pieces):
            joined[k::count] = piece
        return joined

    outcomes = {}
    for name in parts[0].outcomes:
        pieces = [part.outcomes[name] for part in parts]
        rounded = [piece.eight_bits for piece in pieces if piece.eight_bits is not None]
        alone = [piece.alone for piece in pieces if piece.alone is not None]
        distance = [piece.distance for piece in pieces if piece.distance is not None]
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
            whole(alone) if alone else None,
            whole(distance) if distance else None,
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
    if collapsed := found.pop("collapsed", None):  # of the whole, if every part predicts that class
        if all(collapsed in part.flags for part in parts):
            return [collapsed, *([found["weak_battery"]] if "weak_battery" in found else [])]
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
