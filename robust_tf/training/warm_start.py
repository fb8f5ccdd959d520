"""Networks that an earlier run trained: to start from, or to learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robust_tf import files, runs
from robust_tf.evaluation import loading
from robust_tf.models import Classifier, SplitClassifier


def trained(path: str, setting: str) -> Classifier:
    """The network of a run folder or `.keras` file, which `setting` names.

    Raises:
      FileError: there is none.
      ValueError: it is not a network of this library.
    """
    if not files.exists(path):
        raise files.FileError(
            f"{setting}={path!r}: there is no such run. Train it first with --run_dir={path}, or "
            f"name another run folder or .keras file: --gin_param=\"{setting}='FOLDER'\"."
        )
    run = files.is_folder(path) and not path.endswith(".keras")
    network = runs.load_run(path) if run else loading.load_model(path)
    if not isinstance(network, Classifier):
        raise ValueError(
            f"{setting}={path!r}: expected a run folder, or the .keras file of a network that was "
            f"trained here; found {type(network).__name__}."
        )
    return network


def start_from(path: str, network: Classifier) -> None:
    """Gives `network` the weights of an earlier run with the same generator.

    The classifier's are taken too where it is the same; where it has other classes but is otherwise
    the same, all but those of its last layer; where it is another, none.

    Raises:
      FileError, ValueError: see `trained`; another generator.
    """
    initial = trained(path, "train.initial")
    halves = isinstance(initial, SplitClassifier) and isinstance(network, SplitClassifier)
    part, theirs = (network.generator, initial.generator) if halves else (network, initial)
    weights, own = theirs.get_weights(), part.get_weights()
    if _shapes(weights) != _shapes(own):
        pairs = zip(_shapes(weights), _shapes(own), strict=False)
        odd = [pair for pair in pairs if pair[0] != pair[1]]
        raise ValueError(
            f"train.initial={path!r}: the {len(weights)} weights of its {theirs.name} do not fit "
            f"the {len(own)} of this network; first difference {odd[0] if odd else 'their number'}."
            " Use the same network, cut at the same layer; its classifier alone may be another."
        )
    part.set_weights(weights)
    if not halves:
        return
    layers = network.classifier.layers
    found = [layer.get_weights() for layer in initial.classifier.layers]
    fits = [
        _shapes(weights) == _shapes(layer.get_weights())
        for weights, layer in zip(found, layers, strict=False)
    ]
    if len(found) == len(layers) and all(fits[:-1]):
        for layer, weights, fit in zip(layers, found, fits, strict=True):
            if fit:
                layer.set_weights(weights)


def _shapes(weights: Sequence[np.ndarray]) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in weights]
