"""What an attack holds in memory does not grow with its steps: loops keep nothing for gradients."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks
from robust_tf.attacks.base import _code
from robust_tf.attacks.compiled import compiled
from tests.tiny import Smooth, images

ATTACKS = {
    "PGD": lambda steps: attacks.PGD(0.1, 0.05, steps),
    "PGD best": lambda steps: attacks.PGD(0.1, 0.05, steps, 2, "best"),
    "MIM": lambda steps: attacks.MIM(0.1, 0.05, steps),
    "TRADES": lambda steps: attacks.TRADESAttack(0.1, 0.05, steps),
    "APGD": lambda steps: attacks.APGD(0.1, steps),
    "APGD targeted": lambda steps: attacks.APGDTargeted(0.1, steps),
    "FAB": lambda steps: attacks.FAB(0.1, steps),
    "Square": lambda steps: attacks.Square(0.1, steps),
    "RayS": lambda steps: attacks.RayS(0.1, steps),
    "MultiTargeted": lambda steps: attacks.MultiTargeted(attacks.PGD(0.1, 0.05, steps)),
    "Squeeze": lambda steps: attacks.SqueezeAttack(0.1, 0.05, steps),
}
MODEL, X = Smooth(), tf.constant(images())


def operations(graph):
    """Names of all kinds of operation in a graph and in the functions that it calls."""
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    return [node.op for node in nodes]


@pytest.mark.parametrize("name", ATTACKS)
def test_loops_keep_nothing_for_gradients(name):
    """A loop of which TensorFlow takes the gradient pushes each step's tensors onto a list."""
    sizes = []
    for steps in (5, 40):
        code = _code(ATTACKS[name](steps))
        with tf.GradientTape() as tape:
            tape.watch(X)
            graph = compiled(code, "run", MODEL, X, tf.zeros([2], tf.int32)).function.graph
        kinds = operations(graph)
        assert "While" in kinds or "StatelessWhile" in kinds
        assert not {"TensorListPushBack", "StackPushV2", "TensorListPopBack"} & set(kinds)
        sizes.append(len(kinds))
    assert sizes[0] == sizes[1]  # nor are the steps written out one after the other


PROGRAM = """
import resource, sys
import keras, numpy as np
from robust_tf import attacks

model = keras.Sequential([
    keras.Input((224, 224, 3)), keras.layers.Conv2D(8, 3, activation="relu"),
    keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.GlobalAveragePooling2D(),
    keras.layers.Dense(3),
])
x, y = np.random.default_rng(0).random((4, 224, 224, 3), "float32"), np.arange(4) % 3
for steps in (5, 40):
    attacks.PGD(0.03, 0.01, steps)(model, x, y)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_peak_memory_at_224x224():
    """Kept for 35 more steps, the two layers' outputs of 4 images alone would take 430 MiB."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    few, many = (int(line) / 1024 for line in out.stdout.split()[-2:])
    assert many - few < 150, (few, many)
    assert np.prod([35, 2, 4, 222, 222, 8]) * 4 / 2**20 > 400
