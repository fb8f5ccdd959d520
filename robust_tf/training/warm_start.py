"""Networks that an earlier run trained: to start from, or to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robust_tf import compat, files, runs
from robust_tf.evaluation import loading
from robust_tf.models import Classifier, InputRange, SplitClassifier, torch_network


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
    """Gives `network` the weights of an earlier run with the same generator, or of a checkpoint.

    The classifier's are taken too where it is the same; where it has other classes but is otherwise
    the same, all but those of its last layer; where it is another, none. A checkpoint of PyTorch
    has to fit as a whole; one made into a `.keras` file is as a run. Of weights from elsewhere the
    network keeps `weights_source`.

    Raises:
      FileError, ValueError: see `trained`; another generator, or other pixels at its beginning.
    """
    if torch_network.is_checkpoint(path) and not files.is_folder(path):
        _read_checkpoint(path, network)
        return
    initial = trained(path, "train.initial")
    _check_pixels(path, initial, network)
    if initial.weights_source:
        network.weights_source = {**initial.weights_source, "trained_further": True}
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


def _read_checkpoint(path: str, network: Classifier) -> None:
    read = torch_network.read(path, network)
    if read.network is not network:
        raise ValueError(
            f"train.initial={path!r}: the file stores a normalization of pixels, "
            f"{read.state.normalization}, which this network has not inside. Make a .keras file of "
            "it first (bin/convert), and train a network with the same pixels (train.network = "
            "@Normalized)."
        )
    network.weights_source = {**(network.weights_source or {}), "trained_further": True}


def _check_pixels(path: str, initial: Classifier, network: Classifier) -> None:
    """Raises ValueError where one makes other pixels of [0, 1] inside than the other."""
    theirs, own = _pixels(initial), _pixels(network)
    if theirs != own:
        raise ValueError(
            f"train.initial={path!r}: its weights are of pixels {_said(theirs)}, and this network "
            f"makes {_said(own)}; build it with the same (train.network = @Normalized)."
        )


def _pixels(network: Classifier) -> list[tuple[Any, ...]]:
    layers = [one for one in compat.layers_of(network) if isinstance(one, InputRange)]
    return [(layer.scale, layer.offset, layer.reverse) for layer in layers]


def _said(pixels: list[tuple[Any, ...]]) -> str:
    said = [f"x * {scale} + {offset}" + ", BGR" * reverse for scale, offset, reverse in pixels]
    return " and ".join(said) or "in [0, 1] as they are"


def _shapes(weights: Sequence[np.ndarray]) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in weights]
