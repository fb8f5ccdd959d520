"""Black-box attacks: adversarial images made on another trained model, named by its path."""

from __future__ import annotations

import functools
import hashlib
import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from robust_tf import files, registration
from robust_tf.attacks import Attack, Transfer
from robust_tf.evaluation import loading
from robust_tf.evaluation.defended import image_shape_of


@registration.serializable
class SourceModel:
    """The model of a run folder or a model file, as the source of `Transfer`; images to logits.

    Result files hold its path, so that an attack can be built again from them. The model is loaded
    when it is first needed.

    Args:
      path: folder of a run, or what `loading.load_model` takes: a `.keras` file, the folder of a
        SavedModel, `package.module:name`.
    """

    def __init__(self, path: str):
        self.path = path

    @functools.cached_property
    def model(self) -> Callable[..., Any]:
        """The trained network.

        Raises:
          FileError: there is nothing, or a run that has no model yet. ValueError: not a model.
        """
        from robust_tf import runs  # which stands above this package

        imported = ":" in os.path.basename(self.path)
        if not imported and not files.exists(self.path):
            raise files.FileError(
                f"there is no source model {self.path}; give the folder of a run, or a .keras file."
            )
        saved = files.exists(os.path.join(self.path, "saved_model.pb"))
        if files.is_folder(self.path) and not saved:
            return runs.load_run(self.path)
        return loading.load_model(self.path)

    @property
    def image_shape(self) -> tuple[int | None, ...] | None:
        """Shape of one image, where the model states it."""
        return image_shape_of(self.model)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Logits (B, C) of images x, as at inference."""
        model = self.model
        return model(x, training=False) if isinstance(model, keras.layers.Layer) else model(x)

    def get_config(self) -> dict[str, Any]:
        """For result files."""
        return {"path": self.path}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SourceModel:
        """Inverse of `get_config`; reads nothing yet."""
        return source_model(config["path"])


_KNOWN: weakref.WeakValueDictionary[tuple[str, str], SourceModel]
_KNOWN = weakref.WeakValueDictionary()
# Of a run and of a SavedModel, what holds the weights.
_WEIGHTS = ("model.keras", "variables/variables.data-00000-of-00001")


def source_model(path: str | os.PathLike[str]) -> SourceModel:
    """The source of this path: one object as long as it is used and the weights are the same.

    Attacks on one object share what is compiled, and are equal if they are the same attack.
    """
    path = os.fspath(path)
    return _KNOWN.setdefault((path, _digest(path)), SourceModel(path))


def _digest(path: str) -> str:
    """Of the file that holds the weights, '' where there is none; times of files are too coarse."""
    for file in [*(os.path.join(path, name) for name in _WEIGHTS), path]:
        if files.exists(file) and not files.is_folder(file):
            with tf.io.gfile.GFile(file, "rb") as content:
                return hashlib.sha256(content.read()).hexdigest()
    return ""


def load_sources(paths: Iterable[str]) -> list[SourceModel]:
    """The models of these paths, loaded.

    Raises:
      FileError, ValueError: see `SourceModel.model`.
    """
    found = [source_model(path) for path in paths]
    for source in found:
        source.model  # noqa: B018 (loads it)
    return found


def transferred(attacks: Iterable[Attack], sources: Sequence[Callable[..., Any]]) -> list[Transfer]:
    """Each attack made on each source, for the model that is evaluated to be judged by.

    Raises:
      ValueError: an attack that needs no gradients, and is run on the evaluated model itself.
    """
    found = []
    for source in sources:
        for attack in attacks:
            if attack.black_box:
                name = type(attack).__name__
                raise ValueError(
                    f"Transfer(attack={name}(...)): {name} is a black-box attack, which needs no "
                    "other model; run it on the evaluated model itself, or transfer one that uses "
                    "gradients, such as PGD(eps, step_size, steps)."
                )
            found.append(Transfer(attack, source))
    return found


def transfer(attack: Attack, run: str) -> Transfer:
    """`Transfer` as text names it: the attack, and the source by its path."""
    if not isinstance(attack, Attack):
        raise ValueError(f"attack={attack!r}: must be an attack, such as PGD(eps=8/255, ...).")
    if not isinstance(run, str):
        raise ValueError(f"run={run!r}: must be the folder of a run or a .keras file, in quotes.")
    [made] = transferred([attack], load_sources([run]))
    return made
