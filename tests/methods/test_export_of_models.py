"""TensorFlow Lite's converter and Keras' export, on methods and networks, here and elsewhere."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, methods
from tests.methods.test_every_method import CASES
from tests.tiny import labelled, tiny_network

X, _ = labelled(5)
MAKE = {
    "network": lambda: tiny_network(batch_norm=True),
    "Standard": lambda: CASES["Standard"]().build(),
    "ATLD": lambda: CASES["ATLD"]().build(),
    "LAT": lambda: CASES["LAT batch norm"]().build(),
}


def lite(model, x):
    """Logits of the model that was converted."""
    interpreter = tf.lite.Interpreter(
        model_content=tf.lite.TFLiteConverter.from_keras_model(model).convert()
    )
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(inputs["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(inputs["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(outputs["index"])


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize("name", MAKE)
def test_lite(name):
    model = MAKE[name]()
    np.testing.assert_allclose(lite(model, X), model(X), atol=1e-5)


def test_a_network_is_exported(tmp_path):
    network = tiny_network()
    network.export(str(tmp_path / "export"))
    exported = tf.saved_model.load(str(tmp_path / "export"))
    np.testing.assert_allclose(exported.serve(X), network(X), atol=1e-6)


ELSEWHERE = """
import sys, keras, tensorflow as tf, robust_tf.methods
for name in ("network", "method"):
    model = keras.models.load_model(f"{sys.argv[1]}/{name}.keras")
    model.export(f"{sys.argv[1]}/{name}")
    assert len(tf.lite.TFLiteConverter.from_keras_model(model).convert()) > 1000
"""


def test_a_new_process_exports_what_it_loads(tmp_path):
    model = methods.TRADES(tiny_network(), attacks.TRADESAttack(0.1, 0.05, 2))
    model.compile(keras.optimizers.SGD(0.1))
    model.save(tmp_path / "method.keras")
    model.network.save(tmp_path / "network.keras")
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(tmp_path)], check=True)
    for name in ("network", "method"):
        exported = tf.saved_model.load(str(tmp_path / name))
        np.testing.assert_allclose(exported.serve(X), model(X), atol=1e-6)
