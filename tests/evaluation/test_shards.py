"""An evaluation in parts: put together it is that of one run."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import attacks, evaluation
from robust_tf.evaluation import Evaluation, evaluate
from tests.evaluation.samples import BATTERY, same
from tests.tiny import Smooth


def test_shards_merge_to_the_whole(examples):
    model = Smooth()
    whole = evaluate(model, examples, BATTERY, checks=False, eight_bits=True)
    parts = [
        evaluate(model, examples, BATTERY, shard=(k, 3), checks=False, eight_bits=True)
        for k in (2, 1, 3)
    ]
    parts = [Evaluation.from_json(json.loads(json.dumps(part.to_json()))) for part in parts]
    merged = evaluation.merge(parts)
    same(whole, merged)
    np.testing.assert_array_equal(
        whole.outcomes["weak"].eight_bits, merged.outcomes["weak"].eight_bits
    )
    assert merged.settings == whole.settings
    assert merged.outcomes["multi"].gradients == whole.outcomes["multi"].gradients
    with pytest.raises(ValueError, match="the parts are 1/3, 2/3; expected each of 1/3 to 3/3"):
        evaluation.merge(parts[:2])
    other = evaluate(model, examples, BATTERY, shard=(3, 3), seed=4, checks=False, eight_bits=True)
    with pytest.raises(ValueError, match="differ in seed"):
        evaluation.merge([*parts[:2], other])
    with pytest.raises(ValueError, match="not a shard"):
        evaluation.merge([whole])


def threshold(x):
    """Class 1 where the one pixel is above one half."""
    pixel = tf.reshape(x, [-1, 1]) - 0.5
    return 10 * tf.concat([-pixel, pixel], 1)


@dataclasses.dataclass(frozen=True)
class Blind(attacks.Attack):
    """Brightens; needs no gradients."""

    eps: float = 0.2
    black_box = True

    def run(self, network, x, y, seed, scale):
        return x + 0.15


@dataclasses.dataclass(frozen=True)
class Both(attacks.Attack):
    def stages(self):
        yield "idle", IDLE
        yield "blind", Blind()

    def get_config(self):
        return {}


IDLE = attacks.BIM(eps=0.2, step_size=1e-4, steps=1)
BUSY = attacks.BIM(eps=0.2, step_size=0.05, steps=3)
# One image in each of three parts is near the border: too few there for any of these flags.
NEAR = np.where(np.isin(np.arange(12), [0, 4, 8]), 0.4, 0.1).astype("float32").reshape(-1, 1, 1, 1)


def in_parts(battery, count=3):
    """As they come back from their files."""
    examples = NEAR, np.zeros(12, int)
    parts = [evaluate(threshold, examples, battery, shard=(k, count)) for k in range(1, count + 1)]
    return [Evaluation.from_json(json.loads(json.dumps(part.to_json()))) for part in parts]


@pytest.mark.parametrize(
    ("battery", "flag"),
    [
        ({"idle": IDLE, "blind": Blind()}, "black_box_stronger"),
        ({"both": Both()}, "black_box_stronger"),
        ({"idle": IDLE, "busy": BUSY}, "restarts_help"),
    ],
)
def test_flags_are_those_of_one_run(battery, flag):
    whole = evaluate(threshold, (NEAR, np.zeros(12, int)), battery)
    parts = in_parts(battery)
    assert [found["name"] for found in whole.flags] == [flag, "weak_battery"]
    for part in parts:
        assert [found["name"] for found in part.flags] == ["weak_battery"]
    merged = evaluation.merge(parts)
    assert merged.flags == whole.flags
    assert merged.stages.keys() == whole.stages.keys()
    for name, verdict in whole.stages.items():
        np.testing.assert_array_equal(merged.stages[name], verdict)
    assert merged.to_json()["attacks"].keys() == whole.to_json()["attacks"].keys()


@pytest.mark.parametrize("collapsed", [True, False])
def test_a_collapse_is_one_of_all_parts(collapsed):
    """Of three parts two predict one class alone; the third does, too, or it predicts both."""
    far = np.full((24, 1, 1, 1), 0.1, np.float32)
    labels = np.repeat([0, 1], 12)
    if not collapsed:
        far[2] = 0.9
    parts = [evaluate(threshold, (far, labels), [BUSY], shard=(k, 3)) for k in (1, 2, 3)]
    names = [[flag["name"] for flag in part.flags] for part in parts]
    assert names[0] == names[1] == ["collapsed", "weak_battery"]
    merged = [flag["name"] for flag in evaluation.merge(parts).flags]
    assert ("collapsed" in merged) == collapsed and merged[-1] == "weak_battery"
    whole = evaluate(threshold, (far, labels), [BUSY])
    assert ("collapsed" in [flag["name"] for flag in whole.flags]) == collapsed


def test_what_a_part_saw_of_the_model_is_kept():
    first, second, third = in_parts({"idle": IDLE, "blind": Blind()})
    random = {"name": "randomness", "title": "", "explanation": "", "advice": "", "figures": {}}
    # A flag of verdicts is that of the whole, whatever the parts say.
    wrong = {**random, "name": "restarts_help"}
    second = dataclasses.replace(second, flags=[random, wrong, *second.flags])
    third = dataclasses.replace(third, flags=[{**random, "title": "later"}, *third.flags])
    flags = evaluation.merge([first, second, third]).flags
    assert [flag["name"] for flag in flags] == ["randomness", "black_box_stronger", "weak_battery"]
    assert flags[0] == random
