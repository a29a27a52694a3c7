import pytest

from tfdet.errors import UserError
from tfdet.files import replacing


def test_the_name_appears_when_the_file_is_complete(tmp_path):
    path = tmp_path / "new" / "a.json"
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists() and temporary.suffix == ".json"
    assert path.read_text() == "half" and [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_a_failure_leaves_the_older_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file/a.json"), replacing(tmp_path / "file" / "a.json"):
        pass
