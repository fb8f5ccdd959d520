"""Features of clean and adversarial images on one map, and their entropy (ADR Fig. 4, 5, 10).

An adversarial image that fools the model is called positive in the paper, one that does not
negative. Here they are called by what they do: `fooling`, and the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from robust_tf.figures import style
from robust_tf.figures.forward import Model, check_varies, entropy, outputs_at

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Latent(NamedTuple):
    """Of n clean images, and of the adversarial ones made from them, in this order: 2n rows.

    features float32 (2n, d); labels int (2n,), the true classes; predictions int (2n,); entropy
    (2n,) in nats; adversarial bool (2n,); fooling bool (2n,): adversarial, the clean image
    classified correctly and this one not.
    """

    features: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    entropy: np.ndarray
    adversarial: np.ndarray
    fooling: np.ndarray


class LatentNumbers(NamedTuple):
    """What the pictures show, as numbers; nan where there are no such examples.

    class_silhouette: of clean features by class, in [-1, 1]; the higher, the tighter the classes.
    fooling_silhouette: mean silhouette of two groups, fooling examples and all others. The others
      are many and spread over all classes, so that it says little of the fooling ones.
    fooling_neighbours: share of fooling examples among the 10 nearest of a fooling one, without
      itself and the clean image that it was made from; `fooling_chance` is their share of all.
    adversarial_neighbours: share of adversarial images, fooling or not, among the same 10; chance
      is 0.5.
    density_auroc: telling fooling examples from clean ones by the distance to the 10th nearest
      other clean feature, 0.5 is chance; 1 says that they lie where no clean image does. The image
      that an example was made from does not count, as for clean images they themselves do not.
    entropy_auroc: telling fooling examples from clean ones by the entropy.
    density_error, entropy_error: half widths of their intervals of 95 %, see `auroc_error`.
    entropy_auroc_all: telling all adversarial images from clean ones by the entropy.
    clean_entropy, fooling_entropy: means in nats.
    """

    examples: int
    fooling: int
    class_silhouette: float
    fooling_silhouette: float
    fooling_neighbours: float
    fooling_chance: float
    adversarial_neighbours: float
    density_auroc: float
    density_error: float
    entropy_auroc: float
    entropy_error: float
    entropy_auroc_all: float
    clean_entropy: float
    fooling_entropy: float


def compute_latent(model: Model, x: np.ndarray, y: np.ndarray, x_adv: np.ndarray) -> Latent:
    """Features and entropies of images and of the adversarial images made from them.

    Raises:
      TypeError: a model without features. ValueError: not as many of the one as of the other.
    """
    if np.shape(x) != np.shape(x_adv):
        raise ValueError(f"x {np.shape(x)} and x_adv {np.shape(x_adv)} must have one shape.")
    logits, features = outputs_at(model, np.concatenate([x, x_adv]))
    labels, predictions = np.tile(np.asarray(y), 2), logits.argmax(1)
    adversarial = np.arange(len(labels)) >= len(x)
    right = predictions == labels
    fooling = adversarial & ~right & np.tile(right[: len(x)], 2)
    return Latent(features, labels, predictions, entropy(logits), adversarial, fooling)


def embed(features: np.ndarray, perplexity: float = 30.0, seed: int = 0) -> np.ndarray:
    """Joint t-SNE, float32 (n, 2), of features (n, d); wide ones go through PCA to 50 first.

    Raises:
      ValueError: fewer than 5 rows; rows that are all the same, or not numbers.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    n, d = features.shape
    if n < 5:
        raise ValueError(f"{n} examples are too few for a map; give 5 or more.")
    check_varies(features, "features")  # t-SNE of equal points ends the interpreter
    if d > 50:
        width = min(50, n)
        features = PCA(width, svd_solver="randomized", random_state=seed).fit_transform(features)
    perplexity = min(perplexity, (n - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    # Of so few rows several threads mostly wait for each other, for minutes on a busy machine.
    with threadpool_limits(1 if n < 5000 else None):
        return tsne.fit_transform(features).astype(np.float32)


def measure_latent(latent: Latent, neighbours: int = 10) -> LatentNumbers:
    """The numbers beside the picture; distances are Euclidean, between features."""
    clean, fooling = ~latent.adversarial, latent.fooling
    z, count, n = latent.features, int(fooling.sum()), int(clean.sum())
    k = min(neighbours, n - 1)
    density = alike = adversarial = float("nan")
    if count and k >= 1:
        rows = np.flatnonzero(fooling)
        own, _ = _nearest(z[:n], z[:n], np.arange(n)[:, None], k)
        theirs, _ = _nearest(z[:n], z[fooling], rows[:, None] - n, k)
        density = auroc(theirs[:, -1], own[:, -1])
        _, joint = _nearest(z, z[fooling], np.stack([rows, rows - n], 1), k)
        alike, adversarial = (float(kind[joint].mean()) for kind in (fooling, latent.adversarial))
    by_entropy = auroc(latent.entropy[fooling], latent.entropy[clean])
    return LatentNumbers(
        examples=n,
        fooling=count,
        class_silhouette=_silhouette(z[clean], latent.labels[clean]),
        fooling_silhouette=_silhouette(z, fooling),
        fooling_neighbours=alike,
        fooling_chance=(count - 1) / (2 * n - 2) if count and n > 1 else float("nan"),
        adversarial_neighbours=adversarial,
        density_auroc=density,
        density_error=auroc_error(density, count, n),
        entropy_auroc=by_entropy,
        entropy_error=auroc_error(by_entropy, count, n),
        entropy_auroc_all=auroc(latent.entropy[latent.adversarial], latent.entropy[clean]),
        clean_entropy=_mean(latent.entropy[clean]),
        fooling_entropy=_mean(latent.entropy[fooling]),
    )


def auroc(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Probability that a positive score exceeds a negative one, ties half; nan without either."""
    if not len(positives) or not len(negatives):
        return float("nan")
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, "left")
    ties = np.searchsorted(ordered, positives, "right") - below
    return float((below + ties / 2).mean() / len(ordered))


def auroc_error(area: float, positives: int, negatives: int) -> float:
    """Half the width of the interval of 95 % of an AUROC, from so many examples of each kind.

    Source: Hanley & McNeil (1982), of exponential scores; nan without either kind.
    """
    if not positives or not negatives:
        return float("nan")
    two_positives, two_negatives = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area)
    variance += (positives - 1) * (two_positives - area**2)
    variance += (negatives - 1) * (two_negatives - area**2)
    return 1.959964 * float(np.sqrt(max(variance, 0.0) / (positives * negatives)))


@style.drawing
def draw_latent(
    latents: dict[str, Latent],
    maps: dict[str, np.ndarray],
    with_entropy: bool = False,
    title: str = "",
    class_names: Sequence[str] | None = None,
) -> Figure:
    """For each model by name its map: clean points grey, adversarial ones by what they do.

    The other adversarial ones are those that leave the prediction right, and those of images that
    are misclassified anyway.

    Each class has its number in the middle of its clean points, and its name in the legend where
    there are 12 of them or fewer.

    Args:
      latents: by the model's name.
      maps: (2n, 2) of each, from `embed`.
      with_entropy: adds the entropy of the prediction as a third axis.
      title: above all.
      class_names: by label, where they are known.
    """
    style.check_named(latents, "features")
    count = len(latents)
    numbers: set[int] = set()
    columns = min(count, 2)
    rows = -(-count // columns)
    height = 0.4 + (2.5 if with_entropy else 3.0) * rows + 0.25 * bool(title)
    figure = style.new_figure(style.PAGE if columns > 1 else style.COLUMN, height)
    looks = style.looks(latents)
    top = max(float(one.entropy.max()) for one in latents.values())
    for position, (name, latent) in enumerate(latents.items()):
        kind = {"projection": "3d"} if with_entropy else {}
        axes: Any = figure.add_subplot(rows, columns, position + 1, **kind)
        others = latent.adversarial & ~latent.fooling
        for chosen, role, marker, size, alpha in (
            (others, "adversarial", "+", 7, 0.45),
            (~latent.adversarial, "clean", "o", 5, 0.8),
            (latent.fooling, "fooling", "^", 14, 0.95),
        ):
            where = [*maps[name][chosen].T]
            if with_entropy:
                where.append(latent.entropy[chosen])
            lines = 0.4 if marker == "+" else 0
            color = style.ROLES[role]
            axes.scatter(*where, s=size, marker=marker, c=color, lw=lines, alpha=alpha)
        if with_entropy:
            axes.set(zlim=(0, top), zlabel="entropy (nats)", xticklabels=[], yticklabels=[])
            axes.zaxis.labelpad = -4
            axes.tick_params(pad=-2, labelsize=6)
            axes.view_init(elev=18, azim=-60)
            axes.set_box_aspect((1, 1, 0.7), zoom=1.15)
        else:
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set_visible(True)
            numbers |= _number_classes(axes, latent, maps[name])
        style.method_title(axes, name, looks[name])
    if title:
        figure.suptitle(title)
    from matplotlib.lines import Line2D

    kinds = [
        Line2D([], [], ls="", marker=marker, color=style.ROLES[role], label=label)
        for role, marker, label in (
            ("clean", "o", "clean"),
            ("fooling", "^", "adversarial, fools"),
            ("adversarial", "+", "adversarial, other"),
        )
    ]
    classes = style.class_handles(numbers, class_names)
    style.legend_below(figure, kinds)
    if classes:
        figure.set_figwidth(figure.get_figwidth() + 1.1)
        figure.legend(handles=classes, loc="outside right center")
    return figure


def class_middles(latent: Latent, map_: np.ndarray) -> dict[int, np.ndarray]:
    """Of each class with clean images the clean point (2,) of the map in the middle of its own."""
    middles = {}
    for label in np.unique(latent.labels):
        own = map_[~latent.adversarial & (latent.labels == label)]
        if len(own):
            nearest = np.linalg.norm(own - np.median(own, 0), axis=1).argmin()
            middles[int(label)] = own[nearest]
    return middles


def _number_classes(axes: Any, latent: Latent, map_: np.ndarray) -> set[int]:
    """Writes the number of each class into the map; which there are."""
    middles = class_middles(latent, map_)
    for label, middle in middles.items():
        axes.annotate(
            str(label),
            middle,
            ha="center",
            va="center",
            weight="bold",
            fontsize=8,
            bbox={"boxstyle": "circle,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85},
        )
    return set(middles)


def _nearest(
    among: np.ndarray, of: np.ndarray, without: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the k nearest rows of `among`, and their numbers, both (m, k).

    Args:
      among: (r, d).
      of: (m, d).
      without: int (m, w), for each the rows of `among` that do not count.
      k: >= 1, at most r - w.
    """
    from sklearn.neighbors import NearestNeighbors

    most = k + without.shape[1]
    distances, rows = NearestNeighbors(n_neighbors=most).fit(among).kneighbors(of)
    left_out = (rows[:, :, None] == without[:, None]).any(-1)
    kept = np.argsort(left_out, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, kept, 1), np.take_along_axis(rows, kept, 1)


def _silhouette(features: np.ndarray, groups: np.ndarray) -> float:
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(groups)) < len(groups):
        return float("nan")
    return float(silhouette_score(features, groups))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
