import pytest

from robust_tf import attacks
from robust_tf.attacks import BIM, CW, FGSM, MIM, PGD, MultiTargeted, TRADESAttack
from robust_tf.evaluation import attack_parser, name_of, named, parse_attack, parse_attacks


@pytest.mark.parametrize(
    ("text", "attack"),
    [
        ("PGD(eps=0.3, step_size=0.01, steps=40)", PGD(0.3, 0.01, 40)),
        (" PGD(8/255, 2/255, steps=2*10) ", PGD(8 / 255, 2 / 255, 20)),
        (
            "MultiTargeted(PGD(eps=8/255, step_size=2/255, steps=20, restarts=5))",
            MultiTargeted(PGD(8 / 255, 2 / 255, 20, restarts=5)),
        ),
        ("FGSM(eps=0.1, random_start=True, norm='L2')", FGSM(0.1, True, "L2")),
        (
            "ProjectedGradient(Linf(.3), Momentum(.01, decay=.9), 4, Margin(), UniformStart())",
            attacks.ProjectedGradient(
                attacks.Linf(0.3),
                attacks.Momentum(0.01, 0.9),
                4,
                attacks.Margin(),
                attacks.UniformStart(),
            ),
        ),
    ],
)
def test_text_becomes_the_attack(text, attack):
    assert parse_attack(text) == attack


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("PDG(eps=1)", r"no attack 'PDG'\. Did you mean PGD\? Known: .*MultiTargeted"),
        ("multitargeted(PGD(eps=1))", "Did you mean MultiTargeted"),
        ("Zebra()", "no attack 'Zebra'. Known"),
        ("PGD(epsilon=1)", r"no parameter 'epsilon'\. Did you mean eps\?"),
        ("PGD(eps=0.3, stepsize=0.01, steps=4)", r"Did you mean step_size\? It is PGD\(eps, step_"),
        ("PGD(eps=0.3)", "missing a required argument: 'step_size'. It is PGD"),
        ("PGD(eps=-0.3, step_size=0.01, steps=4)", "eps=-0.3"),
        ("PGD(eps=0.3, step_size=0, steps=4)", "step_size=0"),
        ("PGD(eps=0.3, step_size=0.01, steps=4.5)", "steps=4.5"),
        ("PGD(eps='a', step_size=0.01, steps=4)", "eps='a'"),
        ("PGD(eps=1/0, step_size=0.01, steps=4)", "divides by zero"),
        ("PGD(eps='a'*9, step_size=0.01, steps=4)", "'a'.* is not a number"),
        ("PGD(eps=0.3, step_size=0.01, steps=4, norm='L7')", "norm='L7'"),
        ("MultiTargeted(PGD)", r"'PGD' in .* PGD\(\.\.\.\)"),
        ("MultiTargeted(4)", "MultiTargeted"),
        ("MultiTargeted(TRADESAttack(eps=1, step_size=1, steps=1))", "KLDivergence"),
        ("Linf(0.3)", "is not an attack; known: .*PGD"),
        ("0.3", "is not an attack"),
        ("PGD(eps=0.3", "cannot read the attack"),
        ("PGD(*[1, 2, 3])", "not allowed"),
        ("PGD(**{'eps': 1})", "has no parameter"),
        ("PGD(eps=2**9**9, step_size=1, steps=1)", "not allowed"),
        ("__import__('os').system('true')", "not allowed"),
        ("(lambda: 1)()", "not allowed"),
        ("Attack()", "no attack 'Attack'"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_attack(text)


def test_several_attacks_get_readable_unique_names():
    text = (
        "PGD(eps=0.3, step_size=0.01, steps=40); PGD(eps=0.3, step_size=0.02, steps=40);"
        "MultiTargeted(PGD(eps=0.3, step_size=0.01, steps=40));"
        "PGD(eps=8/255, step_size=2/255, steps=20); PGD(eps=0.3, step_size=0.01, steps=40);"
    )
    assert list(parse_attacks(text)) == [
        "PGD-40 eps=0.3 step=0.01",
        "PGD-40 eps=0.3 step=0.02",
        "PGD-40 multi-targeted eps=0.3",
        "PGD-20 eps=8/255",
    ]
    with pytest.raises(ValueError, match="no attacks given"):
        parse_attacks(" ; ")


def test_names_tell_attacks_apart():
    arguments = {"eps": 8 / 255, "step_size": 2 / 255, "steps": 20}
    names = {
        "FGSM eps=8/255": FGSM(8 / 255),
        "R-FGSM eps=8/255": FGSM(8 / 255, random_start=True),
        "BIM-20 eps=8/255": BIM(**arguments),
        "PGD-20 eps=8/255": PGD(**arguments),
        "PGD-20 eps=8/255 restarts=10": PGD(**arguments, restarts=10),
        "PGD-20 eps=8/255 keep=best": PGD(**arguments, keep="best"),
        "PGD-20 eps=8/255 batch_norm=batch": PGD(**arguments, batch_norm="batch"),
        "PGD-20 targeted eps=8/255": PGD(**arguments, targeted=True),
        "PGD-20 L2 eps=0.5": PGD(0.5, 0.1, 20, norm="L2"),
        "MIM-20 eps=8/255": MIM(**arguments),
        "CW-20 eps=8/255": CW(**arguments),
        "CW-20 multi-targeted eps=8/255": MultiTargeted(CW(**arguments)),
        "TRADES-20 eps=8/255": TRADESAttack(**arguments),
    }
    assert {name: name_of(attack) for name, attack in names.items()} == {n: n for n in names}
    assert named(names.values()) == names


def test_what_names_do_not_tell_apart_gets_a_number():
    pair = [TRADESAttack(0.1, 0.1, 2), TRADESAttack(0.1, 0.1, 2, random_start="uniform")]
    assert list(named(pair)) == ["TRADES-2 eps=0.1 step=0.1", "TRADES-2 eps=0.1 step=0.1 (2)"]


def test_the_command_line_help_knows_every_attack():
    from robust_tf.cli import evaluate

    library = [name for name in attack_parser._attack_names() if "." not in name]
    assert "PGD" in library and all(f"{name}(" in evaluate.EPILOG for name in library)
