"""The list of published weights, and the fetching of one by its name."""

import dataclasses
import hashlib
import os
import re
from pathlib import Path

import pytest

from tests.fetch.server import CONTENT, serving
from tfdet.commands import main
from tfdet.config.files import gin_configs_folder
from tfdet.errors import EXIT_CHECK_FAILED, EXIT_OK, EXIT_USER_ERROR, UserError
from tfdet.weights import find_weights, published

LISTED = list(published.everything().values())


def changed(monkeypatch, name, **values):
    """A file of the list with other values, such as a checksum, while a test runs."""
    other = dataclasses.replace(published.get(name), **values)
    monkeypatch.setitem(published.everything(), name, other)
    published._by_any_name.cache_clear()
    return other


@pytest.fixture
def web(monkeypatch, tmp_path):
    """A server that is the mirror of everything, and an empty cache."""
    monkeypatch.setenv("TFDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TFDET_OFFLINE")
    monkeypatch.chdir(tmp_path)
    with serving() as web:
        web.files = {}
        monkeypatch.setenv("TFDET_MIRROR", web.address(""))
        yield web
    published._by_any_name.cache_clear()


def test_every_file_has_an_address_a_licence_and_a_source():
    assert len(LISTED) > 75
    for one in LISTED:
        assert one.name.partition("/")[0] in published.TITLES and one.licence and one.source
        assert all(address.startswith("https://") for address in one.addresses)
        assert one.checksum is None or re.fullmatch(r"sha256:[0-9a-f]{8}|md5:([0-9a-f]{6}|[0-9a-f]{32})", one.checksum)
        assert one.is_detector == (one.box_ap is not None or one.mask_ap is not None)
        assert len(f"  {one.name}") <= 80
    assert published.get("torchvision/fasterrcnn_resnet50_fpn_v2").checksum == "sha256:dd69338a"
    assert published.get("detectron2/mask_rcnn_R_50_FPN_3x").checksum == "md5:f10217"


def test_every_row_that_a_file_names_is_there():
    """A row that is not shipped is an error; of a group of rows that is not here at all, none is."""
    shipped = gin_configs_folder()
    groups = {
        "torchvision/.*_v2": "torchvision/overlays/v2.gin",
        "detectron2/new_baselines/.*": "detectron2/new_baselines",
    }
    rows = {file for one in LISTED for file in one.gin_files}
    begun = (shipped / "detectron2/schedules/3x.gin").exists()
    for row in sorted(rows):
        group = next((mark for pattern, mark in groups.items() if re.fullmatch(f"{pattern}.gin", row)), None)
        expected = (shipped / group).exists() if group else begun
        assert (shipped / row).is_file() or not expected, row


def test_only_torchvisions_first_detectors_add_nothing_to_the_variance():
    named = [one.name for one in LISTED if "EPSILON = 0.0" in one.bindings]
    assert named == [f"torchvision/{kind}_resnet50_fpn" for kind in ("fasterrcnn", "maskrcnn", "retinanet")]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("R-50.pkl", "detectron2/R-50"),
        ("resnet-v1-50", "simpledet/resnet-v1-50"),
        ("resnet-v1-101-0000.params", "simpledet/resnet-v1-101"),
        ("faster_r50v1_fpn_1x", "simpledet/faster_r50v1_fpn_1x"),
        ("fasterrcnn_resnet50_fpn_coco-258fb6c6", "torchvision/fasterrcnn_resnet50_fpn"),
        ("resnet50_weights_tf_dim_ordering_tf_kernels_notop", "keras/resnet50"),
        ("mask_rcnn_R_50_FPN_3x", "detectron2/mask_rcnn_R_50_FPN_3x"),
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml", "detectron2/mask_rcnn_R_50_FPN_3x"),
        ("new_baselines/mask_rcnn_R_50_FPN_400ep_LSJ.py", "detectron2/mask_rcnn_R_50_FPN_400ep_LSJ"),
        ("model_final_b275ba.pkl", "detectron2/faster_rcnn_R_50_FPN_1x"),
        ("Cityscapes/mask_rcnn_R_50_FPN", "detectron2/Cityscapes/mask_rcnn_R_50_FPN"),
        ("resnet50", None),  # torchvision's or Keras'
        ("R-50.pth", None),
    ],
)
def test_names_that_a_file_goes_by(written, name):
    found = published.find(written)
    assert (found and found.name) == name


def test_a_name_is_fetched_once_and_found(web, monkeypatch):
    digest = hashlib.md5(CONTENT).hexdigest()
    changed(monkeypatch, "detectron2/mask_rcnn_R_50_FPN_3x", checksum=f"md5:{digest[:6]}")
    web.files = {
        "/detectron2/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl": CONTENT
    }
    for name in ("detectron2/mask_rcnn_R_50_FPN_3x", "mask_rcnn_R_50_FPN_3x"):
        file = find_weights(name)
        assert file.read_bytes() == CONTENT and file.name == "model_final_f10217.pkl"
    assert len(web.gets()) == 2  # at MIRROR/host/path, then at MIRROR/path


def test_of_weights_that_moved_every_host_is_asked_and_another_programs_named(web, monkeypatch):
    monkeypatch.setenv("TFDET_OFFLINE", "1")
    with pytest.raises(UserError) as error:
        find_weights("resnet-v1-50")
    assert "put the file of https://1dv.aflat.top/resnet-v1-50-0000.params as " in str(error.value)
    assert str(error.value).endswith("Made of the same weights by another program: detectron2/R-50")
    hosts = [re.sub("https://(.*)/.*", r"\1", a) for a in published.get("resnet-v1-50").addresses]
    assert hosts == ["1dv.aflat.top", "1dv.alarge.space", "simpledet-model.oss-cn-beijing.aliyuncs.com"]


def test_the_command_fetches_lists_verifies_and_removes(web, capsys):
    web.files = {"/ImageNetPretrained/MSRA/R-50.pkl": b"", "/detectron2/ImageNetPretrained/MSRA/R-50.pkl": CONTENT}
    assert main(["weights", "fetch", "detectron2/R-50"]) == EXIT_OK
    file = published.cached(published.get("detectron2/R-50"))
    assert file.read_bytes() == CONTENT and str(file) in capsys.readouterr().out
    assert main(["weights"]) == EXIT_OK
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines()[:-1])
    assert re.search(r"^  detectron2/R-50 +0 here$", shown, re.MULTILINE)
    assert re.search(r"^  torchvision/maskrcnn_resnet50_fpn_v2 +47\.4 +41\.8 +186$", shown, re.MULTILINE)
    assert main(["weights", "list", "--cached"]) == EXIT_OK
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert main(["weights", "verify"]) == EXIT_OK
    assert "detectron2/R-50: whole, its checksum is the first download's" in capsys.readouterr().out
    status = file.stat()
    file.write_bytes(CONTENT[::-1])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # size and date tell nothing
    assert main(["weights", "verify", "R-50"]) == EXIT_CHECK_FAILED
    assert "is damaged or another file" in capsys.readouterr().out
    assert main(["weights", "remove", "R-50"]) == EXIT_OK
    assert "removed, 0.2 MB" in capsys.readouterr().out and not file.exists()


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["fetch", "detectron2/R50"],
            "detectron2/R50 is not the name of published weights. Did you mean 'detectron2/R-50'",
        ),
        (["remove"], "remove what? Give names"),
        (["fetch", "torchvision/resnet50"], "cannot fetch torchvision/resnet50: TFDET_OFFLINE forbids the network"),
    ],
)
def test_errors_of_the_command_are_one_line(argv, line, capsys):
    assert main(["weights", *argv]) == EXIT_USER_ERROR
    said = capsys.readouterr().err
    assert said.startswith(f"tfdet: error: {line}") and said.count("\n") == 1


def test_a_backbone_is_no_detector(web, capsys):
    assert main(["predict", "--weights=detectron2/R-50", str(Path(__file__))]) == EXIT_USER_ERROR
    assert (
        "is a backbone, no detector: training starts from it, --init_weights=detectron2/R-50" in capsys.readouterr().err
    )
