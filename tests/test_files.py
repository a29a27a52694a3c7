from pathlib import Path

import pytest

import tfdet
from tfdet.config.files import find_gin_file
from tfdet.data.manifest import Manifest
from tfdet.errors import UserError
from tfdet.files import at_home, check_local, has_pattern, literal, literal_beginning, replacing
from tfdet.predict.patterns import matches
from tfdet.training.run_dir import RunDirectory


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


@pytest.mark.parametrize("path", ["gs://bucket/a.json", "s3://b", "http://host/x", "hdfs://x", Path("gs://bucket/a")])
def test_an_address_is_no_path(path):
    with pytest.raises(UserError, match="^--output .* is an address, and tfdet reads data sets alone from there"):
        check_local(path, "--output")
    with pytest.raises(UserError, match="is an address"), replacing(path):
        pass


def test_an_address_of_a_file_is_told_to_be_a_path_and_paths_are_let_through():
    with pytest.raises(UserError, match="^file:///data is an address: give the path alone, without file://"):
        check_local("file:///data")
    for path in ("a:b", "C:/data", "C:\\data", "a/b://c", "runs/exp[1]", Path("/data"), "", "x:/y"):
        check_local(path)


@pytest.mark.parametrize(
    "read",
    [RunDirectory, Manifest.load, find_gin_file, tfdet.load, tfdet.build, at_home],
    ids=lambda read: read.__name__,
)
def test_a_home_folder_that_is_not_known_is_one_line(read):
    with pytest.raises(UserError, match="^~nobody_x/y.*home folder ~nobody_x is: give the whole path"):
        read("~nobody_x/y")


@pytest.mark.parametrize("name", ["exp[1]", "a*b", "a?b", "back\\slash", "plain"])
def test_a_folder_has_a_name_that_is_no_pattern(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    with literal(folder) as text:
        assert not set("*?[\\") & set(text)
        Path(text, "file").write_text("here")
    assert (folder / "file").read_text() == "here"
    assert has_pattern(folder) == (name != "plain")
    with pytest.raises(FileNotFoundError), literal(tmp_path / "no[where]"):
        pass


def test_what_a_pattern_begins_with_is_a_folder_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("exp[1]/a.jpg", "exp[1]/deep/b.jpg", "exp1/c.jpg", "exp[1]/x[2].jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()

    def found(pattern):
        return sorted(matches(literal_beginning(pattern)))

    assert found("exp[1]/*.jpg") == ["exp[1]/a.jpg", "exp[1]/x[2].jpg"]
    assert found(f"{tmp_path}/exp[1]/**/b*") == [f"{tmp_path}/exp[1]/deep/b.jpg"]
    assert found("exp[0-9]/*") == found("*/c.jpg") == ["exp1/c.jpg"]
    assert found("no[where]/*") == found("*.jpg") == []
