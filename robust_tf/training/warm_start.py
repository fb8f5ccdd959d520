"""Networks that an earlier run trained: to start from, or to learn from."""

from __future__ import annotations

from robust_tf import files, runs
from robust_tf.evaluation import loading
from robust_tf.models import SplitClassifier


def trained(path: str, setting: str) -> SplitClassifier:
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
    if not isinstance(network, SplitClassifier):
        raise ValueError(
            f"{setting}={path!r}: expected a run folder, or the .keras file of a SplitClassifier; "
            f"found {type(network).__name__}."
        )
    return network


def start_from(path: str, network: SplitClassifier) -> None:
    """Gives `network` the weights of an earlier run of the same architecture.

    Where the run has other classes, the last layer stays as it is: pre-training.

    Raises:
      FileError, ValueError: see `trained`; another architecture.
    """
    initial = trained(path, "train.initial")
    weights = initial.get_weights()
    if initial.num_classes != network.num_classes:
        last = len(network.classifier.layers[-1].get_weights())
        weights[-last:] = network.get_weights()[-last:]
    theirs = [tuple(weight.shape) for weight in weights]
    own = [tuple(weight.shape) for weight in network.get_weights()]
    if theirs != own:
        odd = [pair for pair in zip(theirs, own, strict=False) if pair[0] != pair[1]]
        raise ValueError(
            f"train.initial={path!r}: its {len(theirs)} weights do not fit the {len(own)} of this "
            f"network; first difference {odd[0] if odd else 'their number'}. Use the same network, "
            "whose last layer alone may have other classes."
        )
    network.set_weights(weights)
