"""Networks as text: what may stand there, and what is named where something else does."""

import pytest

from robust_tf.models.network_text import builder, takes


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("CNN", "CNN", {}),
        (" MLP(hidden=[8, 2 * 4]) ", "MLP", {"hidden": (8, 8)}),
        (
            "WideResNet(10, 1, cut='stage2')",
            "WideResNet",
            {"depth": 10, "width": 1, "cut": "stage2"},
        ),
        ("WideDiscriminator(width=1)", "WideDiscriminator", {"width": 1}),
        ("robust_tf.models.cnn.CNN()", "CNN", {}),
    ],
)
def test_text_becomes_a_builder(text, name, arguments):
    made = builder(text)
    assert (made.func.__name__, made.keywords) == (name, arguments)
    assert takes(made) == ("inputs" if name.endswith("Discriminator") else "input_shape")


def test_it_builds_with_what_the_data_tell():
    network = builder("WideResNet(depth=10, width=1)")(input_shape=(8, 8, 3), num_classes=4)
    assert network.image_shape == (8, 8, 3) and network.num_classes == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("WideResNt(34)", r"no network 'WideResNt'\. Did you mean WideResNet\? Known: .*ResNet18"),
        ("my_lab.Net()", r"no network 'my_lab\.Net'.*--import=my_lab"),
        ("PGD(1)", "no network 'PGD'"),
        (
            "WideResNet(dept=34)",
            r"no parameter 'dept'\. Did you mean depth\? It is WideResNet\(depth=",
        ),
        ("CNN(num_classes=10)", "no parameter 'num_classes'"),
        ("WideResNet(34, 10, 'pool', 'relu', 'torch', 0.9, 1)", "too many positional arguments"),
        ("WideResNet(depth=", "cannot read the network"),
        ("WideResNet(depth=__import__('os'))", "no network '__import__'"),
        ("(lambda: 1)()", "not allowed"),
        ("CNN().x", "not allowed"),
        ("34", "'34' is not a network; it is written like WideResNet"),
        ("CNN(filters=x)", "'x' in .* has no arguments"),
        ("", "cannot read the network ''"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        builder(text)
