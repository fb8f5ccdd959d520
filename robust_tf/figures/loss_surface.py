"""The loss around an image, over the gradient's sign and a random direction (ADR Fig. 3, 8, 9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from robust_tf import losses
from robust_tf.attacks.arguments import check_batch
from robust_tf.attacks.network import Network, input_gradient, logits_of
from robust_tf.figures import style
from robust_tf.figures.forward import Model, batched, check_split, cross_entropy, in_batches
from robust_tf.models import forward_mode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPACES = ("images", "features")


class Surfaces(NamedTuple):
    """Of n images: losses float64 (n, k, k) in nats and predicted classes int (n, k, k).

    Axis 1 goes along the random direction, axis 2 along the gradient's sign; `offsets` (k,) are
    the factors of both, from -eps to eps. images (n, ...) and labels (n,) are the middle.
    """

    offsets: np.ndarray
    losses: np.ndarray
    classes: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    space: str


def compute_surfaces(
    model: Model,
    x: np.ndarray,
    y: np.ndarray,
    eps: float,
    points: int = 17,
    space: str = "images",
    clip: bool = True,
    seed: int = 0,
) -> Surfaces:
    """Loss and prediction at x + a * random + b * sign(gradient), a and b in [-eps, eps].

    Args:
      model: Keras model or callable, images to logits; a `SplitClassifier` for features.
      x: float32 images (n, H, W, C) in [0, 1], clean or adversarial.
      y: labels (n,).
      eps: > 0, in pixel units; for features in units of the mean |z| of each image.
      points: k, odd, so that the middle is the image; 17 in the released program.
      space: 'images', or 'features': the same around z = g(x), by the classifier h alone.
      clip: images only: keeps every point in [0, 1]; the released program does not. Then the two
        directions are no longer orthogonal, and the surface bends where a pixel reaches its limit,
        also that of a linear loss; of a pixel that is 0 or 1 this is in the middle of the plane.
      seed: of the random directions.

    Raises:
      ValueError, TypeError: an argument outside its range; a model without features.

    Source: Bui et al. (2020), who go along the gradient itself in the program; its sign, as in the
    attacks, makes both axes equally long. The random direction has entries -1 and 1, as many of
    them along the sign as against it, so that the two are orthogonal.
    """
    if space not in SPACES:
        raise ValueError(f"space={space!r}: must be 'images' or 'features'.")
    if not 0 < eps < float("inf") or points < 3 or points % 2 == 0:
        raise ValueError(f"eps={eps!r}, points={points!r}: eps must be > 0, points odd and >= 3.")
    images, labels = (part.numpy() for part in check_batch(x, y))
    images, middle, network = _middle(model, images, space)
    gradient_at = input_gradient(network, losses.cross_entropy)
    gradient = gradient_at(tf.constant(middle), tf.constant(labels))[0].numpy()
    sign = np.sign(gradient).astype(np.float32)
    rng = np.random.default_rng(seed)
    offsets = np.linspace(-eps, eps, points, dtype=np.float32)
    logits_at = batched(network, middle.shape[1:], points * points)
    values = np.zeros((len(middle), points, points))
    classes = np.zeros(values.shape, int)
    for n, (z, direction) in enumerate(zip(middle, sign, strict=True)):
        unit = 1.0 if space == "images" else float(np.abs(z).mean())
        steps = (unit * offsets).reshape(-1, *[1] * z.ndim)
        grid = z + steps[:, None] * orthogonal_signs(direction, rng) + steps[None] * direction
        flat = grid.reshape(-1, *z.shape)
        logits = logits_at(np.clip(flat, 0, 1) if clip and space == "images" else flat)
        loss = cross_entropy(logits, np.full(len(flat), labels[n]))
        values[n] = loss.reshape(points, points)
        classes[n] = logits.argmax(1).reshape(points, points)
    return Surfaces(offsets, values, classes, images, labels, space)


def orthogonal_signs(direction: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Entries -1 and 1, their inner product with `direction` (signs) being 0 or, if odd, 1.

    Where the direction is 0 the signs are free.
    """
    flat = np.ravel(direction)
    signs = rng.choice([-1, 1], flat.size).astype(np.float32)
    used = np.flatnonzero(flat)
    product = int((signs[used] * flat[used]).sum())
    same = used[signs[used] * flat[used] == np.sign(product)] if product else used[:0]
    turned = rng.permutation(same)[: abs(product) // 2]
    signs[turned] *= -1
    return signs.reshape(direction.shape)


@style.drawing
def draw_surfaces(
    surfaces: dict[str, Surfaces],
    index: int = 0,
    title: str = "",
    class_names: Sequence[str] | None = None,
) -> Figure:
    """For each model by name a row: the image, the surface of its loss, the map of its classes.

    The surfaces of all models have one scale, so that heights can be compared. The dashed square on
    the map is the ball around the image shown, be it clean or adversarial: outside it some pixels
    move by more than eps. Of an adversarial image it is not the ball of the attack.

    Args:
      surfaces: by the model's name, of the same images.
      index: which of the images.
      title: above all.
      class_names: by label, where they are known.
    """
    style.check_named(surfaces, "loss surfaces")
    some = next(iter(surfaces.values()))
    if not 0 <= index < len(some.labels):
        raise ValueError(f"index={index!r}: must be in 0 .. {len(some.labels) - 1}.")
    figure = style.new_figure(0.75 * style.PAGE, 0.35 + 1.9 * len(surfaces))
    layout = figure.add_gridspec(len(surfaces), 3, width_ratios=[0.65, 1.7, 1.1])
    looks = style.looks(surfaces)
    highest = max(float(one.losses[index].max()) for one in surfaces.values())
    for row, (name, one) in enumerate(surfaces.items()):
        axes = figure.add_subplot(layout[row, 0])
        image = np.clip(one.images[index], 0, 1)
        if image.ndim == 3:
            axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray")
        between = "\n" if class_names else " "
        true = f"true class{between}{style.class_text(one.labels[index], class_names)}"
        axes.set(xticks=[], yticks=[], xlabel=true)
        style.method_title(axes, name, looks[name], fontsize=7.5)
        _draw_heights(figure.add_subplot(layout[row, 1], projection="3d"), one, index, highest)
        axes = figure.add_subplot(layout[row, 2])
        _draw_classes(axes, one, index, class_names)
        if row == 0:
            axes.set_title("predicted class")
        if row == len(surfaces) - 1:
            axes.set_xlabel("gradient's sign")
    if title:
        figure.suptitle(title)
    return figure


def _draw_heights(axes: Any, surfaces: Surfaces, index: int, highest: float) -> None:
    """The loss over both directions."""
    gradient, random = np.meshgrid(surfaces.offsets, surfaces.offsets)
    axes.plot_surface(
        gradient,
        random,
        surfaces.losses[index],
        cmap="viridis",
        vmin=0,
        vmax=highest,
        rstride=1,
        cstride=1,
        lw=0.15,
        edgecolor="#303030",
        antialiased=True,
    )
    axes.set(zlim=(0, highest or 1.0))
    axes.set_xlabel("gradient's sign", labelpad=-6)
    axes.set_ylabel("random", labelpad=-6)
    axes.set_zlabel("loss (nats)", labelpad=-6)
    for axis in ("x", "y", "z"):
        axes.tick_params(axis=axis, pad=-3, labelsize=6)
        axes.locator_params(axis=axis, nbins=4)
    axes.view_init(elev=28, azim=-128)
    axes.set_box_aspect((1, 1, 0.75), zoom=0.92)


def _draw_classes(
    axes: Any, surfaces: Surfaces, index: int, class_names: Sequence[str] | None
) -> None:
    """What is predicted, each region with its class in the middle of it."""
    from scipy.ndimage import distance_transform_edt

    classes, offsets = surfaces.classes[index], surfaces.offsets
    axes.pcolormesh(
        offsets, offsets, classes % 10, cmap=style.class_map(), vmin=-0.5, vmax=9.5, alpha=0.75
    )
    for label in np.unique(classes):
        inside = np.pad(classes == label, 1)
        depth = distance_transform_edt(inside)[1:-1, 1:-1]
        if (classes == label).mean() > 0.02:
            row, column = np.unravel_index(depth.argmax(), depth.shape)
            # Names lie along their regions, where numbers fit in any.
            tall = inside.any(1).sum() > 2 * inside.any(0).sum()
            box = "round,pad=0.15" if class_names else "circle,pad=0.2"
            axes.annotate(
                style.class_text(label, class_names, 12),
                (offsets[column], offsets[row]),
                ha="center",
                va="center",
                weight="bold",
                fontsize=6.5 if class_names else None,
                rotation=90 if class_names and tall else 0,
                bbox={"boxstyle": box, "fc": "white", "lw": 0},
            )
    if surfaces.space == "images":
        eps = offsets[-1]
        axes.plot([0, eps, 0, -eps, 0], [-eps, 0, eps, 0, -eps], color="black", lw=0.8, ls="--")
    axes.set(ylabel="random", aspect="equal")
    axes.locator_params(nbins=4)


def _middle(model: Model, images: np.ndarray, space: str) -> tuple[np.ndarray, np.ndarray, Network]:
    """Images, the middles of the planes, and what gives logits there."""
    if space == "images":
        return images, images, logits_of(model, "running")
    check_split(model)

    def features(x: tf.Tensor) -> tf.Tensor:
        with forward_mode(batch_norm="running"):
            return tf.cast(model.features(x), tf.float32)  # type: ignore[attr-defined]

    def classify(z: tf.Tensor) -> tf.Tensor:
        with forward_mode(batch_norm="running"):
            return model.classify(z)  # type: ignore[attr-defined]

    return images, in_batches(features, images, 250), classify
