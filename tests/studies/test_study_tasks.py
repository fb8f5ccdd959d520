"""The rows of a study as tasks: in the order of what they need, with the runs of one process."""

import pytest

from robust_tf import engines, files, locks, studies
from robust_tf.cli import study as command
from robust_tf.engines.tasks import TASK
from robust_tf.studies import runner, status, tasks
from tests.evaluation.in_process import InProcess

STUDY = """
Study.rows = [@tuned/Row(), @adv/Row(), @imt/Row(), @broken/Row()]
Study.baseline = 'adv'
Study.attacks = {'PGD': 'PGD(eps=0.075, step_size=0.02, steps=2)'}
Study.budgets = {'tiny': ['MLP.hidden=(8,)', 'train.epochs=1', 'steps=1', 'train.batch_size=50',
    'train.evaluation_attacks=[]', 'train.checkpoint_minutes=0', 'train.validation_attack=None',
    'data.train_size=100']}
Study.examples = {'tiny': 20}
adv/Row.recipe = ['gin/parts/moons.gin', 'gin/parts/methods/adversarial.gin']
tuned/Row.recipe = ['gin/parts/moons.gin', 'gin/parts/methods/adversarial.gin']
tuned/Row.bindings = ["train.initial='RUN[adv]'"]
imt/Row.of = 'tuned'
imt/Row.inference = 'imt'
broken/Row.recipe = ['gin/parts/moons.gin', 'gin/parts/methods/adversarial.gin']
broken/Row.bindings = ["train.initial='nowhere.keras'"]
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "moons.gin").write_text(STUDY)
    return tmp_path


def plan_of(place):
    return studies.Plan(studies.load(str(place / "moons.gin")), "tiny", str(place / "studies"))


def test_levels(place):
    plan = plan_of(place)
    names = [[row.name for row in level] for level in tasks.levels(plan)]
    assert names == [["adv", "broken"], ["tuned"], ["imt"]]
    assert [[row.name for row in one] for one in tasks.levels(plan, ["adv"])] == [["adv"]]
    # What a column's attacks are made on comes before the rows that stand after it.
    attacks = "Study.attacks={'T': \"Transfer(FGSM(eps=0.1), run='RUN[adv]')\"}"
    study = studies.load(str(place / "moons.gin"), [attacks])
    names = [[row.name for row in level] for level in tasks.levels(studies.Plan(study, "tiny"))]
    assert names == [["adv"], ["tuned", "broken"], ["imt"]]


def test_rows_in_processes(place, monkeypatch, capsys):
    """Trained and attacked as in one process; what cannot be done is named, the rest is done."""
    engine = InProcess(2)
    monkeypatch.setattr(engines, "engine", lambda name, devices, address: engine)
    words = [f"--gin_file={place}/moons.gin", "--budget=tiny", f"--study_dir={place}/studies"]
    words += ["--rows=tuned,broken"]
    assert command.main([*words, "--devices=2", "--strategy=none"]) == 3
    out, err = capsys.readouterr()
    assert [one.name for one in engine.ran] == ["adv, seed 0", "broken, seed 0", "tuned, seed 0"]
    assert "adv, seed 0: training in" in out and "tuned, seed 0: PGD on 20 test images" in out
    assert "error: row broken, seed 0: " in err and "nowhere.keras" in err
    plan = plan_of(place)
    done = [one.state for one in status.states(plan, [0], ["tuned"])]
    assert done == ["done", "done"]
    content = files.read_json(place / "studies/moons/tiny/study.json")
    [tuned] = [row for row in content["rows"] if row["name"] == "tuned"]
    assert tuned["mean"]["PGD"] > 0
    assert command.main([*words[:-1], "--rows=tuned"]) == 0  # one process finds all done
    assert "training" not in capsys.readouterr().out
    engine.fails = ("adv, seed 1",)
    assert command.main([*words[:-1], "--rows=adv", "--seeds=1", "--devices=2"]) == 3
    out, err = capsys.readouterr()
    assert "adv, seed 1: not done: its process was killed by SIGKILL" in out
    assert "row adv, seed 1: its process was killed by SIGKILL" in err


def test_the_lock_of_a_lost_worker_is_its_tasks(place, monkeypatch):
    plan = plan_of(place)
    row = plan.study.row("adv")
    path = runner.lock_path(plan, row, 0)
    content = {"pid": 1, "host": "another machine", "task": "the task"}
    files.write_json(path, content)
    assert locks.holder_of(path) == "process 1 on another machine"
    for other in (None, "another task"):
        with monkeypatch.context() as patch:
            patch.delenv(TASK, raising=False)
            if other:
                patch.setenv(TASK, other)
            with pytest.raises(runner.BusyError, match="left to process 1 on another machine; "):
                with runner._claimed(plan, row, 0):
                    pass
        assert files.read_json(path) == content  # as it was
    monkeypatch.setenv(TASK, "the task")
    with runner._claimed(plan, row, 0):
        assert locks.holder_of(path) == "" and files.read_json(path)["task"] == "the task"


@pytest.mark.parametrize("other", ["--status", "--dry_run", "--tables=x.md"])
def test_what_starts_no_process(other, capsys):
    assert command.main(["--gin_file=digits", other, "--devices=2"]) == 2
    assert "which starts no processes" in capsys.readouterr().err
