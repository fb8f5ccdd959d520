"""The PyTorch programs of the benchmarks compute what the methods here compute."""

import json

import numpy as np
import pytest

from benchmarks import beside_torch, gpu, startup
from benchmarks.pairing import Ratio, pairs

pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[torch]'")


@pytest.mark.parametrize(
    ("network", "method"), [("tiny CNN", "PGD-AT"), ("tiny CNN", "TRADES"), ("tiny WRN", "ST")]
)
def test_same_images_and_loss(network, method):
    pair = beside_torch.both(network, method, 6, beside_torch.Budget(steps=3))
    same = beside_torch.agreement(pair)
    # Where a gradient is as good as 0 its sign may be another, here or there.
    assert same.images < 0.05 and same.pixels < 0.01 and same.loss < 1e-4
    _, theirs = beside_torch.steps(pair)
    before = [parameter.detach().clone() for parameter in pair.theirs.module.parameters()]
    assert np.isfinite(theirs())
    after = list(pair.theirs.module.parameters())
    assert any((old != new).any() for old, new in zip(before, after, strict=True))


def test_a_run_without_a_gpu(tmp_path):
    options = gpu.parser().parse_args(
        ["--output", str(tmp_path), "--networks", "tiny CNN", "--methods", "PGD-AT"]
        + ["--policies", "float32", "--batch_size", "4", "--rounds", "1", "--steps", "1"]
    )
    gpu.run(options)
    content = json.loads((tmp_path / "gpu.json").read_text())
    (row,) = content["rows"]
    assert len(row["seconds"]) == 2 and row["apart"]["loss"] < 1e-4
    assert (tmp_path / "gpu.md").read_text() == gpu.markdown(content)
    assert "| tiny CNN, PGD-AT | float32 |" in gpu.markdown(content)
    options.minutes = 0.0
    assert gpu.run(options)["left_out"] == ["tiny CNN, PGD-AT, float32"]


def test_pairs_reverse_their_order_and_ratios_have_intervals():
    calls = []
    times = pairs([lambda: calls.append("A"), lambda: calls.append("B")], 3)
    assert "".join(calls) == "ABBAABBA" and [len(one) for one in times] == [3, 3]
    ratio = Ratio.of([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert ratio.median == ratio.low == ratio.high == 2.0


def test_a_moment_belongs_to_the_innermost_phase():
    now = [0.0]
    phases = startup.Phases(lambda: now[0])

    def after(seconds):
        now[0] += seconds

    after(1)
    with phases.phase("run"):
        after(2)
        phases.timed(after, "tracing")(4)
        after(8)
    assert phases.result()["seconds"] == {"other": 1, "run": 10, "tracing": 4}
