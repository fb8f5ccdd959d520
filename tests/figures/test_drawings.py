"""What is drawn: axes, labels, legends; in the style, and nothing of the caller's is touched."""

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox

from robust_tf.evaluation import LossProfile
from robust_tf.figures import (
    bars,
    curves,
    grids,
    latent,
    loss_surface,
    output,
    plane,
    profile,
    style,
    training,
)

CURVE = curves.curve_of([0, 0.1, 0.2], [9, 6, 2], 10)


def legend(figure: Figure) -> list[str]:
    [found] = figure.legends
    return [text.get_text() for text in found.get_texts()]


def test_curves():
    figure = curves.draw_curves({"ADV": CURVE, "ADR LC": CURVE}, "eps", "title", trained_at=0.1)
    [axes] = figure.axes
    assert isinstance(figure, Figure) and legend(figure) == ["ADV", "ADR LC"]
    assert (axes.get_xlabel(), axes.get_title()) == ("eps", "title")
    assert axes.get_ylabel() == "robust accuracy"
    line = axes.get_lines()[0]
    np.testing.assert_allclose(line.get_ydata(), [0.9, 0.6, 0.2])
    assert line.get_color() == style.METHODS["ADV"].color
    with pytest.raises(ValueError, match="nothing to draw"):
        curves.draw_curves({})


def test_bars(texts):
    one, two = bars.bar_of(np.arange(10) < 9), bars.bar_of(np.arange(10) < 1)
    figure = bars.draw_bars({"ADV": {"natural": one, "PGD": two}, "TRADES": {"natural": one}}, 0.5)
    [axes] = figure.axes
    heights = [patch.get_height() for patch in axes.patches]
    assert heights == pytest.approx([0.4, 0, 0.4]) and legend(figure) == ["ADV", "TRADES"]
    assert "axis begins at 50 %" in axes.get_ylabel() and "10.0" in texts(figure)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["natural", "PGD"]
    with pytest.raises(ValueError, match=r"bottom=1.5: must be in \[0, 1\)"):
        bars.draw_bars({"ADV": {"natural": one}}, 1.5)


def test_profiles():
    one = LossProfile(np.array([[1.0, 3], [0.5, 1]]), np.array([[1.0, 3], [4, 6]]))
    figure = profile.draw_profiles({"ST": one})
    [axes] = figure.axes
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), [0.75, 2, 5])
    assert "collaborative" in axes.get_xlabel() and legend(figure) == ["ST"]
    none = LossProfile(np.zeros((2, 2)), np.array([[0.0, 0], [1, 1]]))
    [axes] = profile.draw_profiles({"ST": none}).axes
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), [profile.LEAST] * 2 + [1])


@pytest.mark.parametrize("count", [1, 2])
def test_training(count, texts):
    metrics = {name: np.array([1.0, 0.5]) for name in ("loss", "clean", "robust_accuracy")}
    metrics |= {"epoch": np.array([1.0, 2]), "val_robust_accuracy": np.array([np.nan, 0.4])}
    figure = training.draw_training(dict(list({"ADV": metrics, "AT": metrics}.items())[:count]))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["natural accuracy", "robust accuracy"]
    assert titles[2] == ("loss and its terms" if count == 1 else "loss")
    assert ("clean" in texts(figure)) == (count == 1)
    assert legend(figure) == [*["ADV", "AT"][:count], "validation", "training batches"]
    twins = training.draw_training({"ADV (a)": metrics, "ADV (b)": metrics}).axes[2].get_lines()
    assert twins[0].get_marker() != twins[1].get_marker()
    assert twins[0].get_linestyle() != twins[1].get_linestyle()


def test_surfaces(small, texts):
    found = loss_surface.compute_surfaces(small.network, small.x_adv[:2], small.y[:2], 0.2, 5)
    figure = loss_surface.draw_surfaces({"ADV": found, "ADR LC": found}, 1)
    assert len(figure.axes) == 6
    written = texts(figure)
    for text in ("ADV", "ADR LC", "gradient's sign", "random", "loss (nats)", "true class 1"):
        assert text in written
    title = figure.axes[0].title
    assert title.get_color() == "black"  # the method's color, too light for text, is its marker's
    [marker] = [a for a in figure.axes[0].artists if isinstance(a, AnnotationBbox)]
    assert marker.offsetbox.get_children()[0].get_color() == style.METHODS["ADV"].color
    unknown = loss_surface.draw_surfaces({"mine": found, "yours": found})
    colors = {a.offsetbox.get_children()[0].get_color()
               for axes in unknown.axes for a in axes.artists}  # fmt: skip
    assert len(colors) == 2
    with pytest.raises(ValueError, match=r"index=2: must be in 0 .. 1"):
        loss_surface.draw_surfaces({"ADV": found}, 2)


@pytest.mark.parametrize("with_entropy", [False, True])
def test_latent(small, texts, with_entropy):
    place = np.random.default_rng(0).normal(size=(48, 2))
    figure = latent.draw_latent({"ADV": small.latent}, {"ADV": place}, with_entropy, "above")
    [axes] = figure.axes
    sizes = [len(points.get_offsets()) for points in axes.collections]
    fooling = int(small.latent.fooling.sum())
    assert sizes == [24 - fooling, 24, fooling] and axes.get_title() == "ADV"
    assert figure.get_suptitle() == "above"
    assert legend(figure) == ["clean", "adversarial, fools", "adversarial, other"]
    assert ("entropy (nats)" in texts(figure)) == with_entropy


@pytest.mark.parametrize("channels", [1, 3])
def test_grids(small, texts, channels):
    found = grids.compute_grid(small.network, small.x, small.y, small.x_adv)
    found = found._replace(
        clean=np.repeat(found.clean, channels, -1),
        adversarial=np.repeat(found.adversarial, channels, -1),
    )
    figure = grids.draw_grid(found, columns=5)
    assert len(figure.axes) == 15
    assert figure.axes[0].get_ylabel() == "clean" and "3.33" in figure.axes[5].get_ylabel()
    wrong = (found.predictions[:5] != found.labels[:5]).sum()
    assert texts(figure).count("✗") == wrong
    with pytest.raises(ValueError, match="no images"):
        grids.draw_grid(grids.Grid(*[field[:0] for field in found]))


def test_names_of_classes(small, texts):
    names = ("cat", "a dog of \n many words", "$x^2$ & _")
    found = grids.compute_grid(small.network, small.x, small.y, small.x_adv)
    figure = grids.draw_grid(found, "above", 6, names)
    shown = ["cat", "a dog of many w…", r"\$x^2\$ & _"]
    tops = [axes.get_title() for axes in figure.axes[:6]]
    assert tops == [shown[label] for label in found.labels[:6]] and set(tops) == set(shown)
    below = [axes.get_xlabel() for axes in figure.axes[12:]]
    for text, prediction, sure in zip(below, found.predictions, found.confidence, strict=False):
        assert text.startswith(f"{shown[prediction]}\n{100 * sure:.0f} %")
    place = np.random.default_rng(0).normal(size=(48, 2))
    figure = latent.draw_latent({"ADV": small.latent}, {"ADV": place}, class_names=names)
    kinds, classes = figure.legends
    assert [text.get_text() for text in classes.get_texts()] == shown
    assert [text.get_text() for text in kinds.get_texts()][0] == "clean"
    texts(figure)  # is drawn
    many = small.latent._replace(labels=np.arange(48) % 24)
    figure = latent.draw_latent(
        {"ADV": many}, {"ADV": place}, class_names=[*"abcdefghijklmnopqrstuvwx"]
    )
    assert len(figure.legends) == 1
    found = loss_surface.compute_surfaces(small.network, small.x[:1], small.y[:1], 0.2, 5)
    written = texts(loss_surface.draw_surfaces({"ADV": found}, class_names=names))
    assert f"true class\n{shown[small.y[0]]}" in written


def test_planes(texts):
    found = plane.compute_plane(lambda x: 9 * (x - 0.5), points=20)
    points, labels = np.random.default_rng(0).random((9, 2)), np.arange(9) % 2
    moved = plane.Moved(points, points + 0.1, labels)
    rows = [
        [plane.Panel("one", found, points=points, labels=labels), plane.Panel("two", moved=moved)],
        [plane.Panel("three", boundary=found, naturalness=(found, found.probabilities[..., 0]))],
    ]
    figure = plane.draw_planes(rows, ("first", "second"), {"own": "-", "other": "--"}, "above")
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == [
        "one", "two", "three",
    ]  # fmt: skip
    assert legend(figure) == ["own", "other"] and "second" in texts(figure)
    assert figure.get_suptitle() == "above"


def test_one_look_for_a_method_whatever_else_is_drawn():
    alone, among = style.looks(["ADV"]), style.looks(["Standard", "mine", "ADV"])
    assert alone["ADV"] == among["ADV"] == style.METHODS["ADV"]
    colors = [look.color for look in among.values()]
    assert len(set(colors)) == 3
    twins = style.looks(["ADV (a)", "ADV (b)", "ADV (c)"])
    assert len(set(twins.values())) == 3 and len({k.color for k in twins.values()}) == 1
    fills = style.fills(["ADV (a)", "ADV (b)", "TRADES"])
    assert fills["ADV (a)"]["facecolor"] == fills["ADV (b)"]["facecolor"]
    assert [fill["hatch"] for fill in fills.values()] == ["", "////", ""]
    assert len({look.color for look in style.METHODS.values()}) == len(style.METHODS)
    assert len(style.looks([f"model {n}" for n in range(40)])) == 40


def test_colours_stay_apart_for_the_colour_blind():
    """In Viénot's simulation no two methods of the papers' comparisons come close.

    Markers and dashes tell the rest apart.
    """
    names = ["Standard", "ADV", "TRADES", "ADR LC", "ADR LC/GB", "ADR LC/GB/CA", "ATLD", "ST"]
    rgb = np.array([matplotlib.colors.to_rgb(style.METHODS[name].color) for name in names])
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    deuteranope = [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]
    protanope = [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]
    for kind in (deuteranope, protanope):
        seen = np.clip(linear @ np.array(kind).T, 0, 1) ** (1 / 2.2)
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + 9 * np.eye(len(names))
        close = apart.min(), [names[k] for k in np.unravel_index(apart.argmin(), apart.shape)]
        assert close[0] > 0.1, close


@pytest.mark.parametrize("ending", output.FORMATS)
def test_files_are_of_their_kind_and_the_same_each_time(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    contents = []
    for _ in range(2):
        output.save(curves.draw_curves({"ADV": CURVE}), path)
        contents.append(path.read_bytes())
    starts = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}
    assert contents[0] == contents[1] and contents[0].startswith(starts[ending])
    for name in ("a.gif", "a"):
        with pytest.raises(ValueError, match=r"written as one of .svg, .pdf, .png"):
            output.save(curves.draw_curves({"ADV": CURVE}), tmp_path / name)


def test_missing_matplotlib_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r'pip install "robust_tf\[figures\]"'):
        curves.draw_curves({"ADV": CURVE})
    monkeypatch.undo()


def test_settings_of_the_caller_are_not_used(monkeypatch):
    with matplotlib.rc_context({"font.size": 30, "axes.titlesize": 40}):
        figure = curves.draw_curves({"ADV": CURVE}, title="a")
    assert figure.axes[0].title.get_fontsize() == style.PARAMETERS["axes.titlesize"]
