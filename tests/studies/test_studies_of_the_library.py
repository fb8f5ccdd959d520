"""Every study of the library is read, and each of its rows becomes a recipe."""

import re

import pytest

from robust_tf import evaluation, recipes, studies
from robust_tf.report.papers import paper_tables
from robust_tf.studies.study import RUN, is_adaptive

NAMES = studies.names()


def test_what_is_there():
    tables = {"adr_table1", "adr_table2_cnn", "adr_table2_resnet", "adr_table6_mnist"}
    tables |= {"adr_table5_mnist", "adr_table5_cifar10"}
    tables |= {"atld_cifar10", "atld_cifar100", "atld_svhn", "atld_decision", "squeeze_cifar10"}
    assert tables | {"every_method_mnist", "digits"} <= set(NAMES)
    assert {"single_step_mnist", "single_step_cifar10"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_rows_become_recipes(name, tmp_path):
    study = studies.load(f"gin/studies/{name}.gin")
    assert study.name == name and study.title and study.claims
    for budget in study.budgets:
        plan = studies.Plan(study, budget, str(tmp_path))
        texts = {}
        for row in study.rows:
            recipe = plan.recipe(row, 1)
            assert recipe.settings.seed == 1
            if not row.of:
                texts[row.name] = recipe.text
            files, params = plan.gin_files(row if not row.of else study.row(row.of)), recipe.params
            assert list(recipe.files) == files and "RUN[" not in "".join(params)
        assert len(set(texts.values())) == len(texts), "two rows are the same run"
    for text in study.attacks.values():
        if not RUN.search(text) and not is_adaptive(text):
            assert evaluation.parse_attacks(text)


# The study's columns by the kinds of attacks in papers.json.
COLUMNS = {"R-FGSM": "FGSM"}
TABLES = {
    "ADR, Table 1: what its terms do": ("adr_table1", {"PGD-40": "PGD-40, 0.325"}),
    "ADR, Table 2, standard CNN": ("adr_table2_cnn", {}),
    "ADR, Table 2, ResNet": ("adr_table2_resnet", {}),
    "ADR, Table 6: other attacks": ("adr_table6_mnist", {}),
    "ATLD, Table 1: white-box attacks": ("atld_cifar10", COLUMNS),
    "Squeeze training, ResNet-18, third party": ("squeeze_cifar10", {}),
}


@pytest.mark.parametrize("table", TABLES)
def test_the_papers_numbers_are_those_of_the_report(table):
    name, renamed = TABLES[table]
    study = studies.load(name)
    rows = {re.sub(r"^PGD-AT$", "AT", row.title): row for row in study.rows}
    titles = {"PGD-AT": "AT", "AT-AWP": "AT with AWP", "TRADES-AWP": "TRADES with AWP"}
    titles |= {"ST-AWP": "ST with AWP", "ST": "ST, symmetric KL"}
    found = next(one for one in paper_tables() if one["name"] == table)
    compared = 0
    for title, values in found["rows"]:
        row = rows.get(titles.get(title, title))
        for column, value in zip(found["columns"], values, strict=True):
            column = renamed.get(column, column)
            if row is not None and value is not None:
                assert row.paper[column] == value, (title, column)
                compared += 1
    assert compared > 10 or table.startswith("ADR, Table 1") and compared == 10


def test_transfers_of_atld():
    """Table 3, one row by hand."""
    paper = studies.load("atld_cifar10").row("atld").paper
    assert [paper[f"{a} from Standard"] for a in ("FGSM", "PGD-20", "CW-20")] == [
        88.11,
        91.36,
        91.52,
    ]
    assert [paper[f"{a} from ATLD"] for a in ("FGSM", "PGD-20", "CW-20")] == [84.47, 82.24, 80.34]


def test_decision_has_the_rules_of_results():
    study = studies.load("atld_decision")
    whole = study.claims[0]
    pgd, imt = whole.claims
    assert (pgd.row, pgd.than, pgd.column, pgd.standard_errors, pgd.by) == (
        "atld", "fs", "PGD-20", 2.0, 0.0)  # fmt: skip
    assert (imt.row, imt.than, imt.standard_errors) == ("atld_imt_plus", "fs", 0.0)
    assert list(whole.refuted_by) == [pgd]
    limits = [(one.metric, one.below, one.epochs) for one in whole.given]
    assert limits == [("manifold", 1.376, "last"), ("zero_gradient", 0.05, "every")]
    assert study.examples_of("PGD-20", "paper") is None
    assert study.examples_of("AutoAttack", "paper") == 1000
    # The very run that bin/train makes by the section's words.
    files = ["gin/parts/cifar10_wrn_10_2.gin", "gin/parts/methods/atld.gin"]
    by_hand = recipes.load(files, ["DiscriminatorTraining.learning_rate=0.01", "train.seed=1"])
    plan = studies.Plan(study)
    assert plan.recipe(study.row("atld"), 1).text == by_hand.text
