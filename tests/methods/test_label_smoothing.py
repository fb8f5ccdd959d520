"""Label smoothing of the two plain methods, against NumPy."""

import numpy as np
import pytest

from robust_tf import attacks, losses, methods
from tests.methods import reference_step
from tests.tiny import CLASSES, labelled, tiny_network

BIM = attacks.BIM(0.1, 0.05, 2)
X, Y = labelled()
RATE = 0.1


def smoothed(smoothing):
    """The true class has 1 - smoothing, the others the rest in equal parts."""
    targets = np.full((len(Y), CLASSES), smoothing / (CLASSES - 1))
    targets[np.arange(len(Y)), Y] = 1 - smoothing
    return targets


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("adversarial", [False, True], ids=["clean", "adversarial"])
def test_step_is_that_of_smoothed_labels(adversarial, smoothing):
    kwargs = {"label_smoothing": smoothing}
    if adversarial:
        model = reference_step.built(methods.AdversarialTraining, BIM, **kwargs)
        x = reference_step.generated(model, X, Y)
    else:
        model, x = reference_step.built(methods.Standard, **kwargs), X
    before = reference_step.weights(model.network)
    loss, after, _ = reference_step.after_step(before, x, smoothed(smoothing), RATE)
    logs = model.train_on_batch(X, Y, return_dict=True)
    assert logs["loss"] == pytest.approx(loss, rel=1e-5)
    for name, value in reference_step.weights(model.network).items():
        np.testing.assert_allclose(value, after[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert type(model).from_config(model.get_config()).label_smoothing == smoothing


def test_both_terms_are_smoothed_and_hard_labels_stay_as_they_were(monkeypatch):
    logs = reference_step.built(methods.AdversarialTraining, BIM, 0.25, 0.3).train_on_batch(
        X, Y, return_dict=True
    )
    entropy = -0.7 * np.log(0.7) - 0.3 * np.log(0.15)
    assert min(logs["clean"], logs["adversarial"]) >= entropy
    total = 0.25 * logs["clean"] + 0.75 * logs["adversarial"]
    assert logs["loss"] == pytest.approx(total, rel=1e-6)

    def fail(*args):
        raise AssertionError("smooth_labels")

    monkeypatch.setattr(losses, "smooth_labels", fail)
    reference_step.built(methods.AdversarialTraining, BIM, 0.25).train_on_batch(X, Y)
    with pytest.raises(AssertionError, match="smooth_labels"):
        reference_step.built(methods.Standard, label_smoothing=0.3).train_on_batch(X, Y)


@pytest.mark.parametrize("smoothing", [-0.1, 1 - 1 / CLASSES, 1.0, float("nan")])
@pytest.mark.parametrize("method", [methods.Standard, methods.AdversarialTraining])
def test_range(method, smoothing):
    attack = BIM if method.needs_adv else None
    with pytest.raises(ValueError, match=rf"label_smoothing={smoothing}\): must be in \[0, 0\.\d+"):
        method(tiny_network(), attack, label_smoothing=smoothing)
