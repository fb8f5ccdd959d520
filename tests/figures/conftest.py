"""One small network, its images and what the figures compute from them, for all the files here."""

import sys
import types

import keras
import matplotlib
import pytest

from robust_tf.figures import latent
from robust_tf.figures.forward import adversarial_at
from tests.tiny import labelled, tiny_network


@pytest.fixture(scope="session")
def small():
    """A network that tells its 24 images apart, and not their adversarial ones."""
    keras.utils.set_random_seed(0)
    network = tiny_network()
    x, y = labelled(24)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile("adam", loss)
    network.fit(x, y, epochs=40, batch_size=24, verbose=0)
    x_adv = adversarial_at(network, x, y, 0.3)
    found = latent.compute_latent(network, x, y, x_adv)
    return types.SimpleNamespace(network=network, x=x, y=y, x_adv=x_adv, latent=found)


@pytest.fixture
def texts():
    """A function: all that is written in a figure."""

    def written(figure) -> str:
        from matplotlib.text import Text

        figure.canvas.draw()
        return "\n".join(text.get_text() for text in figure.findobj(Text))

    return written


@pytest.fixture(autouse=True)
def no_global_state():
    """No figure here touches pyplot or the settings of matplotlib."""
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


@pytest.fixture
def near():
    """Comparison to six digits."""
    return lambda value: pytest.approx(value, rel=1e-6, abs=1e-9, nan_ok=True)
