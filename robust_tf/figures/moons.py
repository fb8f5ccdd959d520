"""The toy figure of ATLD: four trainings on two moons, in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from robust_tf import data, inference, methods, models
from robust_tf.attacks import PGD, ManifoldAttack, ScatteringAttack
from robust_tf.figures import plane
from robust_tf.figures.forward import adversarial_at, batched, logits_at

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = ("Standard", "AT", "Feature Scattering", "ATLD")
# 0.3 on the axes of scikit-learn's moons, which the catalogue divides by 4.
EPS = 0.075
ROWS = ("perturbed data", "boundaries", "perturbations", "ATLD and IMT")
# Of two classes a smoothing of 0.5, the default for ten, would leave nothing to learn.
SMOOTHING = 0.1


class Toy(NamedTuple):
    """One trained method: its model, the points that it trains on, and accuracies in [0, 1].

    adversarial: the test points moved by the method's own adversary, on its own model; pgd: by
    PGD-20.
    """

    model: methods.RobustModel
    adversarial: np.ndarray
    pgd: np.ndarray
    natural_accuracy: float
    robust_accuracy: float


class Moons(NamedTuple):
    """Four methods by name; the points (n, 2) and labels (n,) that they are shown on; eps."""

    toys: dict[str, Toy]
    points: np.ndarray
    labels: np.ndarray
    eps: float
    transformation: inference.ManifoldTransformation


def make_method(name: str, eps: float, seed: int) -> methods.RobustModel:
    """A method on a network 2-64-64-2 of its own, the same start for all."""
    keras.utils.set_random_seed(seed)
    network = models.MLP((2,), 2, (64, 64))
    if name == "Standard":
        return methods.Standard(network)
    if name == "AT":
        return methods.AdversarialTraining(network, PGD(eps, eps / 4, 10))
    if name == "Feature Scattering":
        # The cosine of two logits hardly moves before the prediction turns; features do.
        attack = ScatteringAttack(eps, space="features")
        return methods.FeatureScattering(network, attack, label_smoothing=SMOOTHING)
    if name == "ATLD":
        return methods.ATLD(
            network,
            ManifoldAttack(eps),
            models.MLPDiscriminator,
            methods.DiscriminatorTraining(learning_rate=0.05),
            label_smoothing=SMOOTHING,
        )
    raise ValueError(f"there is no toy {name!r}; known: {', '.join(NAMES)}.")


def train_moons(
    eps: float = EPS, steps: int = 500, batch_size: int = 128, show: int = 300, seed: int = 0
) -> Moons:
    """Trains the four methods with Adam and shows them on test points.

    Args:
      eps: radius in L-inf, in the unit square of the catalogue's moons.
      steps: of each training; 0 leaves the networks as they are drawn.
      batch_size: of each step.
      show: number of test points.
      seed: of weights, batches and attacks.
    """
    if not 0 < eps < 0.5 or steps < 0 or show < 8:
        raise ValueError(
            f"eps={eps}, steps={steps}, show={show}: must be 0 < eps < 0.5, steps >= 0, show >= 8."
        )
    loaded = data.load("moons")
    batches = tf.data.Dataset.from_tensor_slices(loaded.train.tensors)
    batches = batches.shuffle(1000, seed=seed).repeat().batch(batch_size).take(steps)
    x, y = loaded.test.images[:show], loaded.test.labels[:show]
    toys = {}
    for name in NAMES:
        model = make_method(name, eps, seed)
        # Only ATLD has a term to warm up: at the start its scale, unbounded, would drown the rest.
        model.compile(optimizer=keras.optimizers.Adam(3e-3), term_warmup_steps=steps)
        if steps:
            model.fit(batches, verbose=0, shuffle=False)
        attacked = adversarial_at(model.network, x, y, eps, PGD(eps, eps / 4, 20), seed)
        right = [float((logits_at(model.network, z).argmax(1) == y).mean()) for z in (x, attacked)]
        toys[name] = Toy(model, _crafted(model, x, y, seed), attacked, *right)
    atld = toys["ATLD"].model
    moving = inference.ManifoldTransformation(atld.network, atld.discriminator, delta=eps)
    return Moons(toys, x, y, eps, moving)


def _crafted(model: methods.RobustModel, x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """The points as the method's own adversary moves them; the points themselves without one."""
    if not model.needs_adv:
        return x
    made = model.generate_adversarial(
        tf.constant(x), tf.constant(y), tf.constant([seed, 0]), tf.constant(1.0)
    )
    return np.asarray(getattr(made, "x_adv", made))


def draw_moons(moons: Moons, points: int = 160, title: str = "") -> Figure:
    """Four rows: perturbed data, boundaries, vector fields, and ATLD with its transformation.

    Rows one and three have the boundary of the standard model as a dashed line (ATLD Figures 1 and
    7); row two each model's own (Figure 4); row four ATLD's (Figure 6), and what its discriminator
    takes for natural, light. The numbers are natural accuracy and accuracy under PGD-20.
    """
    titles = dict(zip(NAMES, ("clean", "PGD", "Feature Scattering", "ATLD"), strict=True))
    x, y = moons.points, moons.labels
    box = plane.box_of(x, 1.3 * moons.eps)
    planes = {n: plane.compute_plane(t.model.network, box, points) for n, t in moons.toys.items()}
    clean = planes["Standard"]
    rows: list[list[Any]] = [[], [], [], []]
    for name, toy in moons.toys.items():
        shown = "clean data" if name == "Standard" else f"by {titles[name]}"
        rows[0].append(plane.Panel(shown, boundary=clean, points=toy.adversarial, labels=y))
        accuracy = f"{100 * toy.natural_accuracy:.0f} / {100 * toy.robust_accuracy:.0f} %"
        own = f"{titles[name]}\n{accuracy}"
        rows[1].append(plane.Panel(own, planes[name], points=x, labels=y))
        if name != "Standard":
            arrows = plane.Moved(x[::2], toy.adversarial[::2], y[::2])
            rows[2].append(plane.Panel(f"{titles[name]}", boundary=clean, moved=arrows))
    atld, pgd = planes["ATLD"], moons.toys["ATLD"].pgd
    back = np.asarray(moons.transformation.transform(tf.constant(pgd)))
    natural = batched(moons.transformation.natural_probability, (2,), 4096)
    grid = np.stack(np.meshgrid(atld.x, atld.y), -1).reshape(-1, 2)
    shades = natural(grid).reshape(points, points)
    arrows = plane.Moved(pgd[::2], back[::2], y[::2])
    rows[2].append(plane.Panel("IMT, after PGD", boundary=clean, moved=arrows))
    rows[3] = [
        plane.Panel("ATLD, clean data", atld, points=x, labels=y),
        plane.Panel("after PGD", atld, points=pgd, labels=y),
        plane.Panel("after PGD and IMT", atld, points=back, labels=y),
        plane.Panel("D: natural is light", naturalness=(atld, shades)),
    ]
    lines = {"boundary of the model of this panel": "-", "of the clean one": "--"}
    return plane.draw_planes(rows, ROWS, lines, title)
