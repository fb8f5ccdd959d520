"""`bin/figures` on run folders, and what it says where something is missing."""

import json
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.colors import to_hex, to_rgb

from robust_tf import attacks, data, evaluation, files, runs
from robust_tf.attacks.randomness import as_seed, each
from robust_tf.cli.figures import KINDS, main
from robust_tf.evaluation import Evaluation, Outcome
from robust_tf.figures import curves, loss_surface, output, style, tensorboard
from robust_tf.models import MLP, MLPDiscriminator
from tests.tiny import tiny_network


@pytest.fixture(scope="module")
def folders(tmp_path_factory, small):
    """Two runs on images named digits, one on moons, one that has just begun."""
    root = tmp_path_factory.mktemp("runs")
    summary = {"data": {"name": "digits"}, "configuration": "eps = 0.3\n"}
    methods = {
        "adv": {"method": "AdversarialTraining", "weights": {"clean": 0.5}},
        "adr": {"method": "ADR", "weights": {"local": 1.0}},
        "points": {"method": "Standard", "data": {"name": "moons"}},
    }
    balls = {"PGD-9 eps=0.1": ["Linf", 0.1], "PGD-9 eps=0.3": ["Linf", 0.3]}
    outcomes = {name: Outcome(np.arange(10) < 9 - k) for k, name in enumerate(balls)}
    settings = {"attacks": {name: {} for name in balls}, "balls": balls}
    found = Evaluation(np.arange(10) < 9, outcomes, settings).to_json()
    row = {"epoch": 1, "loss": 1.0, "robust_accuracy": 0.5, "natural_accuracy": 0.7}
    for name, own in methods.items():
        (root / name).mkdir()
        network = MLP((2,), 2, (8,)) if name == "points" else small.network
        network.save(root / name / "model.keras")
        (root / name / "summary.json").write_text(json.dumps({**summary, **own}))
        (root / name / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        if name != "points":
            (root / name / "found.json").write_text(json.dumps({"evaluation": found}))
    (root / "begun").mkdir()
    (root / "begun" / "identity.json").write_text("{}")
    return root


@pytest.fixture(autouse=True)
def tiny_digits(monkeypatch, small):
    """The images that the small network knows, under the name of a dataset."""
    load = data.load

    def given(name, **arguments):
        if name != "digits":
            return load(name, **arguments)
        split = data.Split(small.x, small.y)
        return data.Data("digits", split, split.take(0), split, 3)

    monkeypatch.setattr(data.recorded, "load", given)


@pytest.mark.parametrize(
    "kind, arguments, said",
    [
        ("curves", [], "eps 0.3"),
        ("curves", ["--eps=0.1,0.3", "--steps=2"], "eps 0.1"),
        ("steps", ["--steps=0,1"], "1 steps"),
        ("surface", ["--around=fooling", "--steps=5"], "bend, ball"),
        ("latent", ["--steps=5"], "entropy_auroc"),
        ("profile", ["--steps=2"], "collaborative"),
        ("training", [], ""),
        ("bars", ["--bottom=0.5"], "PGD-9 eps=0.3"),
    ],
)
def test_kinds_of_several_runs(folders, tmp_path, capsys, kind, arguments, said):
    given = [f"--run_dir={folders / name}" for name in ("adv", "adr")]
    output = tmp_path / "a.png"
    assert main([kind, *given, *arguments, f"--output={output}"]) == 0, capsys.readouterr().err
    assert output.read_bytes()[1:4] == b"PNG"
    out = capsys.readouterr().out
    assert said in out and (not said or ("ADV" in out and "ADR LC" in out))


@pytest.fixture
def drawn(monkeypatch):
    """The figures that the command saves."""
    figures, save = [], output.save
    monkeypatch.setattr(output, "save", lambda f, *a: figures.append(f) or save(f, *a))
    return figures


def lines_of(figure):
    """Of each color the values of the lines in it, with two points or more, or one epoch."""
    found = {}
    for axes in figure.axes:
        for line in axes.get_lines():
            values = np.asarray(line.get_ydata(), float).tolist()
            found.setdefault(to_hex(line.get_color()).upper(), []).append(values)
    return found


def test_the_numbers_of_the_runs_are_what_is_drawn(folders, tmp_path, drawn):
    """Of the evaluations in `folders`: 9 of 10, 9 of 10 at eps 0.1, 8 of 10 at 0.3; ADR has 7."""
    run = tmp_path / "adr"
    shutil.copytree(folders / "adr", run)
    report = files.read_json(run / "found.json")
    report["evaluation"]["attacks"]["PGD-9 eps=0.3"]["broken"] = "7-8"
    (run / "found.json").write_text(json.dumps(report))
    row = {"epoch": 1, "loss": 3.0, "robust_accuracy": 0.25, "natural_accuracy": 0.625}
    (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    output = tmp_path / "a.png"
    both = [f"--run_dir={folders / 'adv'}", f"--run_dir={run}", f"--output={output}"]
    for kind in ("curves", "training", "bars"):
        assert main([kind, *both, "--overwrite"]) == 0
    curves, training, bars = drawn
    adv, adr = (style.looks(["ADV", "ADR LC"])[name].color.upper() for name in ("ADV", "ADR LC"))
    assert [0.9, 0.9, 0.8] in lines_of(curves)[adv] and [0.9, 0.9, 0.7] in lines_of(curves)[adr]
    for color, values in ((adv, (0.7, 0.5, 1.0)), (adr, (0.625, 0.25, 3.0))):
        assert [[value] in lines_of(training)[color] for value in values] == [True] * 3
    heights = {}
    for patch in bars.axes[0].patches:
        heights.setdefault(to_hex(patch.get_facecolor()).upper(), []).append(patch.get_height())
    assert heights[adv] == pytest.approx([0.9, 0.9, 0.8, 0.8])
    assert heights[adr] == pytest.approx([0.9, 0.9, 0.7, 0.7])
    pixels = pixels_of(output)
    for color in (adv, adr):  # the bars are in the file, in the colors of their methods
        there = np.abs(pixels - np.array(to_rgb(color))).max(-1) < 0.01
        assert there.mean() > 0.01, color


def pixels_of(path):
    """The pixels of a PNG in [0, 1], without alpha."""
    return tf.io.decode_png(path.read_bytes(), channels=3).numpy() / 255


@pytest.mark.parametrize("kind, run", [("grid", "adv"), ("plane", "points")])
def test_kinds_of_one_run(folders, tmp_path, kind, run):
    given = [kind, f"--run_dir={folders / run}", "--examples=6", "--steps=2"]
    assert main([*given, f"--output={tmp_path / 'a.svg'}"]) == 0


@pytest.mark.parametrize("given, drawn", [("--eps=0.3,0.1,0.3", 3), ("--steps=4,1,1", 2)])
def test_lists_are_sorted(folders, tmp_path, monkeypatch, given, drawn):
    seen = []
    draw = curves.draw_curves
    monkeypatch.setattr(curves, "draw_curves", lambda *a, **k: seen.append(a[0]) or draw(*a, **k))
    kind = "curves" if given.startswith("--eps") else "steps"
    steps = ["--steps=1"] * (kind == "curves")
    run = [kind, f"--run_dir={folders / 'adv'}", given, *steps]
    assert main([*run, f"--output={tmp_path / 'a.png'}"]) == 0
    x = seen[0]["ADV"].x
    assert len(x) == drawn and (np.diff(x) > 0).all()


@pytest.fixture
def mixed(folders, tmp_path):
    """A run of ATLD with results of other things, and with two files that cannot be read."""
    run = tmp_path / "atld"
    shutil.copytree(folders / "adv", run)
    (run / "summary.json").write_text(
        json.dumps({"method": "ATLD", "data": {"name": "digits"}, "configuration": "eps = 0.3\n"})
    )
    MLPDiscriminator(3, 3, hidden=(4,)).save(run / "discriminator.keras")
    report = files.read_json(run / "found.json")
    worse = Evaluation(np.arange(10) < 2, {}, {"attacks": {}}).to_json()
    own = files.read_json(run / "summary.json")
    own["evaluation"] = {**worse, "model": "a"}
    (run / "summary.json").write_text(json.dumps(own))
    (run / "part.json").write_text(json.dumps({"evaluation": {**worse, "shard": [1, 2]}}))
    (run / "weights.json").write_text(json.dumps({"evaluation": {**worse, "model": "b"}}))
    for name, other in {
        "imt": {"inference": {"kind": "imt"}},
        "else": {"data": {"name": "mnist"}},
        "val": {"data": {"name": "digits", "split": "validation"}},
        "best": {"model": "best.keras"},
    }.items():
        (run / f"{name}.json").write_text(json.dumps({"evaluation": worse, **other}))
    (run / "old.json").write_text(json.dumps({"evaluation": {"accuracy": 1}}))
    (run / "cut.json").write_text(json.dumps(report)[:50])
    return run


def test_results_of_other_things_are_left_out(mixed):
    run = runs.read_run(mixed)
    assert list(run.evaluations) == ["summary.json", "found.json"]
    said = " ".join(run.left_out)
    assert "old.json is left out" in said and "cut.json is not JSON" in said
    assert any("old.json" in note for note in run.notes)
    assert run.others == {
        "best.json": "of the model best.keras",
        "else.json": "on mnist",
        "imt.json": "with inference imt",
        "part.json": "on the shard 1/2",
        "val.json": "on the validation split",
        "weights.json": "of other weights (fingerprint b, the run's a)",
    }
    assert len(run.evaluation("else.json")) == 10
    with pytest.raises(ValueError, match="old.json cannot be read"):
        run.evaluation("old.json")


def test_bars_of_what_is_asked_for(mixed, tmp_path, capsys):
    given = ["bars", f"--run_dir={mixed}", f"--output={tmp_path / 'a.png'}"]
    assert main(given) == 0
    out, err = capsys.readouterr()
    assert "90.00 %" in out and "20.00 %" not in out
    assert "warning: " in err and "old.json" in err
    for name in ("else", str(mixed / "else.json")):
        assert main([*given, f"--evaluation={name}"]) == 0 and "20.00 %" in capsys.readouterr().out
    assert main([*given, "--inference=imt"]) == 0
    out = capsys.readouterr().out
    assert "ATLD (IMT)" in out and "20.00 %" in out and "90.00 %" in out
    assert "PGD-9 eps=0.3" in out  # which the one behind the transformation has not
    for name in ("found", "weights"):  # without the run's own result nothing tells the second
        (mixed / f"{name}.json").unlink()
    summary = files.read_json(mixed / "summary.json")
    (mixed / "summary.json").write_text(json.dumps({**summary, "evaluation": None}))
    assert main(given) == 2
    assert (
        "(--evaluation names best.json of the model best.keras, else.json"
        in capsys.readouterr().err
    )


def test_curves_with_the_transformation_in_front(mixed, tmp_path, capsys, small):
    """Attacked through it, and by an adversary who does not know of it: by plain calls."""
    (mixed / "a.png").write_bytes(b"")
    given = [f"--run_dir={mixed}", "--inference=imt", "--delta=0.1", "--overwrite"]
    given += [f"--output={mixed / 'a.png'}"]
    assert main(["curves", *given, "--eps=0.05,0.2", "--steps=2"]) == 0
    out, err = capsys.readouterr()
    assert "imt: delta 0.1" in err
    assert main(["steps", *given, "--eps=0.2", "--steps=2"]) == 0
    model = runs.load_inference(mixed, "imt", delta=0.1)
    behind = evaluation.bpda(model)

    def right(judge, source, eps, size):
        attack = attacks.PGD(eps, size, 2)
        x_adv = attack(source, small.x, small.y, seed=each(as_seed(0), len(small.y)))
        kept = [np.argmax(judge(x), 1) == small.y for x in (tf.constant(small.x), x_adv)]
        return f"{100 * np.logical_and(*kept).mean():.1f}"

    pairs = {  # by the name in the figure
        "ATLD": (small.network, small.network),
        "ATLD (IMT)": (behind, behind),
        "ATLD (IMT, oblivious)": (behind, small.network),
    }
    assert re.split("  +", out.splitlines()[0].strip()) == list(pairs)
    for eps in (0.05, 0.2):
        row = next(line for line in out.splitlines() if line.startswith(f"eps {eps}"))
        values = row.split(str(eps), 1)[1].replace("%", "").split()
        assert values == [right(*pair, eps, 0.1 * eps) for pair in pairs.values()]
    row = capsys.readouterr().out.splitlines()[-1]
    values = row.removeprefix("2 steps").replace("%", "").split()
    assert values == [right(*pair, 0.2, 0.02) for pair in pairs.values()]


def test_curves_of_a_defended_evaluation(mixed, tmp_path, capsys):
    """All attacks, and the oblivious ones alone: 9, 8 and 5 of 10 are right, 9, 8 and 8."""
    rights = {"oblivious: a": 8, "oblivious: b": 9, "adaptive: a": 5}
    outcomes = {name: Outcome(np.arange(10) < count) for name, count in rights.items()}
    balls = {name: ["Linf", 0.05 if name.endswith("b") else 0.1] for name in rights}
    settings = {"attacks": {name: {} for name in rights}, "balls": balls}
    found = Evaluation(np.arange(10) < 9, outcomes, settings).to_json()
    content = {"inference": {"kind": "imt"}, "evaluation": found}
    (mixed / "imt.json").write_text(json.dumps(content))
    given = ["curves", f"--run_dir={mixed}", "--inference=imt", f"--output={tmp_path / 'a.png'}"]
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        draw = curves.draw_curves
        patch.setattr(curves, "draw_curves", lambda *a, **k: seen.append(a[0]) or draw(*a, **k))
        assert main(given) == 0
    shown = {name: one.accuracy.tolist() for name, one in seen[0].items()}
    assert shown["ATLD (IMT)"] == [0.9, 0.9, 0.5]
    assert shown["ATLD (IMT, oblivious)"] == [0.9, 0.9, 0.8]


@pytest.mark.parametrize("around, eps", [("fooling", 0.25), ("failing", 0.12)])
def test_surfaces_around_each_models_own_images(folders, tmp_path, small, monkeypatch, around, eps):
    """Those of both models, where both fool, or both fail; by plain calls."""
    other = tiny_network(seed=5)
    other.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    other.fit(small.x, small.y, epochs=60, batch_size=24, verbose=0)
    run = tmp_path / "other"
    shutil.copytree(folders / "adr", run)
    other.save(run / "model.keras")
    seen = []
    compute = loss_surface.compute_surfaces

    def note(model, x, y, *arguments, **options):
        seen.append((x, y))
        return compute(model, x, y, *arguments, **{**options, "points": 5})

    monkeypatch.setattr(loss_surface, "compute_surfaces", note)
    given = ["surface", f"--run_dir={folders / 'adv'}", f"--run_dir={run}", f"--eps={eps}"]
    given += ["--steps=5", f"--around={around}", f"--output={tmp_path / 'a.png'}"]
    assert main([*given, "--own"]) == 0
    attack, seeds = attacks.PGD(eps, eps / 10, 5), each(as_seed(0), len(small.y))
    made, chosen = [], np.ones(len(small.y), bool)
    for network in (small.network, other):
        x_adv = np.asarray(attack(network, small.x, small.y, seed=seeds))
        before, after = (np.argmax(network(x), 1) == small.y for x in (small.x, x_adv))
        chosen &= before & (after if around == "failing" else ~after)
        made.append(x_adv)
    assert 0 < chosen.sum() < len(small.y) and len(seen) == 2
    for x_adv, (x, y) in zip(made, seen, strict=True):
        np.testing.assert_allclose(x, x_adv[chosen], atol=1e-6)
        np.testing.assert_array_equal(y, small.y[chosen])
    assert not np.allclose(seen[0][0], seen[1][0])


def test_a_figure_is_replaced_and_any_other_file_kept(folders, tmp_path, capsys):
    for ending in ("png", "svg", "pdf"):
        output = tmp_path / f"a.{ending}"
        given = ["training", f"--run_dir={folders / 'adv'}", f"--output={output}"]
        assert main(given) == 0 and f"written to {output}" in capsys.readouterr().err
        first = output.read_bytes()
        assert main(given) == 0 and f"replaced {output}" in capsys.readouterr().err
        output.write_text("years of work")
        assert main(given) == 2 and "is not a figure of this command" in capsys.readouterr().err
        assert output.read_text() == "years of work"
        assert main([*given, "--overwrite"]) == 0 and output.read_bytes() == first


def test_data_that_a_summary_leaves_open(folders, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(folders / "adv", run)
    (run / "summary.json").write_text(json.dumps({"data": None, "configuration": "eps = 0.3"}))
    given = ["latent", f"--run_dir={run}", f"--output={tmp_path / 'a.png'}"]
    assert main(given) == 2 and "the runs do not say" in capsys.readouterr().err


def test_projector(folders, tmp_path, capsys, small, monkeypatch):
    given = ["projector", f"--run_dir={folders / 'adv'}", f"--output={tmp_path / 'log'}"]
    assert main(given) == 0
    vectors = np.loadtxt(tmp_path / "log/features.tsv", delimiter="\t")
    np.testing.assert_allclose(vectors[:24], small.latent.features[:24], rtol=1e-3, atol=1e-4)
    rows = (tmp_path / "log/metadata.tsv").read_text().splitlines()
    assert rows[0].split("\t") == ["label", "predicted", "kind", "entropy"] and len(rows) == 49
    from google.protobuf import text_format
    from tensorboard.plugins.projector import ProjectorConfig

    config = text_format.Parse(
        (tmp_path / "log/projector_config.pbtxt").read_text(), ProjectorConfig()
    )
    assert config.embeddings[0].sprite.single_image_dim == [8, 8]
    picture = tensorboard.sprite(small.x[:3])
    assert picture.shape == (16, 16, 1) and (picture[8:, 8:] == 255).all()
    np.testing.assert_allclose(picture[:8, 8:] / 255, small.x[1], atol=0.5 / 255 + 1e-6)
    from robust_tf.cli import figure_kinds

    monkeypatch.setattr(figure_kinds, "adversarial_at", None)  # told before anything is attacked
    assert main(given) == 2 and "not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["curve", "--run_dir={adv}"], "no figure 'curve'; did you mean curves"),
        (["curves"], "give --run_dir"),
        (["curves", "--run_dir={root}/none"], "there is no run folder"),
        (["curves", "--run_dir={points}"], "has no evaluation; make one: evaluate"),
        (["bars", "--run_dir={adv}", "--evaluation=aa"], "has no evaluation aa.json"),
        (["bars", "--run_dir={adv}", "--measures=PGD"], "no run has 'PGD'; they have natural"),
        (["training", "--run_dir={begun}"], "begun: There is no metrics.jsonl"),
        (["grid", "--run_dir={points}"], r"for points draw `plane`"),
        (["surface", "--run_dir={points}"], r"for points draw `plane`"),
        (["plane", "--run_dir={adv}"], r"needs points \(n, 2\)"),
        (["grid", "--run_dir={adv}", "--dataset=moons"], r"takes \(8, 8, 1\), .* \(2,\)"),
        (["grid", "--run_dir={adv}", "--run_dir={adr}"], "shows one run"),
        (["latent", "--run_dir={adv}", "--run_dir={points}"], "the runs are of digits, moons"),
        (["latent", "--run_dir={begun}"], "no eps"),
        (["latent", "--run_dir={adv}", "--eps=0.1,0.2"], "this figure takes one"),
        (["surface", "--run_dir={adv}", "--index=99"], "--index=99: there are 24"),
        (["surface", "--run_dir={adv}", "--own"], "--own goes with surface and --around=fooling"),
        (["grid", "--run_dir={adv}", "--own", "--around=fooling"], "--own goes with surface"),
        (
            ["surface", "--run_dir={adv}", "--own", "--around=fooling", "--eps=1e-6"],
            "no image among 24 whose adversarial images are fooling for all of ADV: raise",
        ),
        (["bars", "--run_dir={adv}", "--bottom=1"], "--bottom=1.0"),
        (["steps", "--run_dir={adv}", "--steps=1,2.5"], "--steps=1,2.5: must be whole numbers"),
        (["latent", "--run_dir={adv}", "--steps=2.5"], "must be whole numbers"),
        (["profile", "--run_dir={adv}", "--steps=0"], "--steps=0: must be >= 1"),
        (["curves", "--run_dir={adv}", "--inference=imt"], "no run has a discriminator.keras"),
        (["latent", "--run_dir={adv}", "--inference=imt"], "goes with curves, steps, bars"),
        (["bars", "--run_dir={adv}", "--inference=imt", "--evaluation=a"], "give one"),
        (["curves", "--run_dir={adv}", "--delta=0.1"], "--delta belongs to --inference"),
        (["projector", "--run_dir={adv}", "--overwrite"], "takes a new folder"),
    ],
)
def test_errors_say_what_to_do(folders, tmp_path, capsys, arguments, message):
    named = {name: folders / name for name in ("adv", "adr", "points", "begun")}
    given = [text.format(root=folders, **named) for text in arguments]
    assert main([*given, f"--output={tmp_path / 'a.png'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and len(error.splitlines()) == 1
    assert re.search(message, error), error
    assert not list(tmp_path.iterdir())


def test_unknown_ending_is_told_before_anything_is_computed(folders, tmp_path, capsys):
    given = ["latent", f"--run_dir={folders / 'none'}", f"--output={tmp_path / 'a.jpg'}"]
    assert main(given) == 2 and ".svg, .pdf, .png" in capsys.readouterr().err


def test_twins_have_names_of_their_own(folders):
    found = runs.read_runs([str(folders / "adv"), str(folders / "adv") + "/", str(folders / "adr")])
    assert list(found)[0] == "ADV (adv)" and list(found)[2] == "ADR LC" and len(found) == 3


def test_every_kind_is_made_and_told():
    from robust_tf.cli.figure_kinds import MAKERS

    assert {*MAKERS, "projector"} == set(KINDS)
