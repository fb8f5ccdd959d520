"""What a report computes with a run's model on a few test images: what no file holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from robust_tf import data as datasets
from robust_tf import files, runs
from robust_tf.attacks import PGD
from robust_tf.data.pipeline import to_unit_interval
from robust_tf.figures.curves import Curve, curve_of
from robust_tf.figures.forward import adversarial_at, logits_at, standard_attack
from robust_tf.figures.grids import Grid, compute_grid
from robust_tf.figures.latent import Latent, LatentNumbers, compute_latent, embed, measure_latent
from robust_tf.figures.loss_surface import Roughness, Surfaces, compute_surfaces, roughness
from robust_tf.report.runs import Run

STEPS = 40  # of the attack behind grids, confusion and features
CURVE_STEPS = 20
CURVE = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # multiples of the run's eps
SURFACES = 16  # images whose surfaces are measured; the first is drawn
DEFAULT_EPS = 8 / 255  # of a run that tells none


@dataclasses.dataclass
class ModelAnalysis:
    """What was computed; a part that failed is None, and a note says why.

    Attributes:
      eps, examples: of the attack, and of how many test images.
      labels: of the whole test split, int (N,); empty for data that could not be read.
      num_classes: of the data.
      grid: the images, attacked, with predictions.
      curve: accuracy against eps.
      surfaces, roughness: of the loss around the first images.
      latent, places, numbers: features, their map (2n, 2), and what they measure.
    """

    eps: float
    examples: int = 0
    labels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
    num_classes: int = 0
    grid: Grid | None = None
    curve: Curve | None = None
    surfaces: Surfaces | None = None
    roughness: Roughness | None = None
    latent: Latent | None = None
    places: np.ndarray | None = None
    numbers: LatentNumbers | None = None


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
        name = run.data.get("name")
        if not name:
            raise ValueError("the run does not say which data it was trained on.")
        if name not in self._read:
            self._read[name] = datasets.load(name, data_dir=self._data_dir)
        return self._read[name]


def probe(run: Run, read: Datasets, examples: int, seed: int = 0) -> ModelAnalysis:
    """Attacks the run's model on the first test images, and looks at what comes of it.

    Whatever fails becomes a note of the run, and its part of the report is missing.

    Args:
      run: with or without a model.
      read: gives its data.
      examples: test images, >= 1.
      seed: of the attack, the random directions and the map.
    """
    result = ModelAnalysis(run.eps or DEFAULT_EPS)
    dataset = _tried(run, "The test images cannot be read", lambda: read(run))
    if dataset is None:
        return result
    result.labels, result.num_classes = np.asarray(dataset.test.labels), dataset.num_classes
    _check_data(run, dataset)
    if not run.has_model:
        return result
    model = _tried(run, "model.keras cannot be used", lambda: runs.load_run(run.path))
    if model is None:
        return result
    model = getattr(model, "final_network", model)
    test = dataset.test.take(examples)
    x, y = to_unit_interval(tf.constant(test.images)).numpy(), np.asarray(test.labels)
    result.examples = len(y)
    attack = standard_attack(result.eps, STEPS)
    x_adv = _tried(
        run,
        "model.keras cannot be attacked",
        lambda: adversarial_at(model, x, y, result.eps, attack, seed),
    )
    if x_adv is None:
        return result
    if x.ndim == 4:
        result.grid = _tried(run, "There are no images", lambda: compute_grid(model, x, y, x_adv))
    radii = [factor * result.eps for factor in CURVE]
    result.curve = _tried(
        run,
        "There is no curve",
        lambda: _curve(model, x, y, radii, seed),
    )
    few = slice(0, SURFACES)
    result.surfaces = _tried(
        run,
        "There is no loss surface",
        lambda: compute_surfaces(model, x[few], y[few], result.eps, seed=seed),
    )
    surfaces = result.surfaces
    if surfaces is not None:
        result.roughness = _tried(run, "The surface has no numbers", lambda: roughness(surfaces))
    result.latent = _tried(run, "There are no features", lambda: compute_latent(model, x, y, x_adv))
    latent = result.latent
    if latent is not None:
        result.numbers = _tried(run, "The features have no numbers", lambda: measure_latent(latent))
        result.places = _tried(
            run, "There is no map of features", lambda: embed(latent.features, seed=seed)
        )
    return result


def _curve(model: Any, x: np.ndarray, y: np.ndarray, radii: list[float], seed: int) -> Curve:
    """As `figures.curves.accuracy_against_eps`, but one graph for all radii: it only scales."""
    attack, counts = PGD(radii[-1], radii[-1] / 10, CURVE_STEPS), []
    natural = logits_at(model, x).argmax(1) == y
    for radius in radii:
        x_adv = adversarial_at(model, x, y, radius, attack, seed, scale=radius / radii[-1])
        counts.append(int((natural & (logits_at(model, x_adv).argmax(1) == y)).sum()))
    return curve_of(radii, counts, len(y))


def _tried(run: Run, what: str, compute: Callable[[], Any]) -> Any:
    """What `compute` gives; None, and a note, where it fails in a way that a user can meet."""
    try:
        return compute()
    except (ValueError, TypeError, OSError, datasets.DataError, tf.errors.OpError) as error:
        run.notes.append(f"{what}: {files.reason(error)}.")
        return None


def _check_data(run: Run, dataset: datasets.Data) -> None:
    """Notes test images that are not those of the run."""
    splits = run.data.get("splits")
    seen = splits.get("test") if isinstance(splits, dict) else None
    if seen and seen != dataset.test.fingerprint:
        run.notes.append(
            f"The test images of {dataset.name} are not those that the run saw (fingerprint "
            f"{dataset.test.fingerprint}, the run's {seen}): what is computed here is of others."
        )
