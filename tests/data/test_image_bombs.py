"""Pictures that are small files, names that are no files, and files that lie where annotations have no business."""

from __future__ import annotations

import io
import os
import pathlib
import resource
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tfdet.data import images
from tfdet.data.annotations import AnnotationSet, ImageAnnotation
from tfdet.data.images import ImageError, decode_image, image_size, prepare_image, read_image
from tfdet.data.outside import leave_out_outside
from tfdet.data.prepare import prepare_record
from tfdet.data.problems import ProblemReport
from tfdet.errors import UserError
from tfdet.predict.sources import find_images, read_source


def png(height, width):
    """A grey PNG of zeros that takes no memory to make."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    lines = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def bomb():
    """9,500 x 9,500: 90 megapixels in 100 kB, just above the limit."""
    return png(9500, 9500)


def test_a_bomb_is_known_by_its_header(bomb, tmp_path):
    (tmp_path / "bomb.png").write_bytes(bomb)
    assert len(bomb) < 120_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for call in (decode_image, prepare_image, image_size):
        with pytest.raises(ImageError, match="is 9500x9500, more than the 89478485 pixels.*--max_pixels"):
            call(bomb)
    with pytest.raises(UserError, match="bomb.png: is 9500x9500, more than"):
        read_image(tmp_path / "bomb.png")
    with Image.open(io.BytesIO(bomb)) as image, pytest.raises(UserError, match="image 3 is 9500x9500"):
        read_source(image, 3)
    annotation = ImageAnnotation(1, "bomb.png", tmp_path / "bomb.png", 0, 0)
    assert "more than the 89478485 pixels" in prepare_record(annotation).problems[0].reason
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kB"


def test_the_limit_is_an_option(tmp_path):
    encoded = png(30, 20)
    (tmp_path / "x.png").write_bytes(encoded)
    assert read_image(tmp_path / "x.png", 600).shape == (30, 20, 3)
    for call in (lambda: decode_image(encoded, 599), lambda: prepare_image(encoded, max_pixels=599)):
        with pytest.raises(ImageError, match="is 20x30"):
            call()
    assert prepare_record(ImageAnnotation(1, "x.png", tmp_path / "x.png", 0, 0), 599).image is None


def test_more_than_pil_allows_can_be_asked_for(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode_image(png(30, 20), 1000).shape == (30, 20, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_postscript_runs_no_program():
    with pytest.raises(ImageError, match="is PostScript, a program"):
        decode_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")


def test_a_file_longer_than_any_image_is_not_read(tmp_path):
    path = tmp_path / "long.jpg"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # a sparse one
    with pytest.raises(UserError, match="long.jpg: has 1099511627776 bytes"):
        read_image(path)


@pytest.fixture
def odd(tmp_path):
    """A folder with a picture, a pipe, a socket, a folder, links that lead to each other and to nothing."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.png").write_bytes(png(4, 5))
    os.mkfifo(folder / "pipe.jpg")
    here = os.getcwd()
    os.chdir(folder)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
    os.chdir(here)
    (folder / "folder.jpg").mkdir()
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "nothing.jpg").symlink_to("absent.jpg")
    (folder / "again").symlink_to(".")
    (folder / "once more").symlink_to(".")
    return folder


REASONS = {
    "pipe.jpg": "is a pipe, not a file",
    "socket.jpg": "is a socket, not a file",
    "folder.jpg": "is a folder, not a file",
    "circle.jpg": "Too many levels of symbolic links",
    "nothing.jpg": "No such file or directory",
    "zero\0.jpg": "has a null byte in its name",
}


@pytest.mark.parametrize("name", REASONS)
def test_what_is_no_file_is_named_and_not_waited_for(odd, name):
    with pytest.raises(UserError) as caught:
        read_image(odd / name)
    assert REASONS[name] in str(caught.value)
    record = prepare_record(ImageAnnotation(7, name, odd / name, 0, 0))
    assert record.image is None and len(record.problems) == 1


def test_devices_are_not_read():
    with pytest.raises(UserError, match="/dev/zero: is a device, not a file"):
        read_image("/dev/zero")


@pytest.mark.parametrize("pattern", ["**/*.*", "**", "*"])
def test_patterns_do_not_go_round_in_circles(odd, pattern, monkeypatch):
    monkeypatch.chdir(odd)
    expected = ["circle.jpg", "good.png", "nothing.jpg", "pipe.jpg", "socket.jpg"]
    assert find_images([pattern]) == expected
    assert find_images([str(odd / pattern)]) == [str(odd / name) for name in expected]


def test_patterns_go_through_links_to_other_folders(tmp_path):
    for name in ("a/x.png", "b/c/y.png", "b/.hidden/z.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a/link").symlink_to(tmp_path / "b")
    found = find_images([f"{tmp_path}/a/**/*.png"])
    assert found == [f"{tmp_path}/a/link/c/y.png", f"{tmp_path}/a/x.png"]


def test_files_outside_of_the_image_folder_are_left_out(tmp_path):
    inside, outside = tmp_path / "img", tmp_path / "secret.png"
    (inside / "sub").mkdir(parents=True)
    outside.write_bytes(png(4, 4))
    (inside / "a.png").write_bytes(png(4, 4))
    (inside / "link.png").symlink_to(outside)
    (inside / "own.png").symlink_to("a.png")
    (inside / "up").symlink_to("..")
    (tmp_path / "img2").mkdir()
    taken = ["a.png", "own.png", "sub/../a.png", "absent.png", str(inside / "a.png")]
    refused = [
        "../secret.png",
        str(outside),
        "link.png",
        "up/secret.png",
        "sub/../../secret.png",
        "../img2/x.png",
        "..",
    ]
    entries = [ImageAnnotation(n, name, inside / name, 0, 0) for n, name in enumerate([*taken, *refused])]
    memory = ImageAnnotation(99, "m", None, 0, 0, encoded=b"")
    report = ProblemReport()
    kept = leave_out_outside(AnnotationSet([], [*entries, memory]), [inside], report)
    assert [image.file_name for image in kept.images] == [*taken, "m"]
    assert [problem.file for problem in report.problems] == refused
    assert all(p.kind == "file outside" and "--allow_outside" in p.reason for p in report.problems)
    link = tmp_path / "linked"
    link.symlink_to(inside)
    entry = ImageAnnotation(1, "a.png", link / "a.png", 0, 0)
    assert leave_out_outside(AnnotationSet([], [entry]), [link], ProblemReport()).images == [entry]


def test_bytes_of_a_file_are_what_they_were(tmp_path):
    content = np.random.default_rng(0).bytes(1000)
    (tmp_path / "x").write_bytes(content)
    assert images.read_file(pathlib.Path(tmp_path / "x")) == content


def iptc(inner):
    """A picture of 64 x 64 by its own words, which PIL hands to the decoder of what it holds."""

    def field(group, tag, data):
        return bytes([0x1C, group, tag]) + struct.pack(">H", len(data)) + data

    side = struct.pack(">H", 64)
    head = [(3, 60, b"\1\0"), (3, 65, b"\1"), (3, 20, side), (3, 30, side), (3, 120, b"\5")]
    return b"".join(field(*part) for part in [*head, (8, 10, inner)])


@pytest.mark.parametrize("kind", ["IPTC", "ICO", "ICNS"])
def test_pictures_within_pictures_are_of_no_known_kind(kind):
    if kind == "IPTC":
        encoded = iptc(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n")
    else:
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64)).save(buffer, kind)
        encoded = buffer.getvalue()
    for call in (decode_image, prepare_image, image_size):
        with pytest.raises(ImageError, match="is not an image of a known kind"):
            call(encoded)


def tiff(side, tile, order="<", kind=4, twice=False):
    """A grey TIFF of one tile of zeros, packed; with `twice` a small tile is declared behind the large one."""
    data = zlib.compress(bytes(tile * tile))
    entries = [(256, side), (257, side), (258, 8), (259, 8), (262, 1), (277, 1)]
    entries += [(322, tile), (323, tile)] + [(322, 16), (323, 16)] * twice + [(324, 8), (325, len(data))]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    numbers = b""
    for tag, number in entries:
        short = kind == 3 and tag in (322, 323)
        value = struct.pack(order + "HH", number, 0) if short else struct.pack(order + "I", number)
        numbers += struct.pack(order + "HHI", tag, 3 if short else 4, 1) + value
    return head + data + struct.pack(order + "H", len(entries)) + numbers + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4], ids=["SHORT", "LONG"])
def test_a_tile_has_no_more_pixels_than_an_image(order, kind):
    assert decode_image(tiff(20, 32, order, kind), 1024).shape == (20, 20, 3)
    for twice in (False, True):
        with pytest.raises(ImageError, match="has tiles of 48x48, more than the 1024 pixels"):
            decode_image(tiff(20, 48, order, kind, twice), 1024)


def with_scans(number, height=40, width=40):
    """A progressive JPEG whose last scan is repeated."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG", progressive=True)
    encoded = buffer.getvalue()
    return encoded[:-2] + encoded[encoded.rindex(b"\xff\xda") : -2] * number + encoded[-2:]


def test_the_scans_of_a_jpeg_are_counted():
    encoded, few, many = (with_scans(number) for number in (0, 80, 100))
    assert decode_image(few).shape == (40, 40, 3)
    for call in (decode_image, prepare_image, image_size):
        with pytest.raises(ImageError, match="is a JPEG of more than the 100 scans"):
            call(many)
    # What stands in a segment or behind the image is no scan of it.
    comment = b"\xff\xfe" + struct.pack(">H", 402) + b"\xff\xda" * 200
    np.testing.assert_array_equal(decode_image(encoded[:2] + comment + encoded[2:]), decode_image(encoded))
    assert decode_image(encoded + b"\xff\xda" * 200).shape == (40, 40, 3)


def test_a_sliver_is_refused():
    for height, width in ((1, 65_536), (65_536, 1)):
        with pytest.raises(ImageError, match=f"is {width}x{height}, with a side longer than the 65535 pixels"):
            image_size(png(height, width))
    assert image_size(png(1, 65_535)) == (1, 65_535)
