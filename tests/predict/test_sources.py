"""Which files are taken for images."""

import pytest

from tfdet.errors import UserError
from tfdet.predict.sources import find_images


@pytest.fixture
def folder(tmp_path):
    for name in ["b.JPG", "a.png", "notes.txt", "deep/c.webp", "strange.data", "[1].png"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


def names(folder, *inputs):
    return [path.removeprefix(f"{folder}/") for path in find_images([f"{folder}/{entry}" for entry in inputs])]


def test_folders_patterns_and_files(folder):
    assert [name.rsplit("/", 1)[-1] for name in names(folder, "")] == ["[1].png", "a.png", "b.JPG"]
    assert names(folder, "**/*.webp", "a.png") == ["deep/c.webp", "a.png"]
    assert names(folder, "strange.data") == ["strange.data"], "a file that is named is taken whatever its ending"
    assert names(folder, "a.png", "*.png") == ["a.png", "[1].png"], "each once"
    assert names(folder, "[1].png") == ["[1].png"], "a file may look like a pattern"


def test_an_absent_file_is_kept_so_that_reading_names_it(folder):
    assert names(folder, "absent.jpg") == ["absent.jpg"]


def test_no_image_at_all_is_an_error(folder):
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match="no image found in .*empty.*xyz"):
        find_images([str(folder / "empty"), str(folder / "*.xyz")])
