"""A network that has collapsed: the commands say so, and draw nothing of data without variance."""

import json

import numpy as np
import pytest

from robust_tf import data
from robust_tf.cli import figures, report
from robust_tf.figures.forward import check_varies
from robust_tf.figures.latent import embed
from tests.report.conftest import Thirds, make_run
from tests.report.outline import Outline
from tests.tiny import tiny_network


@pytest.fixture(autouse=True)
def thirds(monkeypatch):
    """The images of the runs here, under the name that they have in them."""
    monkeypatch.setattr(data.recorded, "load", lambda name, **arguments: Thirds()(None))


@pytest.fixture(params=[0.0, float("nan")], ids=["constant", "nan"])
def collapsed(request, tmp_path):
    """The folder of a run whose features and logits are the same for all images, or no numbers."""
    folder = make_run(tmp_path / "run")
    network = tiny_network()
    network.set_weights([np.full_like(weight, request.param) for weight in network.get_weights()])
    network.save(f"{folder}/model.keras")
    return folder, np.isnan(request.param)


def test_the_report_says_so_and_completes(collapsed, tmp_path, capsys):
    folder, is_nan = collapsed
    output = tmp_path / "page.html"
    assert report.main([f"--run_dir={folder}", "--examples=24", f"--output={output}"]) == 0
    what = "are not numbers" if is_nan else "it predicts class 0 for all 24 test images"
    assert f"The network has collapsed: {what}" in capsys.readouterr().err.replace(
        "its outputs on all 24 test images ", ""
    )
    outline = Outline(output.read_text())
    for section in ("short", "missing"):
        text = outline.by_id(section)[2]
        assert "The network has collapsed" in text and "lower train.learning_rate" in text
    assert "Nothing is drawn of the features: the features are" in outline.by_id("missing")[2]
    drawn = {spec["id"] for spec in json.loads(outline.by_id("charts")[2])}
    assert not any("features" in name or "surface" in name for name in drawn), drawn
    assert {"chart-accuracies", "chart-training-natural"} <= drawn


@pytest.mark.parametrize("kind", ["latent", "surface"])
def test_figures_refuse_it_in_one_line(collapsed, tmp_path, capsys, kind):
    folder, is_nan = collapsed
    output = tmp_path / "a.png"
    given = [kind, f"--run_dir={folder}", "--steps=2", "--examples=24", f"--output={output}"]
    assert figures.main(given) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and not output.exists()
    assert ("not all numbers" if is_nan else "the network has collapsed") in said[0]


def test_figures_of_results_are_drawn_all_the_same(collapsed, tmp_path):
    folder, _ = collapsed
    for kind in ("bars", "training"):
        assert figures.main([kind, f"--run_dir={folder}", f"--output={tmp_path / kind}.png"]) == 0


def test_what_varies_and_what_does_not():
    draw = np.random.default_rng(0)
    flat = np.ones((40, 3)) * 1e3 + 1e-5 * draw.normal(size=(40, 3))  # the same but for rounding
    for values in (flat, np.zeros((40, 3))):
        with pytest.raises(ValueError, match="are the same for all examples"):
            embed(values.astype(np.float32))
    with pytest.raises(ValueError, match="are not all numbers"):
        embed(np.where(np.arange(40)[:, None] == 7, np.nan, draw.normal(size=(40, 3))))
    flat[:, 1] = np.arange(40)
    assert check_varies(flat, "features") and embed(flat.astype(np.float32)).shape == (40, 2)
