"""From checkpoints of the programs to bare names: entries, prefixes, a normalization inside."""

import warnings

import numpy as np
import pytest

from robust_tf.models import torch_state

ONE, TWO = {"conv.weight": np.ones((2, 3)), "fc.bias": np.ones(2)}, {"conv.weight": np.zeros(3)}
OPTIMIZER = {"state": {0: {"momentum_buffer": np.ones(3)}}, "param_groups": [{"lr": 0.1}]}


def unpack(content, entry=None, channels=3, **more):
    return torch_state.unpack(content, "file.pt", channels, entry, **more)


def prefixed(prefix, state=ONE):
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        (ONE, None),
        ({"state_dict": ONE, "epoch": 3, "opt_state_dict": OPTIMIZER}, "state_dict"),
        ({"net": ONE, "optimizer": OPTIMIZER, "D_optimizer": OPTIMIZER}, "net"),
        ({"optimizer": OPTIMIZER, "model": ONE, "amp": {}, "schedule": None}, "model"),
        ({"weights": ONE, "optimizer": OPTIMIZER}, "weights"),
        ({"model": {"state_dict": ONE}, "epoch": 1}, "model.state_dict"),
    ],
)
def test_entry(content, entry):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = unpack(content)
    assert (state.entry, set(state.tensors)) == (entry, set(ONE))


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        ({"unaveraged_model_state_dict": TWO, "model_state_dict": ONE}, "model_state_dict"),
        ({"state_dict": TWO, "state_dict_ema": ONE}, "state_dict_ema"),
        ({"best": TWO, "last": ONE}, "last"),
        ({"net": TWO, "model": TWO, "model_ema": ONE}, "model_ema"),
    ],
)
def test_several_entries(content, taken):
    """The average first, and a note; or what is asked for."""
    with pytest.warns(UserWarning, match=f"several entries of weights, .*: '{taken}' was taken"):
        state = unpack(content)
    assert state.entry == taken and state.tensors.keys() == ONE.keys()
    [other, *_] = [key for key in content if key != taken]
    assert unpack(content, other).tensors.keys() == TWO.keys()


def test_entries_that_are_not_there():
    with pytest.raises(ValueError, match="entry='ema': file.pt has no such entry.*it has net, o"):
        unpack({"net": ONE, "optimizer": OPTIMIZER}, "ema")
    with pytest.raises(ValueError, match="entry='net': .*the weights stand in it without one"):
        unpack(ONE, "net")
    with pytest.raises(ValueError, match="several entries of weights, G, D: choose by entry='G'"):
        unpack({"G": ONE, "D": TWO})
    with pytest.raises(ValueError, match="file.pt holds no weights by their names"):
        unpack({"epoch": 3, "optimizer": OPTIMIZER})
    with pytest.raises(ValueError, match="file.pt: fc.extra is a str, and no tensor"):
        unpack({**ONE, "fc.extra": "text"})


@pytest.mark.parametrize(
    "prefixes", [[], ["module"], ["_orig_mod", "module"], ["module", "basic_net"], ["0"]]
)
def test_prefixes(prefixes):
    """Whole components that all names have, and those alone."""
    state = unpack(prefixed("".join(f"{one}." for one in prefixes)))
    assert (state.prefixes, set(state.tensors)) == (prefixes, set(ONE))
    inside = {"net.module.weight": np.ones(2), "net.model.weight": np.ones(2)}
    assert set(unpack(inside).tensors) == {"module.weight", "model.weight"}
    single = {"module.fc.weight": np.ones(2), "module.fc.bias": np.ones(2)}
    assert set(unpack(single).tensors) == {"fc.weight", "fc.bias"}


def test_what_is_never_of_use():
    content = prefixed("module.model.") | prefixed("module.attacker.model.")
    content |= {
        "n_averaged": np.array(3),
        "module.model.bn.num_batches_tracked": np.array(9),
        "module.model.sub_block1.conv.weight": np.ones(2),
    }
    state = unpack(content)
    assert set(state.tensors) == set(ONE)
    assert len(state.dropped) == 5


def test_two_networks_in_one_file():
    """ATLD saves its classifier and its discriminator together."""
    content = {"net": prefixed("basic_net.") | prefixed("discriminator.", TWO)}
    assert unpack(content).tensors.keys() == ONE.keys()
    judge = unpack(content, part="discriminator")
    assert judge.tensors.keys() == TWO.keys() and judge.prefixes == ["discriminator"]


@pytest.mark.parametrize(
    ("before", "names"),
    [
        ("", ("mu", "sigma")),
        ("model.", ("normalize.mean", "normalize.std")),
        ("1.", ("0.mean", "0.std")),
        ("module.model.", ("module.normalizer.new_mean", "module.normalizer.new_std")),
        ("module.1.", ("module.0.mean", "module.0.std")),
    ],
)
def test_normalization(before, names):
    """RobustBench, its ImageNet wrapper, Carmon, robustness, a wrapped Sequential."""
    mean, std = (np.array(one).reshape(1, 3, 1, 1) for one in ([0.5, 0.25, 0.125], [0.25, 1, 2]))
    state = unpack({**prefixed(before), names[0]: mean, names[1]: std})
    assert set(state.tensors) == set(ONE)
    assert state.normalization == {"mean": [0.5, 0.25, 0.125], "std": [0.25, 1.0, 2.0]}


def test_mean_of_a_layer_is_no_normalization():
    content = {**ONE, "bn.mean": np.ones(64), "bn.std": np.ones(64)}
    state = unpack(content)
    assert state.normalization is None and set(state.tensors) == set(content)
