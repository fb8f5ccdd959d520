"""The loss along collaborative, clean and adversarial steps (squeeze training, ST)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from robust_tf.evaluation import LossProfile, loss_profile
from robust_tf.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LossProfile", "draw_profiles", "loss_profile", "path_of"]


def path_of(profile: LossProfile) -> tuple[np.ndarray, np.ndarray]:
    """One way from the most collaborative image through the clean one to the most adversarial.

    Returns:
      Steps, negative on the collaborative side, and mean losses in nats, (2 steps + 1,) each.
    """
    down, up = profile.collaborative.mean(1), profile.adversarial.mean(1)
    return np.arange(-len(down) + 1, len(up)), np.concatenate([down[:0:-1], up])


# In float32 the loss of a confident model is 0 or a multiple of this.
LEAST = 2.0**-23


@style.drawing
def draw_profiles(profiles: dict[str, LossProfile], title: str = "") -> Figure:
    """Mean loss of each model, by name, on a logarithmic scale.

    The distance between the ends is what squeeze training makes small; on this scale it is a ratio.
    Means below `LEAST` are drawn at it, where the axis then ends: they are rounding.
    """
    style.check_named(profiles, "loss profiles")
    figure = style.new_figure(style.COLUMN, 3.0)
    axes = figure.add_subplot()
    looks = style.looks(profiles)
    for name, profile in profiles.items():
        steps, values = path_of(profile)
        look = looks[name]
        axes.plot(
            steps,
            np.maximum(values, LEAST),
            color=look.color,
            ls=look.dash,
            marker=look.marker,
            markevery=max(len(steps) // 8, 1),
        )
    axes.axvline(0, color="#404040", lw=0.7, ls=style.DOTTED)
    axes.set(title=title, ylabel="mean cross-entropy (nats)")
    style.log_scale(axes)
    axes.set_xlabel("collaborative steps  ←  clean  →  adversarial steps")
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.grid(True)
    style.legend_below(figure, style.method_handles(looks), 3)
    return figure
