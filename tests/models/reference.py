"""Forward passes in plain NumPy, float64, written from the papers and not from the library."""

import numpy as np


class Weights:
    """The variables of a model by 'layer/variable', in either Keras's naming."""

    def __init__(self, model):
        self.by_name = {}
        for variable in model.variables:
            path = getattr(variable, "path", variable.name).split(":")[0]
            key = "/".join(path.split("/")[-2:])
            assert key not in self.by_name, f"{key} stands for two variables"
            self.by_name[key] = np.asarray(variable, np.float64)

    def __getitem__(self, key):
        return self.by_name[key]

    def conv(self, x, name, stride=1, pad=1):
        return conv(x, self[f"{name}/kernel"], stride, pad)

    def bn(self, x, name, epsilon):
        centred = x - self[f"{name}/moving_mean"]
        scale = self[f"{name}/gamma"] / np.sqrt(self[f"{name}/moving_variance"] + epsilon)
        return centred * scale + self[f"{name}/beta"]

    def dense(self, x, name):
        return x @ self[f"{name}/kernel"] + self[f"{name}/bias"]


def conv(x, kernel, stride=1, pad=1):
    """Cross-correlation; `pad` is a number for every side, or 'same' as TensorFlow means it."""
    size = kernel.shape[0]
    if pad == "same":
        total = max((-(-x.shape[1] // stride) - 1) * stride + size - x.shape[1], 0)
        pads = (total // 2, total - total // 2)
    else:
        pads = (pad, pad)
    x = np.pad(x, ((0, 0), pads, pads, (0, 0)))
    rows = range(0, x.shape[1] - size + 1, stride)
    columns = range(0, x.shape[2] - size + 1, stride)
    patches = [[x[:, r : r + size, c : c + size] for c in columns] for r in rows]
    return np.einsum("rcbhwi,hwio->brco", np.array(patches), kernel)


def standardize(x):
    """Madry et al.: pixels in 0..255, deviation at least 1/sqrt(n)."""
    x = 255.0 * x
    axes = (1, 2, 3)
    floor = 1 / np.sqrt(x[0].size)
    deviation = np.maximum(x.std(axes, keepdims=True), floor)
    return (x - x.mean(axes, keepdims=True)) / deviation


def relu(x, slope=0.0):
    return np.where(x > 0, x, slope * x)


def randomize(model, seed=0):
    """Weights, batch-normalisation ones included, such that no two paths give the same result."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        shape = tuple(variable.shape)
        if len(shape) > 1:
            fan_in = np.prod(shape[:-1])
            variable.assign(rng.normal(0, np.sqrt(1.5 / fan_in), shape))
        else:
            variable.assign(rng.uniform(0.2, 1.2, shape))
