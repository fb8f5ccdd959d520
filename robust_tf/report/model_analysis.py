"""What a report computes with a run's model on a few test images: what no file holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import data as datasets
from robust_tf import files
from robust_tf.data.labels import class_name
from robust_tf.data.pipeline import to_unit_interval
from robust_tf.evaluation.checks import collapsed_class
from robust_tf.figures.curves import Curve, accuracy_against_eps
from robust_tf.figures.forward import adversarial_at, check_varies, logits_at, standard_attack
from robust_tf.figures.grids import Grid, compute_grid
from robust_tf.figures.latent import Latent, LatentNumbers, compute_latent, embed, measure_latent
from robust_tf.figures.loss_surface import Surfaces, compute_surfaces
from robust_tf.figures.roughness import Roughness, roughness
from robust_tf.runs import Run

STEPS = 40  # of the attack behind grids, confusion and features
CURVE_STEPS = 20
CURVE = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # multiples of the run's eps
SURFACES = 16  # images whose surfaces are measured; the first is drawn
DEFAULT_EPS = 8 / 255  # of a run that tells none


@dataclasses.dataclass
class ModelAnalysis:
    """What was computed; a part that failed is None, and a note says why.

    Attributes:
      eps, norm, examples: of the attack, and of how many test images.
      labels: of the whole test split, int (N,); empty for data that could not be read.
      num_classes: of the data.
      class_names: by label, where they are known.
      grid: the images, attacked, with predictions.
      curve: accuracy against eps.
      surfaces, roughness: of the loss around the first images.
      latent, places, numbers: features, their map (2n, 2), and what they measure.
      collapsed: the one class that the network predicts, -1 where its outputs are not numbers; None
        for a network that tells classes apart.
      notes: what failed, and why, each a sentence.
    """

    eps: float
    examples: int = 0
    labels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
    num_classes: int = 0
    class_names: Sequence[str] | None = None
    grid: Grid | None = None
    curve: Curve | None = None
    surfaces: Surfaces | None = None
    roughness: Roughness | None = None
    latent: Latent | None = None
    places: np.ndarray | None = None
    numbers: LatentNumbers | None = None
    collapsed: int | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    norm: str = "Linf"

    def class_name(self, label: int) -> str:
        """The name of a class; its number where it has no name."""
        return class_name(label, self.class_names)

    def attempt(self, what: str, compute: Callable[[], Any]) -> Any:
        """What `compute` gives; None, and a note, where it fails in a way that a user can meet."""
        try:
            return compute()
        except (
            ArithmeticError,
            ValueError,
            TypeError,
            OSError,
            datasets.DataError,
            tf.errors.OpError,
        ) as error:
            self.notes.append(f"{what}: {files.reason(error)}.")
            return None


class Datasets:
    """Datasets of runs, each read once."""

    def __init__(self, data_dir: str | None):
        self._data_dir = data_dir
        self._read: dict[tuple[Any, ...], datasets.Data] = {}

    def __call__(self, run: Run) -> datasets.Data:
        """The data that the run names.

        Raises:
          DataError, ValueError: it names none, or that is not to be had.
        """
        told = {key: run.data.get(key) for key in ("name", "source", "seed", "validation_size")}
        key = (str(told),)
        if key not in self._read:
            self._read[key] = datasets.load_recorded(run.data, self._data_dir)
        return self._read[key]


def of_threat(run: Run) -> ModelAnalysis:
    """Nothing yet, for the ball that a run was trained in; of several the L-inf one."""
    if run.linf_eps or not run.eps:
        return ModelAnalysis(run.linf_eps or DEFAULT_EPS)
    return ModelAnalysis(run.eps, norm=run.threat)


def analyze(
    run: Run,
    read: Datasets,
    examples: int,
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> ModelAnalysis:
    """Attacks the run's model on the first test images, and measures what comes of it.

    Whatever fails becomes a note, and its part of the report is missing. Of data without variance,
    such as the features of a network that has collapsed, nothing is drawn.

    Args:
      run: with or without a model.
      read: gives its data.
      examples: test images, >= 1; all where there are fewer.
      seed: of the attack, the random directions and the map.
      progress: is told what is computed, before it is.
    """
    result = of_threat(run)
    dataset = result.attempt("The test images cannot be read", lambda: read(run))
    if dataset is None:
        return result
    result.labels, result.num_classes = np.asarray(dataset.test.labels), dataset.num_classes
    result.class_names = dataset.class_names or run.class_names
    _check_data(run, dataset, result)
    if not run.has_model:
        return result
    model: Any = result.attempt("model.keras cannot be used", lambda: run.model)
    if model is None:
        return result
    model = getattr(model, "final_network", model)
    test = dataset.test.take(examples)
    x, y = to_unit_interval(tf.constant(test.images)).numpy(), np.asarray(test.labels)
    result.examples = len(y)
    progress(f"{run.name}: {len(y)} test images")
    result.attempt("model.keras cannot be used", lambda: _check_collapse(model, x, y, result))
    attack = result.attempt(
        "model.keras cannot be attacked", lambda: standard_attack(result.eps, STEPS, result.norm)
    )
    if attack is None:
        return result
    x_adv = result.attempt(
        "model.keras cannot be attacked",
        lambda: adversarial_at(model, x, y, result.eps, attack, seed),
    )
    if x_adv is not None:
        _measure(result, model, x, y, x_adv, seed)
    return result


def _measure(
    result: ModelAnalysis, model: Any, x: np.ndarray, y: np.ndarray, x_adv: np.ndarray, seed: int
) -> None:
    """Grid, curve, loss surface and features of images and their adversarial ones."""
    if x.ndim == 4:
        result.grid = result.attempt(
            "There are no images", lambda: compute_grid(model, x, y, x_adv)
        )
    radii = [factor * result.eps for factor in CURVE]
    result.curve = result.attempt(
        "There is no curve",
        lambda: accuracy_against_eps(model, x, y, radii, CURVE_STEPS, seed=seed, norm=result.norm),
    )
    few = slice(0, SURFACES)
    surfaces = result.attempt(
        "There is no loss surface",
        lambda: _surfaces(result, model, x[few], y[few], seed),
    )
    if surfaces is not None and result.attempt(
        "There is no loss surface", lambda: check_varies(surfaces.losses[0].ravel(), "losses")
    ):
        result.surfaces = surfaces
        result.roughness = result.attempt("The surface has no numbers", lambda: roughness(surfaces))
    latent = result.attempt("There are no features", lambda: compute_latent(model, x, y, x_adv))
    if latent is not None and result.attempt(
        "Nothing is drawn of the features", lambda: check_varies(latent.features, "features")
    ):
        result.latent = latent
        result.numbers = result.attempt(
            "The features have no numbers", lambda: measure_latent(latent)
        )
        result.places = result.attempt(
            "There is no map of features", lambda: embed(latent.features, seed=seed)
        )


def _surfaces(
    result: ModelAnalysis, model: Any, x: np.ndarray, y: np.ndarray, seed: int
) -> Surfaces:
    """The loss around the images, along directions of L-inf."""
    if result.norm != "Linf":
        raise ValueError(f"it is drawn in an L-inf ball, and the run was trained in {result.norm}")
    return compute_surfaces(model, x, y, result.eps, seed=seed)


def _check_collapse(model: Any, x: np.ndarray, y: np.ndarray, result: ModelAnalysis) -> None:
    """Notes a network that predicts one class, whatever the image."""
    logits = logits_at(model, x)
    predictions = np.where(np.isfinite(logits).all(-1), logits.argmax(-1), -1)
    result.collapsed = collapsed_class(predictions, y)
    if result.collapsed is not None:
        result.notes.insert(0, collapse_of(result))


def collapse_of(result: ModelAnalysis) -> str:
    """What to say of a network that has collapsed, and what to do."""
    label = result.collapsed
    if label is None or label == -1:
        what = f"its outputs on all {result.examples} test images are not numbers"
    else:
        what = f"it predicts class {result.class_name(label)} for all {result.examples} test images"
    return (
        f"The network has collapsed: {what}. Its accuracies say nothing of robustness. Train it "
        "again with a lower train.learning_rate, a longer train.eps_warmup_epochs, or more images."
    )


def _check_data(run: Run, dataset: datasets.Data, result: ModelAnalysis) -> None:
    """Notes test images that are not those of the run."""
    splits = run.data.get("splits")
    seen = splits.get("test") if isinstance(splits, dict) else None
    if seen and seen != dataset.test.fingerprint:
        result.notes.append(
            f"The test images of {dataset.name} are not those that the run saw (fingerprint "
            f"{dataset.test.fingerprint}, the run's {seen}): what is computed here is of others."
        )
