"""What an evaluation leaves on disk as it goes: verdicts to continue from, adversarial images."""

from __future__ import annotations

import io
import json
import os
import time
import urllib.parse
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import files


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
        found = files.read_json(self.path)
        if not isinstance(found, dict) or "pieces" not in found:
            raise ValueError(f"{self.path} is not the record of an evaluation; delete it.")
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

    def keep_images(self, attack: str, key: str, numbers: np.ndarray, x_adv: np.ndarray) -> None:
        """Writes adversarial images (n, ...) of the examples with these numbers."""
        if not self.images or not len(numbers):
            return
        path = os.path.join(self.images, _file_name(attack), f"{key}-{numbers[0]:08d}.npz")
        content = io.BytesIO()
        np.savez_compressed(content, numbers=numbers, images=x_adv)
        with files.atomic(path) as temporary, tf.io.gfile.GFile(temporary, "wb") as file:
            file.write(content.getvalue())


def load_adversarial(folder: str | os.PathLike[str], attack: str) -> tuple[np.ndarray, np.ndarray]:
    """The adversarial images that an evaluation wrote, to the bit.

    Args:
      folder: that was given to the evaluation.
      attack: name of the attack in its result.

    Returns:
      numbers int32 (n,), rising, and images float32 (n, ...): of each example that was classified
      correctly, the image that broke it, or else the last one tried.

    Raises:
      FileError: nothing of this attack is there.
    """
    place = os.path.join(os.fspath(folder), _file_name(attack))
    paths = sorted(tf.io.gfile.glob(os.path.join(place, "*.npz")))
    if not paths:
        raise files.FileError(f"there are no adversarial images of {attack!r} in {folder}.")
    numbers, images = [], []
    for path in paths:
        with tf.io.gfile.GFile(path, "rb") as file:
            part = np.load(io.BytesIO(file.read()), allow_pickle=False)
            numbers.append(part["numbers"])
            images.append(part["images"])
    # Of an example that was attacked again in float32, the later image counts.
    last = dict(zip(np.concatenate(numbers).tolist(), np.concatenate(images), strict=True))
    order = sorted(last)
    return np.array(order, np.int32), np.stack([last[number] for number in order])


def _file_name(attack: str) -> str:
    """An attack's name as a folder's; other attacks have others."""
    return urllib.parse.quote(attack, safe=" =.,+-_()")
