"""Features of clean and adversarial images on one map, and their entropy (ADR Fig. 4, 5, 10).

An adversarial image that fools the model is called positive in the paper, one that does not
negative. Here they are called by what they do: `fooling`, and the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from robust_tf.figures import style
from robust_tf.figures.forward import Model, entropy, outputs_at

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
    fooling_silhouette: of fooling examples against all others; the higher, the further apart.
    fooling_purity: share of fooling or not fooling adversarial images among the 10 nearest
      neighbours of a fooling one; the share among all rows is `adversarial_share`, chance.
    density_auroc: telling fooling examples from clean ones by the distance to the 10th nearest
      clean feature, 0.5 is chance; 1 says that they lie where no clean image does.
    entropy_auroc: telling fooling examples from clean ones by the entropy.
    entropy_auroc_all: telling all adversarial images from clean ones by the entropy.
    clean_entropy, fooling_entropy: means in nats.
    """

    examples: int
    fooling: int
    class_silhouette: float
    fooling_silhouette: float
    fooling_purity: float
    adversarial_share: float
    density_auroc: float
    entropy_auroc: float
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
      ValueError: fewer than 5 rows.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    n, d = features.shape
    if n < 5:
        raise ValueError(f"{n} examples are too few for a map; give 5 or more.")
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
    from sklearn.neighbors import NearestNeighbors

    clean, fooling = ~latent.adversarial, latent.fooling
    z, count = latent.features, int(fooling.sum())
    density = purity = float("nan")
    k = min(neighbours, int(clean.sum()) - 1)
    if count and k >= 1:
        near = NearestNeighbors(n_neighbors=k + 1).fit(z[clean])
        own = near.kneighbors(z[clean])[0][:, k]  # the nearest is the image itself
        theirs = near.kneighbors(z[fooling])[0][:, k - 1]
        density = auroc(theirs, own)
        joint = NearestNeighbors(n_neighbors=k + 1).fit(z).kneighbors(z[fooling])[1]
        rows = np.flatnonzero(fooling)[:, None]
        purity = float(latent.adversarial[joint][joint != rows].mean())
    return LatentNumbers(
        examples=int(clean.sum()),
        fooling=count,
        class_silhouette=_silhouette(z[clean], latent.labels[clean]),
        fooling_silhouette=_silhouette(z, fooling),
        fooling_purity=purity,
        adversarial_share=float(latent.adversarial.mean()),
        density_auroc=density,
        entropy_auroc=auroc(latent.entropy[fooling], latent.entropy[clean]),
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


@style.drawing
def draw_latent(
    latents: dict[str, Latent], maps: dict[str, np.ndarray], with_entropy: bool = False
) -> Figure:
    """For each model by name its map: clean points grey, adversarial ones by what they do.

    Each class has its number in the middle of its clean points.

    Args:
      latents: by the model's name.
      maps: (2n, 2) of each, from `embed`.
      with_entropy: adds the entropy of the prediction as a third axis.
    """
    style.check_named(latents, "features")
    count = len(latents)
    columns = min(count, 2)
    rows = -(-count // columns)
    height = 0.4 + (2.5 if with_entropy else 3.0) * rows
    figure = style.new_figure(style.PAGE if columns > 1 else style.COLUMN, height)
    looks = style.looks(latents)
    top = max(float(one.entropy.max()) for one in latents.values())
    for position, (name, latent) in enumerate(latents.items()):
        kind = {"projection": "3d"} if with_entropy else {}
        axes: Any = figure.add_subplot(rows, columns, position + 1, **kind)
        fails = latent.adversarial & ~latent.fooling
        for chosen, role, marker, size in (
            (~latent.adversarial, "clean", "o", 5),
            (fails, "adversarial", "+", 9),
            (latent.fooling, "fooling", "^", 13),
        ):
            where = [*maps[name][chosen].T]
            if with_entropy:
                where.append(latent.entropy[chosen])
            lines = 0.6 if marker == "+" else 0
            axes.scatter(*where, s=size, marker=marker, c=style.ROLES[role], lw=lines, alpha=0.85)
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
            _number_classes(axes, latent, maps[name])
        axes.set_title(name, color=looks[name].colour, weight="bold")
    from matplotlib.lines import Line2D

    style.legend_below(
        figure,
        [
            Line2D([], [], ls="", marker=marker, color=style.ROLES[role], label=label)
            for role, marker, label in (
                ("clean", "o", "clean"),
                ("adversarial", "+", "adversarial, does not fool"),
                ("fooling", "^", "adversarial, fools"),
            )
        ],
    )
    return figure


def _number_classes(axes: Any, latent: Latent, map_: np.ndarray) -> None:
    """Each class at the clean point that lies in the middle of its own."""
    for label in np.unique(latent.labels):
        own = map_[~latent.adversarial & (latent.labels == label)]
        if len(own):
            middle = own[np.linalg.norm(own - np.median(own, 0), axis=1).argmin()]
            axes.annotate(
                str(label),
                middle,
                ha="center",
                va="center",
                weight="bold",
                fontsize=8,
                bbox={"boxstyle": "circle,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85},
            )


def _silhouette(features: np.ndarray, groups: np.ndarray) -> float:
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(groups)) < len(groups):
        return float("nan")
    return float(silhouette_score(features, groups))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
