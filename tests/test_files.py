import os

import pytest

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
