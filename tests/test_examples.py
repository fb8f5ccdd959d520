"""The scripts in examples/, run as they are."""

import runpy
from pathlib import Path

import robust_tf

EXAMPLES = Path(robust_tf.__file__).parent.parent / "examples"


def test_quickstart(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    script = EXAMPLES / "quickstart.py"
    assert len(script.read_text().splitlines()) <= 15
    runpy.run_path(str(script))
    table = capsys.readouterr().out
    for row in ("natural", "PGD-20 eps=8/255", "PGD-20 eps=0.1", "worst case over all"):
        assert row in table


def test_contents(capsys):
    runpy.run_path(str(EXAMPLES / "contents.py"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == dir(robust_tf)
    assert all(len(line.split()) > 1 for line in lines)
