"""What a study's file may hold, and how it says what is wrong."""

import pytest

from robust_tf import recipes, studies
from robust_tf.cli import study as command
from robust_tf.studies import Above, Row, Study

GOOD = """
Study.rows = [@adv/Row(), @adr/Row()]
Study.attacks = {'PGD': 'PGD(eps=0.15, step_size=0.02, steps=20)'}
Study.claims = [@better/Above()]
Study.budgets = {'short': ['train.epochs=1']}
adv/Row.recipe = 'gin/adversarial_digits.gin'
adr/Row.recipe = 'gin/adr_digits.gin'
better/Above.text = 'ADR is better'
better/Above.row = 'adr'
better/Above.than = 'adv'
better/Above.column = 'PGD'
"""
# Bindings added, and what the one sentence must say.
WRONG = {
    "better/Above.row = 'adrr'": "claim 'ADR is better' names the row 'adrr', the study has adv",
    "better/Above.column = 'CW'": "names the column 'CW', the study has natural, PGD",
    "Study.baseline = 'standard'": "there is no row 'standard', the study has adv, adr",
    "Study.attacks = {'PGD': 'PDG(eps=0.1)'}": "the column 'PGD': there is no attack 'PDG'. Did",
    "Study.attacks = {'natural': 'FGSM(eps=0.1)'}": "the column 'natural', which is there anyway",
    "adv/Row.name = 'adr'": "two rows of the study are named 'adr'",
    "adv/Row.name = '../adr'": "Row(name='../adr'): must be letters",
    "adv/Row.bindings = 'train.epochs=1'": "has bindings='train.epochs=1': must be a list",
    "adv/Row.bindings = [\"train.initial='RUN[at]'\"]": "there is no row 'at'",
    "adv/Row.bindings = [\"train.initial='RUN[adv]'\"]": "the rows adv need one another",
    "adv/Row.inference = 'imt'": "must have either a recipe, or both of= (another row)",
    "adv/Row.paper = {'FGSM': 50.0}": "the row adv names the column 'FGSM'",
    "adv/Row.on_budget = {'tiny': []}": "there is no budget 'tiny', the study has paper, short",
    "Study.examples = 0": "Study(examples=0)",
    "Study.examples = {'long': 5}": "there is no budget 'long', the study has paper, short",
    "Study.few_examples = {'short': {'CW': 5}}": "few_examples names the column 'CW'",
    "Study.rows = []": "Study.rows is empty",
    "Study.row = []": "Study has no parameter 'row'; did you mean rows?",
}


@pytest.fixture
def error(capsys):
    def read():
        out, err = capsys.readouterr()
        assert not out and err.startswith("error: ") and "Traceback" not in err, (out, err)
        assert "In call to" not in err and err.count("\n") == 1, err
        return err

    return read


@pytest.fixture
def written(tmp_path):
    def write(text, name="mine.gin"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize("line", WRONG)
def test_wrong_study(line, written, error, tmp_path):
    file = written(GOOD + line + "\n")
    assert command.main([f"--gin_file={file}", f"--study_dir={tmp_path}/runs"]) == 2
    assert WRONG[line] in error()
    assert not (tmp_path / "runs").exists()


def test_wrong_arguments(written, error, tmp_path):
    file = written(GOOD)
    recipe = written("train.epochs = 1\n", "recipe.gin")
    (tmp_path / "other.json").write_text("{}")
    for arguments, say in {
        (f"--gin_file={file}", "--budget=long"): "no budget 'long', the study has paper, short",
        (f"--gin_file={file}", "--seeds=0,a"): "'0,a' must be whole numbers >= 0 that differ",
        (f"--gin_file={file}", "--seeds=0,0"): "must be whole numbers >= 0 that differ",
        (f"--gin_file={file}", "--seeds=-1"): "must be whole numbers >= 0",
        (f"--gin_file={file}", "--seeds="): "must be whole numbers >= 0",
        (f"--gin_file={file}", "--rows=adv,at"): "there is no row 'at', the study has adv, adr",
        (f"--gin_file={recipe}",): f"{recipe} is no study: it binds nothing of Study",
        ("--gin_file=gin/studies/digit.gin",): "did you mean gin/studies/digits.gin?",
        ("--gin_file=nothing",): "there is no study nothing; known: ",
        (): "no study: give --gin_file=gin/studies/digits.gin",
        (
            f"--gin_file={file}",
            "--gin_param=adv/Row.recipe='gin/adv_digit.gin'",
        ): "row adv: there is",
        (f"--gin_file={file}", f"--output={tmp_path}/other.json"): "is not the result of a study",
        ("--tables=nowhere.md",): "cannot read nowhere.md",
    }.items():
        own = [f"--study_dir={tmp_path}/runs"] if arguments else []
        assert command.main([*arguments, *own]) == 2, arguments
        assert say in error()
    assert not (tmp_path / "runs").exists()


def test_a_study_in_python(tmp_path):
    """Without gin, and what a row's recipe is to the letter."""
    rows = [
        Row("gin/at_mnist.gin", name="at"),
        Row(
            ("gin/lat_mnist.gin",),
            ["train.initial='RUN[at]'", "train.epochs=7"],
            {"short": ["train.batch_size=32"]},
            name="lat",
        ),
    ]
    attacks = {"T": "Transfer(FGSM(eps=0.3), run='RUN[at]')", "PGD": "PGD(0.3, 0.01, 40)"}
    study = Study(
        rows,
        attacks,
        [Above("better", "lat", "at", "PGD")],
        {"short": ["gin/parts/mnist_10k.gin", "train.epochs=3"]},
        examples={"short": 100},
        few_examples={"short": {"T": 10}, "paper": {"T": 500}},
        name="mine",
    )
    assert study.columns == ["natural", "T", "PGD", "worst case"]
    assert [row.name for row in study.in_order(["lat"])] == ["at", "lat"]
    sizes = [study.examples_of(c, b) for b in ("paper", "short") for c in ("natural", "T", "PGD")]
    assert sizes == [None, 500, None, 100, 10, 100]

    plan = studies.Plan(study, "short", str(tmp_path))
    lat = plan.recipe(study.row("lat"), 4)
    at = f"{tmp_path}/mine/short/at/seed-4"
    files = ["gin/lat_mnist.gin", "gin/parts/mnist_10k.gin"]
    bindings = [f"train.initial='{at}'", "train.epochs=3", "train.batch_size=32", "train.seed=4"]
    assert lat.text == recipes.load(files, bindings).text
    assert plan.run_dir(study.row("lat"), 4) == f"{tmp_path}/mine/short/lat/seed-4"
    assert plan.runs_of(attacks["T"], 4) == f"Transfer(FGSM(eps=0.3), run='{at}')"
    command_of_it = plan.command(study.row("lat"), 4)
    assert command_of_it.startswith("bin/train --gin_file=gin/lat_mnist.gin --gin_file=gin/parts/")
    assert "--gin_param=train.seed=4" in command_of_it


def test_a_column_that_a_budget_leaves_out(tmp_path):
    study = Study(
        [Row("gin/at_mnist.gin", name="at", paper={"RayS": 50.7, "PGD": 44.9})],
        {"PGD": "PGD(0.3, 0.01, 40)", "RayS": "RayS(eps=0.3)"},
        [Above("many", "at", "at", "RayS"), Above("few", "at", "at", "PGD")],
        {"short": []},
        few_examples={"short": {"RayS": 0, "PGD": 7}, "paper": {"RayS": 100}},
    )
    short = studies.Plan(study, "short", str(tmp_path)).study
    assert short.columns == ["natural", "PGD"]
    assert [claim.text for claim in short.claims] == ["few"]
    assert short.row("at").paper == {"PGD": 44.9}
    assert short.examples_of("PGD", "short") == 7
    whole = studies.Plan(study, "paper", str(tmp_path)).study
    assert whole == study and whole.examples_of("RayS", "paper") == 100
