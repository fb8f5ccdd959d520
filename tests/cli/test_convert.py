"""`bin/convert`, and checkpoints where commands take a model, beside networks in PyTorch."""

import re

import keras
import numpy as np
import pytest

from robust_tf import data, evaluation, files, models
from robust_tf.cli import convert, evaluate, export
from robust_tf.evaluation import loading
from robust_tf.export import writer
from robust_tf.training.warm_start import start_from
from tests.data.places import published

torch = pytest.importorskip("torch", reason="PyTorch writes the checkpoints of these tests")
save_file = pytest.importorskip("safetensors.torch", reason="as PyTorch").save_file
networks = pytest.importorskip("tests.torch_networks")

SIDE = 8
WIDE = "--network=WideResNet(depth=10, width=1)"
SHAPE = f"--input_shape={SIDE},{SIDE},3"
STRIDED = "--network=StridedCNN(filters=[2, 3], hidden=5)"
FEW = ["--dataset=digits", "--max_examples=20", "--draw=first", "--no_checks", "--batch_size=20"]
FGSM = "--attacks=FGSM(eps=0.1)"


def random(network, seed=0):
    return networks.randomize(network.eval(), seed)


@pytest.fixture(scope="module")
def theirs():
    """Networks in PyTorch with random weights."""
    return {
        "wide": random(networks.WideResNet(10, 1, 4)),
        "judge": random(networks.WideDiscriminator(10, 1, 4), 1),
        "strided": random(networks.strided_cnn(28, 10, (2, 3), 5)),
    }


@pytest.fixture(scope="module")
def place(theirs, tmp_path_factory):
    """Their checkpoints, as programs write them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    parts = {"basic_net": theirs["wide"], "discriminator": theirs["judge"]}
    state = {
        f"module.{part}.{name}": tensor
        for part, network in parts.items()
        for name, tensor in network.state_dict().items()
    }
    torch.save({"net": state, "epoch": 3}, folder / "atld.pt")
    torch.save(theirs["strided"].state_dict(), folder / "strided.pth")
    save_file(theirs["strided"].state_dict(), folder / "strided.safetensors")
    mean = {"mu": torch.full((1, 3, 1, 1), 0.4), "sigma": torch.full((1, 3, 1, 1), 0.2)}
    save_file(mean | theirs["wide"].state_dict(), folder / "normalized.safetensors")
    return folder


@pytest.fixture(scope="module")
def atld(place):
    """The network and the discriminator of the one file, as .keras files."""
    common = [f"--checkpoint={place}/atld.pt", "--num_classes=4"]
    made = [WIDE, SHAPE, "--input_range=-1,1", f"--output={place}/atld.keras"]
    assert convert.main([*common, *made]) == 0
    judge = ["--network=WideDiscriminator(depth=10, width=1)", f"--output={place}/judge.keras"]
    assert convert.main([*common[:1], *judge]) == 0
    return place


def logits(network, x):
    """Of a network of PyTorch, images as Keras has them."""
    with torch.no_grad():
        return network(torch.tensor(np.moveaxis(x, 3, 1))).numpy()


def test_a_checkpoint_becomes_a_keras_file(place, theirs, tmp_path, capsys, rng):
    output = tmp_path / "new" / "strided.keras"
    command = [f"--checkpoint={place}/strided.pth", STRIDED, f"--output={output}"]
    for _ in range(2):  # the second time it replaces its own
        assert convert.main(command) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "num_classes 10, input_shape (28, 28, 1)" in printed
    assert "entry          none" in printed and "left out       nothing" in printed
    network = loading.load_model(output)
    x = rng.random((5, 28, 28, 1), np.float32)
    np.testing.assert_allclose(network(x), logits(theirs["strided"], x), rtol=0, atol=1e-5)
    source = network.weights_source
    assert source["file"] == "strided.pth" and source["sha256"] in printed
    direct = loading.load_model(place / "strided.pth", STRIDED.partition("=")[2])
    np.testing.assert_array_equal(direct(x), network(x))


def test_what_is_not_ours_is_not_replaced(place, tmp_path, capsys):
    for name, content in (("a.keras", b"PK not a model"), ("b.pt", b"weights of mine")):
        (tmp_path / name).write_bytes(content)
        way = [f"--model={place}/none.keras"]
        if name == "a.keras":
            way = [f"--checkpoint={place}/strided.pth", STRIDED]
        assert convert.main([*way, f"--output={tmp_path}/{name}"]) == 2
        said = capsys.readouterr().err
        assert "is not a file of convert; it is left as it is. Give --overwrite" in said
        assert (tmp_path / name).read_bytes() == content
    command = [f"--checkpoint={place}/strided.pth", STRIDED, f"--output={tmp_path}/a.keras"]
    assert convert.main([*command, "--overwrite"]) == 0
    assert loading.load_model(tmp_path / "a.keras").num_classes == 10


def test_both_networks_of_atld_from_one_file(atld, theirs, rng):
    network, judge = (loading.load_model(atld / f"{name}.keras") for name in ("atld", "judge"))
    x = rng.random((3, SIDE, SIDE, 3), np.float32)
    expected = logits(theirs["wide"], 2 * x - 1)
    np.testing.assert_allclose(network(x), expected, rtol=0, atol=1e-5)
    assert network.weights_source["prefixes"] == ["module", "basic_net"]
    assert judge.weights_source["prefixes"] == ["module", "discriminator"]
    assert network.weights_source["entry"] == judge.weights_source["entry"] == "net"
    with torch.no_grad():
        pooled = theirs["judge"].features(torch.tensor(expected)[:, :, None, None])
        natural, classes = theirs["judge"].fc(pooled), theirs["judge"].fc2(pooled)
    judged = judge(expected)
    np.testing.assert_allclose(judged.natural, natural[:, 0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(judged.classes, classes, rtol=0, atol=1e-5)


def test_atld_is_judged_adaptively_on_the_authors_weights(atld, tmp_path, capsys, monkeypatch):
    """The attacks made for the defence are tested elsewhere; here it is asked for them."""
    asked = []
    monkeypatch.setattr(
        evaluation, "adaptive_attacks", lambda *given, **effort: asked.append((given, effort)) or {}
    )
    folder = tmp_path / "pictures"
    rng = np.random.default_rng(0)
    arrays = {"x_test": rng.integers(0, 256, (4, SIDE, SIDE, 3), np.uint8), "y_test": np.arange(4)}
    arrays |= {"x_train": arrays["x_test"], "y_train": arrays["y_test"]}
    folder.mkdir()
    np.savez(folder / "some.npz", **arrays)
    output = tmp_path / "r.json"
    command = [f"--model={atld}/atld.keras", f"--discriminator={atld}/judge.keras"]
    command += ["--inference=imt+", "--adaptive=quick", "--attacks=FGSM(eps=8/255)", "--no_checks"]
    command += [f"--dataset={folder}/some.npz", f"--output={output}"]
    assert evaluate.main(command) == 0, capsys.readouterr().err
    [((model, eps, step_size), effort)] = asked
    assert (eps, step_size) == (8 / 255, None) and effort["steps"] == 20
    assert model.discriminator.weights_source["file"] == "atld.pt"
    report = files.read_json(output)
    assert report["inference"]["discriminator"] == f"{atld}/judge.keras"
    assert report["inference"]["delta"] == 8 / 255 and report["inference"]["gate"] == [0.3, 0.7]
    assert report["weights_source"]["file"] == "atld.pt"
    assert {"oblivious", "adaptive", "worst case"} <= set(report["columns"]["all"])


def test_the_way_back(atld, theirs, tmp_path, capsys, rng):
    from safetensors.torch import load_file

    x = rng.random((2, SIDE, SIDE, 3), np.float32)
    for name, load in (("a.safetensors", load_file), ("a.pt", torch.load)):
        command = [f"--model={atld}/atld.keras", f"--output={tmp_path}/{name}"]
        assert convert.main(command) == 0, capsys.readouterr().err
        empty = networks.WideResNet(10, 1, 4)
        empty.load_state_dict(load(tmp_path / name))
        np.testing.assert_array_equal(logits(empty.eval(), x), logits(theirs["wide"], x))
    printed = capsys.readouterr().out
    assert "images in [0, 1] * 2.0 + -1.0" in printed and "load_state_dict" in printed
    judge = [f"--model={atld}/judge.keras", f"--output={tmp_path}/judge.safetensors"]
    assert convert.main(judge) == 0
    networks.WideDiscriminator(10, 1, 4).load_state_dict(load_file(tmp_path / "judge.safetensors"))
    assert convert.main([*judge[:1], f"--output={tmp_path}/a.safetensors"]) == 0  # its own


def test_evaluate_reads_a_checkpoint(place, theirs, tmp_path, capsys):
    output = tmp_path / "r.json"
    command = [f"--model={place}/strided.safetensors", STRIDED, FGSM, f"--output={output}", *FEW]
    assert evaluate.main(command) == 0, capsys.readouterr().err
    report = files.read_json(output)
    digits = data.load("digits").test
    right = logits(theirs["strided"], digits.images[:20] / np.float32(255)).argmax(1)
    accuracy = (right == digits.labels[:20]).mean()
    assert report["evaluation"]["natural_accuracy"] == accuracy
    assert report["weights_source"]["file"] == "strided.safetensors"
    assert evaluate.main(command) == 0  # its own file is replaced


def test_an_export_says_where_the_weights_come_from(atld, tmp_path, capsys, monkeypatch):
    """Its proof in a new process is tested elsewhere."""
    tested = {"same_bits": 1, "compared": 1, "load_seconds": {}, "batch_sizes": [1]}
    monkeypatch.setattr(writer, "smoke_test", lambda *anything: tested)
    folder = tmp_path / "exported"
    command = [f"--model={atld}/atld.keras", f"--export_dir={folder}", "--formats=keras"]
    assert export.main(command) == 0, capsys.readouterr().err
    card = files.read_json(folder / "model_card.json")
    sha256 = card["weights"]["network"]["sha256"]
    assert sha256 == loading.load_model(atld / "atld.keras").weights_source["sha256"]
    text = (folder / "README.md").read_text()
    assert "## Weights from elsewhere" in text and sha256 in text and "atld.pt" in text
    assert loading.load_model(folder / "model.keras").weights_source["sha256"] == sha256


def test_training_starts_from_a_checkpoint(atld, place):
    def wide(classes):
        return models.WideResNet((SIDE, SIDE, 3), classes, 10, 1)

    ready = loading.load_model(atld / "atld.keras")
    with pytest.raises(ValueError, match=r"its weights are of pixels x \* 2.* in \[0, 1\] as they"):
        start_from(str(atld / "atld.keras"), wide(4))
    network = models.with_input_range(wide(3), (-1, 1))
    start_from(str(atld / "atld.keras"), network)
    for mine, their in zip(network.get_weights()[:-2], ready.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(mine, their)
    assert network.weights_source == {**ready.weights_source, "trained_further": True}
    with pytest.raises(ValueError, match="train.initial=.*stores a normalization of pixels"):
        start_from(str(place / "normalized.safetensors"), wide(4))
    network = wide(4)
    start_from(str(place / "atld.pt"), network)
    np.testing.assert_array_equal(network.get_weights()[0], ready.get_weights()[0])


CHECKPOINT = "--checkpoint={place}/"
OUT = "--output={tmp}/x.keras"


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (convert, [], "the following arguments are required: --output"),
        (convert, [OUT], "one of the arguments --checkpoint --run_dir --model is required"),
        (convert, [CHECKPOINT + "strided.pth", OUT], "weights and no network: give --network="),
        (convert, [CHECKPOINT + "strided.pth", STRIDED, "--output=x.pt"], "must end in .keras"),
        (convert, ["--model={place}/judge.keras", OUT], r"must end in \.safetensors or \.pt"),
        (convert, [CHECKPOINT + "none.pt", STRIDED, OUT], "there is no file .*none.pt"),
        (
            convert,
            [CHECKPOINT + "strided.pth", "--network=StridedCNN(", OUT],
            "cannot read the net",
        ),
        (convert, [CHECKPOINT + "strided.pth", "--network=Strided", OUT], "no network 'Strided'"),
        (convert, [CHECKPOINT + "strided.pth", WIDE, OUT], "does not fit|layers"),
        (convert, [CHECKPOINT + "strided.pth", STRIDED, "--entry=ema", OUT], "entry='ema'"),
        (convert, [CHECKPOINT + "strided.pth", STRIDED, "--input_shape=28", OUT], "height, width"),
        (convert, [CHECKPOINT + "strided.pth", STRIDED, "--input_shape=a", OUT], "input_shape=a"),
        (convert, [CHECKPOINT + "strided.pth", STRIDED, "--num_classes=0", OUT], "num_classes=0"),
        (convert, [CHECKPOINT + "strided.pth", STRIDED, "--input_range=x,1", OUT], "input_range="),
        (
            convert,
            [CHECKPOINT + "strided.pth", STRIDED, "--input_range=mean=1", OUT],
            "input_range=",
        ),
        (
            convert,
            [CHECKPOINT + "normalized.safetensors", WIDE, SHAPE, "--input_range=-1,1", OUT],
            "stores a normalization",
        ),
        (convert, [CHECKPOINT + "strided.pth", STRIDED, "--program=X", OUT], "for the way back"),
        (
            convert,
            ["--model={place}/strided.pth", "--output={tmp}/x.pt"],
            "give network=.*--network",
        ),
        (convert, [CHECKPOINT + "strided.pth", STRIDED, "--output={tmp}"], "must end in .keras"),
        (evaluate, ["--model={place}/strided.pth", FGSM], "bin/convert --checkpoint=.*strided.pth"),
        (evaluate, ["--model=x.keras", STRIDED, FGSM], "network is for a checkpoint of PyTorch"),
        (evaluate, ["--run_dir={tmp}", STRIDED, FGSM], "--network is of a checkpoint"),
        (
            evaluate,
            ["--model={place}/strided.pth", STRIDED, FGSM, "--transfer_from={place}/strided.pth"],
            "bin/convert --checkpoint=",
        ),
        (
            evaluate,
            ["--model=x.keras", FGSM, "--inference=imt"],
            "--model=.* with --discriminator=",
        ),
        (
            evaluate,
            ["--run_dir=x", FGSM, "--inference=imt", "--discriminator=y"],
            "goes with --model",
        ),
        (evaluate, ["--model=x.keras", FGSM, "--discriminator=y.keras"], "belongs to --inference"),
        (export, ["--model={place}/strided.pth", "--export_dir={tmp}/e"], "bin/convert"),
    ],
)
def test_mistakes_are_one_clear_line(command, arguments, message, place, tmp_path, capsys):
    arguments = [
        one.replace("{place}", str(place)).replace("{tmp}", str(tmp_path)) for one in arguments
    ]
    extra = ["--dataset=digits"] if command is evaluate else []
    assert command.main([*arguments, *extra]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and re.search(f"^error: .*{message}", captured.err), captured.err
    assert captured.err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_sizes_that_the_file_does_not_tell(tmp_path, capsys):
    torch.save(
        {"a.weight": torch.zeros(4, 5, 3, 3), "b.weight": torch.zeros(10, 4)}, tmp_path / "a.pt"
    )
    torch.save({"a.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "b.pt")
    torch.save(
        {"a.weight": torch.zeros(4, 3, 3, 3), "b.weight": torch.zeros(1000, 4)}, tmp_path / "c.pt"
    )
    for name, message in (
        ("a", "--input_shape="),
        ("b", "--num_classes="),
        ("c", "--input_shape="),
    ):
        command = [
            f"--checkpoint={tmp_path}/{name}.pt",
            "--network=CNN",
            f"--output={tmp_path}/x.keras",
        ]
        assert convert.main(command) == 2
        assert message in capsys.readouterr().err


def test_missing_packages_are_one_line(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    command = [f"--checkpoint={place}/strided.pth", STRIDED, f"--output={tmp_path}/x.keras"]
    assert convert.main(command) == 2
    assert "pip install 'robust_tf[torch]'" in capsys.readouterr().err


def test_a_published_network_has_its_published_accuracy(tmp_path, capsys):
    """Wong et al. (2020), MNIST: 98.50 % of all 10,000 test images."""
    from tests.data.places import real_folder

    weights, folder = published("wong2020_fgsm_mnist.pth"), real_folder("mnist")
    model = loading.load_model(weights, "StridedCNN")
    test = data.load("mnist", data_dir=folder).test
    assert len(test) == 10_000
    x = keras.ops.convert_to_numpy if hasattr(keras, "ops") else np.asarray
    images = test.images / np.float32(255)
    right = np.concatenate([np.argmax(x(model(part)), 1) for part in np.split(images, 10)])
    assert (right == test.labels).sum() == 9850
