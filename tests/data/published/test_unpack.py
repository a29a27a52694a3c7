"""Archives: what is unpacked, and what is refused before it costs disk or memory."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile

import pytest

from tests.data.published.offered import tarred, zipped
from tfdet.data.published import unpack as unpacking
from tfdet.data.published.unpack import DamagedArchiveError, unpack
from tfdet.errors import UserError

FILES = {"set/a.jpg": b"first" * 100, "set/deep/b.jpg": b"second", "other/c.jpg": b"third"}


@pytest.fixture(autouse=True)
def clean_tensorflow():
    """Nothing to clean."""


def unpacked(tmp_path, content: bytes, wanted=("*set/*",)) -> dict[str, bytes]:
    (tmp_path / "archive").write_bytes(content)
    folder = tmp_path / "there" / "archive"
    unpack(tmp_path / "archive", folder, wanted)
    assert [path.name for path in folder.parent.iterdir()] == ["archive"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("content", [zipped(FILES), tarred(FILES), tarred(FILES, "w:gz")], ids=["zip", "tar", "tgz"])
def test_wanted_files_alone(tmp_path, content):
    assert unpacked(tmp_path, content) == {name: FILES[name] for name in FILES if name.startswith("set/")}


@pytest.mark.parametrize("name", ["/set/x", "../set/x", "a/../../set/x", "set/.."])
@pytest.mark.parametrize("kind", [zipped, tarred])
def test_names_outside_of_the_folder_are_refused(tmp_path, kind, name):
    with pytest.raises(DamagedArchiveError, match="names a file outside of its folder"):
        unpacked(tmp_path, kind({"set/first": b"1", name: b"2"}), ("*set/*",))
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".archive.partial", "archive", "there"]


def linked() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"set/{kind.decode()}")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("set/file")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"ok"))
    return buffer.getvalue()


def zip_link() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("set/link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("set/file", b"ok")
    return buffer.getvalue()


@pytest.mark.parametrize("content", [linked(), zip_link()], ids=["tar", "zip"])
def test_links_and_devices_are_left_out(tmp_path, content):
    assert unpacked(tmp_path, content) == {"set/file": b"ok"}


def zeros(mode: str) -> bytes:
    """3 MB of zeros, of a few kB."""
    return zipped({"set/zeros": bytes(3_000_000)}) if mode == "zip" else tarred({"set/zeros": bytes(3_000_000)}, mode)


@pytest.mark.parametrize("mode", ["zip", "w:gz"])
def test_what_unpacks_to_far_more_than_it_has_is_refused(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(unpacking, "_LEAST", 1_000_000)
    with pytest.raises(DamagedArchiveError, match="unpacks to more than|is damaged"):
        unpacked(tmp_path, zeros(mode))
    assert not [path for path in tmp_path.rglob("zeros")]


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "_MOST_FILES", 2)
    for content in (zipped({f"set/{k}": b"" for k in range(5)}), tarred({f"set/{k}": b"" for k in range(5)})):
        with pytest.raises(DamagedArchiveError, match="2 files"):
            unpacked(tmp_path, content)


def test_a_header_that_asks_for_much_memory_is_refused(tmp_path):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 32
    with pytest.raises(DamagedArchiveError, match="a header of it is too long"):
        unpacked(tmp_path, info.tobuf() + bytes(1024))


@pytest.mark.parametrize("content", [zipped(FILES), tarred(FILES), tarred(FILES, "w:gz")], ids=["zip", "tar", "tgz"])
def test_what_is_cut_off_anywhere_is_one_line(tmp_path, content):
    for size in range(0, len(content) - (1024 if content[257:262] == b"ustar" else 1), max(len(content) // 25, 1)):
        (tmp_path / "archive").write_bytes(content[:size])
        try:
            unpack(tmp_path / "archive", tmp_path / f"out{size}", ("*set/*",))
        except DamagedArchiveError as error:
            assert "\n" not in str(error)
        else:  # the end of a tar file is no part of its files
            assert (tmp_path / f"out{size}/set/deep/b.jpg").read_bytes() == b"second"


def test_a_changed_byte_in_a_zip_is_found(tmp_path):
    content = bytearray(zipped({"set/a": bytes(range(256)) * 20}))
    content[80] ^= 0x55
    with pytest.raises(DamagedArchiveError, match="is damaged"):
        unpacked(tmp_path, bytes(content))


def test_an_encrypted_zip_is_said(tmp_path):
    content = bytearray(zipped({"set/a": b"x"}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.index(mark) + offset
        content[place : place + 2] = struct.pack("<H", 1)
    with pytest.raises(DamagedArchiveError, match="encrypted"):
        unpacked(tmp_path, bytes(content))


def test_a_name_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("set/a", b"1")
            archive.writestr("set/a", b"2")
    with pytest.raises(DamagedArchiveError, match="has 'set/a' twice"):
        unpacked(tmp_path, buffer.getvalue())


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpacking.shutil, "copyfileobj", full)
    with pytest.raises(UserError, match="No space left on device; the same command goes on from here"):
        unpacked(tmp_path, zipped(FILES))
    monkeypatch.undo()
    assert len(unpacked(tmp_path, zipped(FILES))) == 2
