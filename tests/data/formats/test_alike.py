"""The same pictures in every format become the same records, byte for byte."""

import pytest

from tests.data.formats import written
from tfdet.data.conversion import read_source, write_sets
from tfdet.data.formats.recognise import recognise
from tfdet.data.problems import ProblemReport


def convert(folder, out):
    found = recognise(folder)
    report = ProblemReport()
    annotations = read_source(found, report)
    (manifest,) = write_sets({"all": annotations}, out, "x", report, name="same", num_workers=0).values()
    assert report.counts() == {}, report.problems
    return found.format, manifest


@pytest.mark.parametrize("writers", [written.BOXES, written.MASKS], ids=["boxes", "masks"])
def test_records_are_alike(writers, tmp_path):
    first = None
    for name, write in writers.items():
        form, manifest = convert(write(tmp_path / f"{name} in"), tmp_path / f"{name} out")
        assert form == name.split()[0]
        first = first or manifest
        assert manifest.shards == first.shards, name
        assert manifest.classes == list(written.CLASSES) and manifest.num_images == written.COUNT
        assert (manifest.num_images_without_boxes, manifest.num_masks > 0) == (1, writers is written.MASKS)
        assert manifest.frequencies == (["r", "c", "f"] if name == "lvis" else [])
    assert first.num_boxes == sum(len(photo.objects) for photo in written.PHOTOS) > 30
