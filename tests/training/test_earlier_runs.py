"""What a run takes from earlier ones: weights to start from, labels for more images."""

import functools

import keras
import numpy as np
import pytest

from robust_tf import data
from robust_tf.files import FileError
from robust_tf.methods import Standard
from robust_tf.models import CNN, SplitClassifier
from robust_tf.training import PseudoLabels
from robust_tf.training.warm_start import trained
from tests.tiny import weights_of
from tests.training.runs import digits, moons, recipe, trainer

PLAIN = {"method": Standard, "epochs": 1, "evaluation_attacks": (), "validation_attack": None}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The folder of a run on clean digits."""
    folder = tmp_path_factory.mktemp("teacher")
    trainer(folder, recipe(**PLAIN), digits()).train()
    return str(folder)


def test_starts_from_an_earlier_run(teacher, tmp_path):
    for path in (teacher, f"{teacher}/model.keras"):
        run = trainer(tmp_path / str(len(path)), recipe(initial=path), digits())
        for mine, theirs in zip(
            weights_of(run.model), trained(teacher, "it").get_weights(), strict=True
        ):
            np.testing.assert_array_equal(mine, theirs)


def test_the_last_layer_is_new_where_the_classes_are_others(teacher, tmp_path):
    """Pre-training on ten classes for a task of three."""
    few = data.Split(digits().train.images, digits().train.labels % 3)
    dataset = data.Data("thirds", few, few, few, num_classes=3)
    network = trainer(tmp_path, recipe(initial=teacher), dataset).model.network
    fresh = trainer(tmp_path / "fresh", recipe(), dataset).model.network
    *taken, kernel, bias = network.get_weights()
    for mine, theirs in zip(taken, trained(teacher, "it").get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert kernel.shape == (8, 3)
    for mine, drawn in zip((kernel, bias), fresh.get_weights()[-2:], strict=True):
        np.testing.assert_array_equal(mine, drawn)


def test_refuses_weights_that_do_not_fit(teacher, tmp_path):
    wider = recipe(initial=teacher, network=functools.partial(CNN, filters=3, hidden=8))
    with pytest.raises(
        ValueError, match="weights of its generator do not fit the .* of this network; first"
    ):
        trainer(tmp_path, wider, digits())
    with pytest.raises(FileError, match="train.initial='nowhere.keras': there is no such run"):
        trainer(tmp_path, recipe(initial="nowhere.keras"), digits())


def test_a_teacher_labels_what_was_held_out(teacher, tmp_path):
    dataset = digits(validation=30)
    mixed = PseudoLabels(teacher, fraction=0.4, keep_validation=10)(dataset)
    assert len(mixed.train) == 60 + 20 and len(mixed.validation) == 10
    assert mixed.train.epoch_size == 60
    images = dataset.validation.images[10:]
    np.testing.assert_array_equal(mixed.train.images[60:], images)
    expected = np.argmax(trained(teacher, "it")(images.astype("float32") / 255), 1)
    np.testing.assert_array_equal(mixed.train.labels[60:], expected)
    summary = trainer(tmp_path, recipe(**PLAIN), mixed).train()
    assert summary["data"]["train"] == 80
    assert mixed.fingerprint() != dataset.fingerprint()


def test_images_from_a_dataset_or_a_file(teacher, tmp_path):
    whole = PseudoLabels(teacher, source="digits")(digits())
    assert len(whole.train) == 60 + len(data.load("digits", validation_size=0).train)
    path = str(tmp_path / "more.npz")
    np.savez(path, images=digits().test.images)
    assert len(PseudoLabels(teacher, source=path)(digits()).train) == 60 + 16
    np.savez(path, data=digits().test.images)
    with pytest.raises(ValueError, match=r"holds \['data'\]; expected an array 'images'"):
        PseudoLabels(teacher, source=path)(digits())
    with pytest.raises(FileError, match="there is no such file"):
        PseudoLabels(teacher, source="none.npz")(digits())
    np.savez(path, images=np.zeros((3, 8, 8, 1), "uint8"))
    with pytest.raises(ValueError, match=r"3 images of shape \(8, 8, 1\); must be one or more of"):
        PseudoLabels(teacher, source=path)(digits())


def test_refuses_a_teacher_of_other_data(teacher):
    with pytest.raises(ValueError, match="tells 10 classes, moons has 2. Train a teacher on moons"):
        PseudoLabels(teacher, source="moons")(moons())
    with pytest.raises(ValueError, match=r"fraction=1.0\): must be in \(0, 1\)"):
        PseudoLabels(teacher, fraction=1.0)
    with pytest.raises(ValueError, match="0 images"):
        PseudoLabels(teacher)(digits())


def test_takes_the_generator_where_the_classifier_is_another(teacher, tmp_path):
    """The same generator before another classifier, whose own weights stay as they were drawn."""

    def other(input_shape, num_classes):
        generator = CNN(input_shape, num_classes, filters=2, hidden=8).generator
        head = [keras.Input(generator.output_shape[1:]), keras.layers.Dense(num_classes)]
        return SplitClassifier(generator, keras.Sequential(head))

    fresh = trainer(tmp_path / "fresh", recipe(network=other), digits()).model.network
    network = trainer(
        tmp_path / "run", recipe(initial=teacher, network=other), digits()
    ).model.network
    for mine, theirs in zip(
        network.generator.get_weights(), trained(teacher, "it").generator.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    for mine, drawn in zip(
        network.classifier.get_weights(), fresh.classifier.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, drawn)
