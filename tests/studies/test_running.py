"""A whole study: interrupted, continued, adopted runs, attacks that are there, claims, pages."""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from robust_tf import evaluation, files, recipes, runs, studies
from robust_tf.attacks import FGSM, Transfer
from robust_tf.cli import study as command
from robust_tf.cli import train
from robust_tf.evaluation import Evaluation
from robust_tf.report import result_files, saving
from robust_tf.studies import estimate, status, tables
from robust_tf.studies.leaderboard import rows_of
from robust_tf.training.loop import Loop
from tests.training.runs import assert_same_run

STUDY = """
Study.title = 'Moons'
Study.rows = [@tuned/Row(), @adv/Row(), @atld/Row(), @imt/Row(), @broken/Row()]
Study.baseline = 'adv'
Study.attacks = {
    'PGD': 'PGD(eps=0.075, step_size=0.02, steps=3)',
    'both': 'CW(eps=0.075, step_size=0.02, steps=2); FGSM(eps=0.075)',
}
Study.budgets = {'tiny': ['MLP.hidden=(8, 8)', 'train.epochs=2', 'steps=1', 'train.batch_size=50',
    'train.evaluation_attacks=[]', 'train.steps_per_call=2', 'train.checkpoint_minutes=0',
    'train.validation_attack=None', 'data.train_size=200', 'train.learning_rate=0.03']}
Study.examples = {'tiny': 40}
Study.few_examples = {'tiny': {'both': 24}}
Study.claims = [@tuned/Above(), @low/AtLeast(), @logged/Metric()]
adv/Row.recipe = ['gin/parts/moons.gin', 'gin/parts/methods/adversarial.gin']
adv/Row.paper = {'PGD': 81.5}
tuned/Row.recipe = ['gin/parts/moons.gin', 'gin/parts/methods/adversarial.gin']
tuned/Row.bindings = ["train.initial='RUN[adv]'"]
tuned/Row.seeds = [0]
atld/Row.recipe = ['gin/parts/moons.gin', 'gin/parts/methods/atld_small.gin']
atld/Row.seeds = [0]
imt/Row.of = 'atld'
imt/Row.inference = 'imt+'
broken/Row.recipe = ['gin/parts/moons.gin', 'gin/parts/methods/adversarial.gin']
broken/Row.bindings = ["train.initial='nowhere.keras'"]
broken/Row.seeds = [1]
tuned/Above.text = 'more epochs help'
tuned/Above.row = 'tuned'
tuned/Above.than = 'adv'
tuned/Above.column = 'PGD'
low/AtLeast.text = 'ADV has one percent'
low/AtLeast.row = 'adv'
low/AtLeast.column = 'natural'
low/AtLeast.value = 1.0
logged/Metric.text = 'ATLD logs its discriminator'
logged/Metric.row = 'atld'
logged/Metric.metric = 'manifold'
logged/Metric.below = 100.0
"""
SEEDS = "--seeds=0,1"


class Place:
    """A folder with the study, and its command."""

    def __init__(self, folder: Path):
        self.folder, self.file = folder, folder / "moons.gin"
        self.file.write_text(STUDY)
        self.plan = studies.Plan(studies.load(str(self.file)), "tiny", str(folder / "studies"))
        self.own = Path(self.plan.folder)

    def __call__(self, *arguments):
        """Exit status, and what was written to stdout."""
        words = [f"--gin_file={self.file}", f"--study_dir={self.folder}/studies", "--budget=tiny"]
        with contextlib.redirect_stdout(io.StringIO()) as out:
            code = command.main([*words, *arguments])
        return code, out.getvalue()

    def run(self, row, seed):
        return self.own / row / f"seed-{seed}"

    def train(self, row, seed, folder, *more, seeded=True):
        """`bin/train` with the row's files and parameters."""
        own = self.plan.study.row(row)
        words = [f"--gin_file={file}" for file in self.plan.gin_files(own)]
        words += [f"--gin_param={param}" for param in self.plan.params(own, seed)]
        words += [f"--gin_param=train.seed={seed}"] * seeded
        assert train.main([*words, f"--run_dir={folder}", *more]) == 0

    @property
    def content(self):
        return files.read_json(self.own / "study.json")


def interrupted_after(calls, patch):
    """SIGTERM after so many calls of the loop."""
    left = [calls]
    metrics = Loop.train_metrics

    def counted(self):
        left[0] -= 1
        if left[0] == -1:  # a second signal would end this process
            os.kill(os.getpid(), signal.SIGTERM)
        return metrics(self)

    patch.setattr(Loop, "train_metrics", counted)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The study, stopped in the run of adv with seed 1 and continued."""
    place = Place(tmp_path_factory.mktemp("study"))
    # What bin/train made, without a seed as without a word of studies, is taken over.
    place.train("adv", 0, place.folder / "earlier", seeded=False)
    os.makedirs(place.run("adv", 0).parent)
    shutil.move(place.folder / "earlier", place.run("adv", 0))
    place.stamp = os.path.getmtime(place.run("adv", 0) / "model.keras")
    assert place("--rows=tuned,atld,imt", "--seeds=0")[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupted_after(3, patch)
        place.stopped = place(SEEDS, "--rows=adv")[0]
    place.partial, place.states = place.content, place(SEEDS, "--status")[1]
    place.code, place.out = place(SEEDS)
    # Before other tests add runs and attacks to it.
    place.leaderboard = rows_of(result_files.search(str(place.folder / "studies")))
    place.whole = place.content
    return place


def test_nothing_is_lost_by_an_interruption(place):
    assert place.stopped == 143 and place.code == 3  # one row cannot be done
    assert "adv, seed 1: continuing after 1 of 2 epochs" in place.out
    assert "seed 0: training" not in place.out and "seed 0: PGD" not in place.out
    states = {
        row["name"]: {s: v["state"] for s, v in row["seeds"].items()}
        for row in place.partial["rows"]
    }
    assert states["adv"] == {"0": "done", "1": "stopped"}
    assert states["broken"] == {"1": "missing"}
    assert place.partial["claims"][1]["verdict"] == "open"
    assert "not run: seed 1" in place.partial["claims"][1]["figures"]
    place.train("adv", 1, place.folder / "alone")
    assert_same_run(place.run("adv", 1), place.folder / "alone")
    config = (place.run("adv", 1) / "config.gin").read_text()
    assert "data.name = 'moons'" in config and "data.train_size = 200" in config


def test_a_run_of_train_is_adopted(place):
    assert os.path.getmtime(place.run("adv", 0) / "model.keras") == place.stamp
    assert "train.seed" not in files.read_json(place.run("adv", 0) / "identity.json")["identity"]
    # And the other way: what the study trains, bin/train takes for its own.
    place.train("adv", 1, place.run("adv", 1), "--dry_run")
    recipe = place.plan.recipe(place.plan.study.row("adv"), 1)
    assert recipe.trainer(place.run("adv", 1)).finished


def test_states(place):
    text = " ".join(place.states.split())
    assert "adv seed 1 stopped 1 of 2 epochs, last checkpoint" in text
    assert "broken seed 1 missing" in text and "imt seed 0 done" in text
    assert text.endswith("4 done, 1 stopped, 1 missing.")
    after = " ".join(status.table(status.states(place.plan, [0, 1])).split())
    assert "adv seed 1 done" in after and after.endswith("5 done, 1 missing.")


def test_a_row_that_cannot_be_done_is_named(place, capsys):
    fault = next(r for r in place.content["rows"] if r["name"] == "broken")["seeds"]["1"]["fault"]
    assert "nowhere.keras" in fault
    assert fault in (place.own / "study.md").read_text()
    code, out = place(SEEDS)
    assert code == 3 and "error: row broken, seed 1: " in capsys.readouterr().err
    assert "training in" not in out and "test images" not in out


def stored(place, row, seed, inference=False):
    """Verdicts by column, from the files of a run."""
    found = {}
    for path in sorted(place.run(row, seed).glob("study_*.json")):
        content = files.read_json(path)
        if ("inference" in content) == inference:
            result = Evaluation.from_json(content["evaluation"])
            found |= {name: outcome.robust for name, outcome in result.outcomes.items()}
            found.setdefault("natural", result.natural)
            if len(result) == 40:
                found["natural"] = result.natural
    return found


def test_numbers_are_those_of_the_runs(place):
    """Each number from the verdicts, which `evaluate` gives for the model in the run folder."""
    rows = {row["name"]: row for row in place.content["rows"]}
    seen = {seed: stored(place, "adv", seed) for seed in (0, 1)}
    recipe = recipes.load(["gin/parts/moons.gin"], ["data.train_size=200"])
    test, pgd = recipe.data().test, "PGD(eps=0.075, step_size=0.02, steps=3)"
    model = runs.load_run(place.run("adv", 1))
    again = evaluation.evaluate(model, test, pgd, max_examples=40, progress=False)
    np.testing.assert_array_equal(next(iter(again.robust.values())), seen[1]["PGD"])
    means = {s: {"natural": v["natural"].mean(), "PGD": v["PGD"].mean()} for s, v in seen.items()}
    for column in ("natural", "PGD"):
        values = [means[seed][column] for seed in (0, 1)]
        assert rows["adv"]["mean"][column] == pytest.approx(np.mean(values))
        assert rows["adv"]["std"][column] == pytest.approx(np.std(values, ddof=1))
    both = [
        np.logical_and(*[v for n, v in seen[s].items() if n.startswith("both")]) for s in (0, 1)
    ]
    assert [len(one) for one in both] == [24, 24]
    assert rows["adv"]["mean"]["both"] == pytest.approx(np.mean([one.mean() for one in both]))
    worst = [(one & seen[s]["PGD"][:24]).mean() for s, one in enumerate(both)]
    assert rows["adv"]["mean"]["worst case"] == pytest.approx(np.mean(worst))
    # Only the seed that both have is compared.
    [pair] = [
        one
        for one in place.content["differences"]
        if (one["row"], one["than"], one["column"]) == ("tuned", "adv", "PGD")
    ]
    tuned, adv = stored(place, "tuned", 0)["PGD"], seen[0]["PGD"]
    assert list(pair["seeds"]) == ["0"] and pair["examples"] == 40
    assert pair["difference"] == pytest.approx(tuned.mean() - adv.mean())
    assert pair["seeds"]["0"]["only_first"] == int(np.sum(tuned & ~adv))
    assert pair["seeds"]["0"]["p"] == pytest.approx(studies.paired(tuned, adv).p, rel=1e-5)
    assert rows["adv"]["seeds"]["1"]["training_seconds"] > 0
    assert [claim["verdict"] for claim in place.content["claims"]][1:] == ["holds", "holds"]


def test_a_defense_is_attacked_without_its_knowledge(place):
    row = next(row for row in place.content["rows"] if row["name"] == "imt")
    verdicts = stored(place, "atld", 0, inference=True)
    assert row["mean"]["PGD"] == verdicts["oblivious: PGD"].mean()
    assert set(verdicts) == {"natural", "oblivious: PGD"} | {n for n in verdicts if "both" in n}
    assert list(row["seeds"]) == ["0"]  # as the row that it is of


def test_pages(place):
    page = (place.own / "study.html").read_text()
    assert "Plotly.js" not in page and "http" not in page.replace("http-equiv", "")
    for text in (
        "more epochs help",
        "adv, seed 1",
        "Moons, budget &#39;tiny&#39;",
        "nowhere.keras",
    ):
        assert text in page or text == "adv, seed 1"
    assert saving.runs_of(str(place.own / "study.html")) is None  # no report, so none replaces it
    text = (place.own / "study.md").read_text()
    table = tables.table(place.content)
    assert table in text and "(81.5)" in table
    adv = next(row for row in place.content["rows"] if row["name"] == "adv")
    cell = f"{100 * adv['mean']['PGD']:.2f} ± {100 * adv['std']['PGD']:.2f} (81.5)"
    assert f"| {cell} |" in table
    assert "both (24 images)" in table.splitlines()[0]
    assert "bin/train --gin_file=gin/parts/moons.gin" in text


def test_new_attacks_alone_are_run(place):
    more = "Study.attacks={'PGD': 'PGD(eps=0.075, step_size=0.02, steps=3)', 'F': 'FGSM(eps=0.05)'}"
    few = "Study.few_examples={}"
    arguments = ("--rows=adv", "--seeds=0", f"--gin_param={more}", f"--gin_param={few}")
    code, out = place(*arguments, f"--output={place.folder}/copy.json")
    assert code == 0 and "adv, seed 0: F on 40 test images" in out and "PGD on" not in out
    assert tables.read(place.folder / "copy.json")["columns"]["F"]["examples"] == 40
    # Fewer images are among those that were attacked; more are not.
    fewer = studies.load(str(place.file), [more, few, "Study.examples={'tiny': 10}"])
    plan = studies.Plan(fewer, "tiny", place.plan.study_dir)
    found = studies.summarize(plan, [0])
    assert found["columns"]["PGD"]["examples"] == 10
    whole = studies.load(str(place.file), [more, few, "Study.examples=None"])
    plan = studies.Plan(whole, "tiny", place.plan.study_dir)
    assert [state.about for state in status.states(plan, [0], ["adv"])] == [
        "not attacked by PGD, F"
    ]


def test_an_attack_at_the_run_of_another_row(place, monkeypatch):
    """`Transfer(..., run='RUN[adv]')`: made once, and again when the source is another network."""
    paths = []

    def parse(text):
        paths.append(re.fullmatch(r"Transfer\(FGSM\(eps=0.05\), run='(.+)'\)", text)[1])
        return {"T": Transfer(FGSM(eps=0.05), runs.load_run(paths[-1]))}

    monkeypatch.setattr(evaluation, "parse_attacks", parse)
    attacks = "Study.attacks={'T': \"Transfer(FGSM(eps=0.05), run='RUN[adv]')\"}"
    others = ["Study.few_examples={}", "Study.claims=[]", "adv/Row.paper={}"]
    words = [f"--gin_param={one}" for one in (attacks, *others)]
    code, out = place("--rows=tuned", "--seeds=0", *words)
    assert code == 0 and "tuned, seed 0: T on 40 test images" in out
    assert set(paths) == {str(place.run("adv", 0))}
    verdicts = stored(place, "tuned", 0)["T"]
    test = recipes.load(["gin/parts/moons.gin"], ["data.train_size=200"]).data().test.take(40)
    x, y = test.images.astype("float32"), test.labels
    x_adv = FGSM(eps=0.05)(runs.load_run(place.run("adv", 0)), x, y)
    tuned = runs.load_run(place.run("tuned", 0))
    right = [np.argmax(tuned(one), 1) == y for one in (x, x_adv)]
    np.testing.assert_array_equal(verdicts, np.logical_and(*right))
    assert "test images" not in place("--rows=tuned", "--seeds=0", *words)[1]
    summary = place.run("adv", 0) / "summary.json"
    content = files.read_json(summary)
    kept = summary.read_text()
    content["evaluation"]["model"] = "0123456789abcdef"
    files.write_json(summary, content)
    study = studies.load(str(place.file), [attacks, *others])
    plan = studies.Plan(study, "tiny", place.plan.study_dir)
    [adv, tuned] = status.states(plan, [0], ["tuned"])
    assert tuned.about == "not attacked by T"
    summary.write_text(kept)


def test_the_file_says_what_was_trained_and_no_folder_of_this_machine(place):
    content = place.content
    rows = {row["name"]: row for row in content["rows"]}
    record = files.read_json(place.run("adv", 0) / "run.json")
    about = {"data": "moons", "network": "MLP", "method": "ADV", "attack_steps": 1}
    assert rows["adv"]["about"] == about and record["method"]["attack_steps"] == 1
    assert rows["imt"]["about"] == rows["atld"]["about"] and rows["broken"]["about"] == {}
    assert all("flags" in one for one in rows["adv"]["seeds"].values())
    commands = "\n".join(row["command"] for row in content["rows"])
    source = "train.initial='runs/studies/moons/tiny/adv/seed-0'"
    assert f"--gin_param={source}" in shlex.split(rows["tuned"]["command"])
    assert f"{place.folder}/studies" not in json.dumps([commands, content["changes"]])


def test_a_leaderboard_of_it(place):
    rows, left_out = place.leaderboard
    assert "adv" in [row.name.rpartition("/")[2] for row in rows], left_out
    [adv] = [row for row in rows if row.name.endswith("/adv")]
    accuracy = next(row for row in place.whole["rows"] if row["name"] == "adv")["seeds"]
    assert set(adv.robust) == {"0", "1"} and adv.examples == 40  # of PGD, 24 of "both"
    assert not [row for row in rows if row.source.endswith("study.json") and "imt" not in row.name]
    for seed, share in adv.robust.items():
        assert 0 < share <= accuracy[seed]["accuracy"]["PGD"]
    assert any(row.method.endswith("IMT+") for row in rows)


def test_dry_run(place, capsys):
    recorded = place("--seeds=2", "--rows=adv", "--dry_run")
    assert recorded[0] == 0 and "recorded, another seed" in recorded[1]
    assert "nothing was trained or written" in recorded[1] and not place.run("adv", 2).exists()
    plan = studies.Plan(place.plan.study, "tiny", str(place.folder / "elsewhere"))
    [made] = estimate.Estimator(plan, [0], lambda text: None).all(["adv"])
    assert made.by == "measured, at most" and made.training > 0 and made.evaluation > 0
    assert not (place.folder / "elsewhere").exists()


def test_a_run_that_another_process_has_is_left_alone(place):
    path = f"{place.run('adv', 3)}.lock"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(path).write_text(json.dumps({"pid": 1, "host": os.uname().nodename}))
    code, out = place("--seeds=3", "--rows=adv")
    assert code == 0 and f"left to process 1 on {os.uname().nodename}; delete {path}" in out
    assert "adv  seed 3  running" in place("--seeds=3", "--rows=adv", "--status")[1]
    # One that is gone keeps nobody away.
    gone = {"pid": 2**22 + 1, "host": os.uname().nodename}
    Path(path).write_text(json.dumps(gone))
    assert "adv  seed 3  missing" in place("--seeds=3", "--rows=adv", "--status")[1]


def test_another_run_in_the_place_is_refused(place, capsys):
    other = place.run("adv", 4)
    shutil.copytree(place.run("adv", 1), other)
    code, out = place("--seeds=4", "--rows=adv")
    assert code == 3 and "holds a run of another configuration" in capsys.readouterr().err


def test_verdicts_in_bfloat16_are_not_taken(place, tmp_path):
    """Those of a run in bfloat16 that were not confirmed in float32, as its own are."""
    plan = studies.Plan(place.plan.study, "tiny", str(tmp_path))
    folder = Path(plan.run_dir(plan.study.row("adv"), 0))
    shutil.copytree(place.run("adv", 0), folder)
    assert status.states(plan, [0], ["adv"])[0].state == "done"
    record = files.read_json(folder / "run.json")
    record["precision"]["chosen"] = "bfloat16"
    files.write_json(folder / "run.json", record)
    assert status.states(plan, [0], ["adv"])[0].state == "done"  # judged in float32
    for path in folder.glob("study_*.json"):
        content = files.read_json(path)
        content["evaluation"]["search_dtype"] = None
        files.write_json(path, content)
    assert status.states(plan, [0], ["adv"])[0].about == "not attacked by PGD, both"
