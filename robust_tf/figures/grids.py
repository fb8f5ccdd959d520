"""Clean images, perturbations and adversarial images side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from robust_tf.figures import style
from robust_tf.figures.forward import Model, check_images, logits_at, softmax

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Grid(NamedTuple):
    """Of n images: clean and adversarial (n, H, W, C), labels (n,); predictions of both, int (n,).

    The confidences are the probabilities of what is predicted, (n,).
    """

    clean: np.ndarray
    adversarial: np.ndarray
    labels: np.ndarray
    clean_predictions: np.ndarray
    predictions: np.ndarray
    clean_confidence: np.ndarray
    confidence: np.ndarray


def compute_grid(model: Model, x: np.ndarray, y: np.ndarray, x_adv: np.ndarray) -> Grid:
    """Predictions and their probabilities, of images and of the adversarial ones made from them.

    Raises:
      ValueError: points, or not as many of the one as of the other.
    """
    check_images(x, "an image grid")
    if np.shape(x) != np.shape(x_adv):
        raise ValueError(f"x {np.shape(x)} and x_adv {np.shape(x_adv)} must have one shape.")
    before, after = (softmax(logits_at(model, images)) for images in (x, x_adv))
    sure = before.max(1), after.max(1)
    return Grid(
        np.asarray(x), np.asarray(x_adv), np.asarray(y), before.argmax(1), after.argmax(1), *sure
    )


@style.drawing
def draw_grid(
    grid: Grid, title: str = "", columns: int = 8, class_names: Sequence[str] | None = None
) -> Figure:
    """Rows of clean images, perturbations and adversarial images, `columns` at most.

    Perturbations are amplified so that the largest of all fills the scale, blue below 0 and red
    above; of images with colors they are drawn around grey. Under each image stands what is
    predicted and how certainly; what is wrong is orange and has a cross. With the names of the
    classes, by label, the true class stands above.
    """
    count = min(columns, len(grid.labels))
    if not count:
        raise ValueError("there is nothing to draw: the grid has no images.")
    change = grid.adversarial[:count] - grid.clean[:count]
    largest = float(np.abs(change).max())
    height = 3.4 if class_names else 2.95
    figure = style.new_figure(min(style.PAGE, 0.5 + 0.8 * count), height + 0.25 * bool(title))
    panels = figure.subplots(3, count, squeeze=False)
    for n in range(count):
        label = grid.labels[n]
        if class_names:
            panels[0, n].set_title(style.class_text(label, class_names), fontsize=6.5, pad=3)
        for row, images, predictions, confidences in (
            (0, grid.clean, grid.clean_predictions, grid.clean_confidence),
            (2, grid.adversarial, grid.predictions, grid.confidence),
        ):
            _show(panels[row, n], images[n])
            _predicted(panels[row, n], predictions[n], confidences[n], label, class_names)
        _show(panels[1, n], change[n], largest)
    amplified = f"perturbation\n× {1 / largest:.3g}" if largest else "perturbation\n0"
    for axes, text in zip(panels[:, 0], ("clean", amplified, "adversarial"), strict=True):
        axes.set_ylabel(text)
    if title:
        figure.suptitle(title)
    return figure


def _show(axes: Any, image: np.ndarray, largest: float | None = None) -> None:
    """An image, or a perturbation by its largest value."""
    if largest is not None and image.shape[-1] == 1:
        span = largest or 1.0
        axes.imshow(image[..., 0], cmap="RdBu_r", vmin=-span, vmax=span)
    elif largest is not None:
        axes.imshow(np.clip(0.5 + image / (2 * largest or 1.0), 0, 1))
    elif image.shape[-1] == 1:
        axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1)
    else:
        axes.imshow(np.clip(image, 0, 1))
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(True)


def _predicted(
    axes: Any, prediction: int, confidence: float, label: int, class_names: Sequence[str] | None
) -> None:
    """What is predicted, under the image."""
    right, sure = prediction == label, f"{100 * confidence:.0f} %"
    name = style.class_text(prediction, class_names)
    text = f"{name}\n{sure}" if class_names else f"{name} ({sure})"
    text += " ✗" * (not right)
    axes.set_xlabel(text, fontsize=6.5, labelpad=2, color="black" if right else "#B34700")
