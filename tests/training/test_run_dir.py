"""Files of a run's folder."""

import os

import pytest

from tfdet.errors import UserError
from tfdet.training.run_dir import RunDirectory


class TestRunDirectory:
    @pytest.mark.parametrize("place", ["file", "/proc/tfdet"])
    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path, place):
        (tmp_path / "file").write_text("in the way")
        folder = tmp_path / place
        with pytest.raises(UserError, match=f"{folder.name} cannot be written .* --model_dir"):
            RunDirectory(folder).create()

    def test_texts_are_replaced_whole(self, tmp_path):
        run = RunDirectory(tmp_path)
        run.write(run.config, "a = 1\n")
        run.write(run.config, "a = 2\n")
        assert run.config.read_text() == "a = 2\n"
        assert [path.name for path in tmp_path.iterdir()] == ["config.gin"]

    def test_a_text_that_cannot_be_written_is_an_error(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        run = RunDirectory(tmp_path / "file/run")
        with pytest.raises(UserError, match="cannot write .*config.gin.*free space or choose another --model_dir"):
            run.write(run.config, "a = 1\n")

    def test_the_manifest_is_copied(self, tmp_path):
        (tmp_path / "data").mkdir()
        run = RunDirectory(tmp_path)
        with pytest.raises(UserError, match="manifest.json"):
            run.begin(tmp_path / "data")
        (tmp_path / "data" / "manifest.json").write_text('{"classes": []}')
        run.begin(tmp_path / "data")
        assert run.manifest.read_text() == '{"classes": []}'

    def test_the_best_is_noted(self, tmp_path):
        run = RunDirectory(tmp_path)
        assert run.read_best() is None
        run.note_best(7, "AP", 0.25, "0a1b")
        assert run.read_best() == {"step": 7, "metric": "AP", "value": 0.25, "data": "0a1b", "raw": False}
        good = run.best_note.read_text()
        for damaged in ("{", "[]", good.replace("0.25", "1" * 400), good.replace("0.25", '"nan"')):
            run.best_note.write_text(damaged)
            assert run.read_best() is None

    def test_figures_that_are_none_are_those_of_no_evaluation(self, tmp_path):
        run = RunDirectory(tmp_path)
        run.evaluations.write_text('{"2": {"AP": %s}, "4": {"AP": 1}, "5": [3], "6": {"AP": "x"}}' % ("1" * 400))
        assert run.read_evaluations() == {4: {"AP": 1.0}} and run.lacks_evaluation(2)
        run.note_evaluation(8, {"AP": 0.5, "mask_AP": float("nan")})
        assert run.read_evaluations() == {4: {"AP": 1.0}, 8: {"AP": 0.5}}
        run.evaluations.write_text('{"%s": {}}' % ("1" * 5000))
        assert run.read_evaluations() is None

    def test_a_pipe_in_the_place_of_a_note_is_not_waited_for(self, tmp_path):
        run = RunDirectory(tmp_path)
        for path in (run.best_note, run.evaluations, run.manifest):
            os.mkfifo(path)
        assert (run.read_best(), run.read_evaluations(), run.read_classes()) == (None, None, None)
