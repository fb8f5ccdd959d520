import json
import os

import pytest
import tensorflow as tf

from robust_tf import files


def test_text_and_json_round_trip(tmp_path):
    path = tmp_path / "new" / "folder" / "file.json"
    files.write_json(path, {"b": 1, "a": ["é", 2.5, None]})
    assert files.read_json(path) == {"b": 1, "a": ["é", 2.5, None]}
    files.write_text(path, "other")
    assert files.read_text(path) == "other"
    assert os.listdir(path.parent) == ["file.json"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    files.write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), files.atomic(path) as temporary:
        with open(temporary, "w") as file:
            file.write("half of the n")
        raise KeyboardInterrupt
    assert files.read_text(path) == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_full_disk_is_said_in_one_line(tmp_path):
    path = tmp_path / "file.txt"
    with pytest.raises(files.FileError, match=r"cannot write .*file.txt: No space left"):
        with files.atomic(path):
            raise OSError(28, "No space left on device")


def test_atomic_keeps_the_extension_and_takes_folders(tmp_path):
    with files.atomic(tmp_path / "model.keras") as temporary:
        assert temporary.endswith(".keras")
        os.makedirs(os.path.join(temporary, "inside"))
    assert (tmp_path / "model.keras" / "inside").is_dir()


def test_a_path_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for attempt in (files.check_writable, lambda path: files.write_text(path, "text")):
        with pytest.raises(files.FileError, match="cannot write .*file/below: "):
            attempt(tmp_path / "file" / "below")


def test_check_writable_touches_nothing(tmp_path):
    path = tmp_path / "result.json"
    files.check_writable(path)
    assert os.listdir(tmp_path) == []
    path.write_text("old")
    files.check_writable(path)
    assert path.read_text() == "old"
    with pytest.raises(files.FileError, match="is a folder"):
        files.check_writable(tmp_path)


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(files.FileError, match="cannot read .*missing.txt"):
        files.read_text(tmp_path / "missing.txt")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(files.FileError, match="bad.json is not JSON"):
        files.read_json(tmp_path / "bad.json")


def test_remove_takes_files_folders_and_nothing(tmp_path):
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "file").write_text("")
    files.remove(tmp_path / "folder")
    files.remove(tmp_path / "folder")
    assert not files.exists(tmp_path / "folder")


def test_a_changed_digit_is_found_and_the_layout_is_free(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"b": 0.1, "a": [1, {"c": (2, 3)}], 7: None})
    value = {"b": 0.1, "a": [1, {"c": [2, 3]}], "7": None}
    assert files.read_json(path) == value
    text = path.read_text()
    path.write_text(json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")))
    assert files.read_json(path) == value
    path.write_text(text.replace("0.1", "0.2"))
    with pytest.raises(files.FileError, match=r"a.json is damaged.*delete its field 'checksum'"):
        files.read_json(path)
    path.write_text(json.dumps({"b": 0.2}))  # of an earlier version
    assert files.read_json(path) == {"b": 0.2}


def test_lines_are_told_apart(tmp_path):
    path = tmp_path / "a.jsonl"
    files.write_lines(path, [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": float("nan")}])
    rows = files.read_lines(path)
    assert rows[0] == {"epoch": 1, "loss": 0.5} and rows[1]["epoch"] == 2
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.6") + b'\n\xff\n[1]\n{"epoch": 3}\n{"ep')
    assert files.read_lines(path)[0] is None
    assert files.read_lines(path)[2:] == [None, None, {"epoch": 3}, None]


def test_leftovers_of_killed_processes(tmp_path):
    for name in (".0123abcd.a.json", ".0123abcd.b.json", "a.json", ".x.a.json"):
        (tmp_path / name).write_text("")
    found = files.leftovers(tmp_path, ["a.json", "c"])
    assert [os.path.basename(path) for path in found] == [".0123abcd.a.json"]
    assert files.is_leftover(found[0]) and not files.is_leftover(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Graph execution error:\n\nDetected at node a/b:\n<stack traces unavailable>\n"
            "Detected unsupported operations: {{node a/b}} String.\nmore",
            "Detected unsupported operations: String",
        ),
        ("Graph execution error:", "Graph execution error:"),
        ("Two\nlines", "Two"),
        ("", "InternalError"),
    ],
)
def test_a_reason_is_the_line_that_tells_the_cause(message, expected):
    assert files.reason(tf.errors.InternalError(None, None, message)) == expected
