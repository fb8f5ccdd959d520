"""`bin/evaluate --inference`: three columns for a run of ATLD."""

import re

import numpy as np
import pytest
import tensorflow as tf

from robust_tf import data, evaluation, files, runs
from robust_tf.cli import evaluate
from robust_tf.evaluation import adaptive
from tests.inference import fakes
from tests.linear import trained


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """What a run of ATLD leaves, with a discriminator that was never trained."""
    digits = data.load("digits")
    network = trained(digits, epochs=3)
    folder = tmp_path_factory.mktemp("runs") / "atld"
    folder.mkdir()
    network.save(folder / "model.keras")
    fakes.Discriminator(10).save(folder / "discriminator.keras")
    configuration = "eps = 0.05\nevaluation_step_size = 0.02\nATLD.disc_input = 'logits'\n"
    summary = {"data": {"name": "digits"}, "configuration": configuration}
    files.write_json(folder / "summary.json", summary)
    return folder


def test_the_command_prints_and_writes_three_columns(run_dir, tmp_path, capsys, monkeypatch):
    def some(*args, **kwargs):
        found = adaptive.adaptive_attacks(*args, **kwargs)
        return {name: a for name, a in found.items() if re.search("surrogate tau=0.1|\\+1", name)}

    monkeypatch.setattr(evaluation, "adaptive_attacks", some)
    common = [
        f"--run_dir={run_dir}",
        "--max_examples=8",
        "--draw=first",
        "--no_checks",
        "--adaptive=quick",
    ]
    common += ["--attacks=PGD(eps=0.05, step_size=0.02, steps=3)", "--inference=imt+"]
    part = str(tmp_path / "part.json")
    assert evaluate.main([*common, "--shard=1/1", f"--output={part}"]) == 0
    assert "imt+: delta 0.05, 0.025 where 0.3 < D0 < 0.7" in capsys.readouterr().err
    merged = tmp_path / "all.json"
    assert evaluate.main(["--merge", part, f"--output={merged}"]) == 0
    printed = capsys.readouterr().out
    report = files.read_json(merged)
    assert report["inference"]["gate"] == [0.3, 0.7] and report["inference"]["delta"] == 0.05
    found = evaluation.Evaluation.from_json(report["evaluation"])
    assert report["columns"] == evaluation.adaptive_summary(found) and len(found) == 8
    assert len(report["columns"]) == 4
    columns = {"oblivious", "T(x') alone", "adaptive", "worst case"}
    assert set(report["columns"]["PGD-3 eps=0.05"]) == columns
    assert printed.rstrip().endswith(evaluation.adaptive_table(found))
    path = evaluation.bpda(runs.load_inference(run_dir, "imt+", delta=0.05))
    x = data.load("digits").test.images[:8].astype(np.float32) / 255
    right = np.argmax(path(tf.constant(x)), 1) == data.load("digits").test.labels[:8]
    np.testing.assert_array_equal(found.natural, right)


def test_a_run_gives_both_kinds(run_dir):
    plain = runs.load_inference(run_dir)
    gated = runs.load_inference(run_dir, "imt+", delta=0.1)
    assert plain.gate is None and plain.delta == 8 / 255
    assert gated.gate == (0.3, 0.7) and gated.gated_delta == 0.05
    with pytest.raises(ValueError, match="kind='IMT'"):
        runs.load_inference(run_dir, "IMT")


FGSM = "--attacks=FGSM(eps=0.05)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run_dir={run}", FGSM, "--delta=0.1"], "--delta belongs to --inference=imt"),
        (["--run_dir={run}", FGSM, "--adaptive=quick"], "--adaptive belongs to"),
        (["--run_dir={run}", FGSM, "--inference=IMT"], "invalid choice: 'IMT'"),
        (["--model={run}/model.keras", FGSM, "--inference=imt"], "needs --run_dir"),
        (["--run_dir={run}", FGSM, "--inference=imt", "--delta=0"], r"delta=0.*: must be > 0"),
        (["--run_dir={run}", FGSM, "--inference=imt", "--gate=0.3,0.7"], "belongs to 'imt\\+'"),
        (["--run_dir={run}", FGSM, "--inference=imt+", "--gate=0.7,0.3"], "must be .low, high"),
        (["--run_dir={run}", FGSM, "--inference=imt+", "--gate=0.7"], "must be .low, high"),
        (["--run_dir={bare}", FGSM, "--inference=imt"], "holds no discriminator.keras"),
        (["--run_dir={wide}", FGSM, "--inference=imt"], "does not take the network's logits"),
        (
            ["--run_dir={run}", FGSM, "--inference=imt", "--search_dtype=bfloat16"],
            "--search_dtype does not go",
        ),
    ],
)
def test_mistakes_are_one_clear_line(arguments, message, run_dir, tmp_path, capsys):
    for name in ("bare", "wide"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.keras").write_bytes((run_dir / "model.keras").read_bytes())
    fakes.Discriminator(3).save(tmp_path / "wide" / "discriminator.keras")
    places = {"run": run_dir, "bare": tmp_path / "bare", "wide": tmp_path / "wide"}
    arguments = [argument.format(**places) for argument in arguments]
    assert evaluate.main([*arguments, "--dataset=digits"]) == 2
    captured = capsys.readouterr()
    assert re.search(f"^error: .*{message}", captured.err, re.MULTILINE), captured.err
