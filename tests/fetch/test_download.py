"""Downloads against a local server: what is cut, wrong, moved, slow, asked for twice, or has no room."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fetch.server import CONTENT, SHA256, serving
from tfdet import fetch
from tfdet.errors import UserError
from tfdet.fetch import record, transfer

PREFIX = f"sha256:{SHA256[:8]}"
SIZE = len(CONTENT)


@pytest.fixture
def web(monkeypatch):
    for name in (
        "TFDET_MIRROR",
        "TFDET_OFFLINE",
        "TFDET_TIMEOUT",
        "TFDET_CHECKSUMS",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transfer, "_PAUSE", 0.0)
    monkeypatch.setattr(transfer, "_BLOCK", 10_000)
    with serving() as web:
        yield web


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "a.pth"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def begun(web, target, size, **options):
    """A download that ends after `size` bytes, as when the machine goes down; the server is whole afterwards."""
    continues = web.ranges and (web.tag or options)
    web.cuts = [size, 0, 0, 0] if continues else [size] * 4
    with pytest.raises(UserError, match="the connection"):
        fetch.download([web.address()], target, **options)
    web.cuts = []
    assert record.part_file(target).stat().st_size == size and not target.exists()
    web.asked.clear()


def test_a_file_is_fetched_once(web, target, capsys):
    assert fetch.download([web.address()], target, checksum=PREFIX, label="the weights") == target
    assert target.read_bytes() == CONTENT
    assert capsys.readouterr().err == f"fetching the weights from {web.address()}, 0.2 MB\n"
    fetch.download([web.address()], target, checksum=PREFIX)
    assert len(web.gets()) == 1
    kept = fetch.read_record(target)
    assert (kept.sha256, kept.size, kept.address) == (SHA256, SIZE, web.address())
    assert not record.part_file(target).exists() and not record.part_record(target).exists()


def test_an_object_store_needs_another_package(target, monkeypatch):
    def missing(address):
        raise ImportError("Install gcsfs")

    monkeypatch.delenv("TFDET_OFFLINE", raising=False)
    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(UserError, match=r"^gs:// needs a package more: pip install 'tfdet\[gs\]'$"):
        fetch.download(["gs://bucket/a"], target)
    with pytest.raises(UserError, match="^odd:// needs a package more: pip install what fsspec needs for it$"):
        fetch.download(["odd://bucket/a"], target)


def test_a_cut_connection_is_continued(web, target):
    web.cuts = [70_000, 30_000]
    fetch.download([web.address()], target)
    assert target.read_bytes() == CONTENT
    assert web.gets() == [None, "bytes=70000-", "bytes=100000-"]


def test_the_next_call_continues(web, target):
    begun(web, target, 70_000)
    fetch.download([web.address()], target)
    assert target.read_bytes() == CONTENT and web.gets() == ["bytes=70000-"]


def test_all_came_but_the_name(web, target):
    begun(web, target, SIZE - 10_000)
    with record.part_file(target).open("ab") as file:
        file.write(CONTENT[-10_000:])
    fetch.download([web.address()], target)
    assert target.read_bytes() == CONTENT and web.gets() == []


@pytest.mark.parametrize("tag", ['"v1"', 'W/"v1"', None])
def test_a_server_that_gives_no_rests_starts_anew(web, target, tag):
    web.ranges, web.tag = False, tag
    begun(web, target, 70_000)
    fetch.download([web.address()], target)
    assert target.read_bytes() == CONTENT and len(web.gets()) == 1


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_two_versions_of_a_file_are_not_put_together(web, target, honours_if_range):
    begun(web, target, 70_000)
    web.files["/a.pth"], web.tag = CONTENT[::-1], '"v2"'
    web.honours_if_range = honours_if_range
    fetch.download([web.address()], target)
    assert target.read_bytes() == CONTENT[::-1]


def test_without_a_version_only_a_checksum_allows_to_continue(web, target):
    web.tag = None
    begun(web, target, 70_000)
    fetch.download([web.address()], target)
    assert web.gets() == [None]
    fetch.remove(target)
    fetch.forget(target)
    begun(web, target, 70_000, checksum=PREFIX)
    with pytest.raises(UserError, match="its sha256 is"):  # wrong when put together: asked for once more, whole
        fetch.download([web.address()], target, checksum="sha256:00000000")
    assert web.gets() == ["bytes=70000-", None] and not target.exists()


def test_a_mirror_may_hold_files_of_ones_own_where_it_is_said_so(web, target, monkeypatch):
    monkeypatch.setenv("TFDET_CHECKSUMS", "first")
    fetch.download([web.address()], target, checksum="sha256:00000000")
    assert target.read_bytes() == CONTENT
    target.write_bytes(b"another")
    with pytest.raises(UserError, match="the file fetched first"):
        fetch.download([web.address()], target, checksum="sha256:00000000")
    monkeypatch.setenv("TFDET_CHECKSUMS", "none")
    with pytest.raises(UserError, match="TFDET_CHECKSUMS=none: give published, or first"):
        fetch.download([web.address()], target, checksum="sha256:00000000")


def test_a_wrong_file_is_removed_and_named(web, target):
    with pytest.raises(UserError) as error:
        fetch.download([web.address()], target, checksum="md5:f10217")
    assert "its md5 is" in str(error.value) and "published is f10217" in str(error.value)
    assert f"put the file of {web.address()} as {target}" in str(error.value)
    assert files(target.parent) == [".a.pth.lock"]


def test_the_first_download_is_compared_with_later_ones(web, target):
    fetch.download([web.address()], target)
    fetch.remove(target)
    web.files["/a.pth"] = CONTENT[::-1]
    with pytest.raises(UserError, match=r"fetched first.*remove .*\.a\.pth\.json"):
        fetch.download([web.address()], target)
    fetch.forget(target)
    assert fetch.download([web.address()], target).read_bytes() == CONTENT[::-1]


def test_a_file_of_the_cache_that_was_changed_is_told(web, target):
    fetch.download([web.address()], target)
    os.utime(target)  # a copy of the cache: read once more
    fetch.download([web.address()], target)
    target.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=r"a\.pth is damaged or another file: its sha256 is .*; remove it"):
        fetch.download([web.address()], target)
    assert len(web.gets()) == 1


def test_a_file_that_a_person_put_there_is_checked_and_taken(web, target):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    fetch.download([web.address()], target, checksum=PREFIX)
    assert fetch.read_record(target).sha256 == SHA256 and not web.asked
    fetch.forget(target)
    with pytest.raises(UserError, match="published is 00000000"):
        fetch.download([web.address()], target, checksum="sha256:00000000")


def test_a_truncated_file_has_no_name(web, target):
    web.cuts = [SIZE - 5, 0, 0, 0]
    with pytest.raises(UserError, match="the connection was cut"):
        fetch.download([web.address()], target)
    assert not target.exists()


def test_a_redirect_is_followed(web, target):
    web.moved = {"/old.pth": "/a.pth", "/round": "/round"}
    assert fetch.download([web.address("/old.pth")], target).read_bytes() == CONTENT
    with pytest.raises(UserError, match="redirects without end"):
        fetch.download([web.address("/round")], target.with_name("b.pth"))


def test_the_next_address_is_asked(web, target):
    fetch.download([web.address("/none"), web.address()], target)
    assert target.read_bytes() == CONTENT
    with pytest.raises(UserError) as error:
        fetch.download([web.address("/none"), web.address("/neither")], target.with_name("b.pth"), label="b")
    text = str(error.value)
    assert text.startswith(f"cannot fetch b: {web.address('/none')}: the server answers 404 Not Found; ")
    assert text.endswith(f"By hand: put the file of {web.address('/none')} as {target.with_name('b.pth')}")


def test_a_server_out_of_order_is_asked_three_times(web, target):
    web.status = 503
    with pytest.raises(UserError, match="answers 503"):
        fetch.download([web.address()], target)
    assert len(web.gets()) == 3


def test_a_login_page_is_no_file(web, target):
    web.kind = "text/html; charset=utf-8"
    with pytest.raises(UserError, match="a web page, not the file"):
        fetch.download([web.address()], target)


def test_silence_has_a_limit_and_the_whole_has_none(web, target, monkeypatch):
    monkeypatch.setenv("TFDET_TIMEOUT", "0.3")
    web.pause, web.after = 0.2, 1000
    web.cuts = [60_000, 60_000, 60_000]  # 0.8 s altogether
    assert fetch.download([web.address()], target).read_bytes() == CONTENT
    web.pause, web.after = 1.0, 0
    with pytest.raises(UserError, match=r"silent for 0\.3 s"):
        fetch.download([web.address()], target.with_name("b.pth"))
    monkeypatch.setenv("TFDET_TIMEOUT", "soon")
    with pytest.raises(UserError, match="TFDET_TIMEOUT=soon"):
        fetch.download([web.address()], target.with_name("b.pth"))


def test_no_network_is_one_line(target, monkeypatch):
    for name in ("TFDET_MIRROR", "TFDET_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with serving() as web:
        gone = web.address()
    with pytest.raises(UserError) as error:
        fetch.download([gone, "https://nowhere.invalid/a.pth"], target, label="R-50")
    text = str(error.value)
    assert "the connection is refused; https://nowhere.invalid/a.pth: " in text and "\n" not in text
    assert text.endswith(f"By hand: put the file of {gone} as {target}")


def test_offline_asks_nobody(web, target, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDET_OFFLINE", "1")
    with pytest.raises(UserError, match=f"TFDET_OFFLINE forbids the network. By hand: put the file of {web.address()}"):
        fetch.download([web.address()], target)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a.pth").write_bytes(CONTENT)
    monkeypatch.setenv("TFDET_MIRROR", str(tmp_path / "mirror"))
    assert fetch.download([web.address()], target, checksum=PREFIX).read_bytes() == CONTENT
    assert not web.asked
    assert fetch.remote_size([web.address()]) == SIZE


@pytest.mark.parametrize("path", ["/host.example/models/a.pth", "/models/a.pth"])
def test_mirrors_come_first(web, target, monkeypatch, path):
    web.files = {path: CONTENT}
    monkeypatch.setenv("TFDET_MIRROR", web.address("/"))
    published = ["https://host.example/models/a.pth"]
    assert fetch.download(published, target).read_bytes() == CONTENT
    assert fetch.remote_size(published) == SIZE


def test_a_mirror_of_no_kind_is_told(web, target, monkeypatch):
    monkeypatch.setenv("TFDET_MIRROR", "ftp://host")
    with pytest.raises(UserError, match="TFDET_MIRROR=ftp://host: neither an address"):
        fetch.download([web.address()], target)


def test_names_and_passwords_of_addresses_are_not_shown(web, target, monkeypatch, capsys):
    monkeypatch.setenv("TFDET_MIRROR", web.address("").replace("//", "//me:secret@"))
    fetch.download(["https://host.example/a.pth"], target)
    assert "secret" not in capsys.readouterr().err + fetch.read_record(target).address


def test_a_full_disk_is_told_before_and_during(web, target, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(transfer.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
        with pytest.raises(UserError, match=r"a\.pth needs 0\.2 MB and the disk has 0\.0 MB: free some space"):
            fetch.download([web.address()], target)
        assert not record.part_file(target).exists()
    # A limit of the system in place of a full disk: the write itself fails.
    code = (
        "import resource, signal, sys; from tfdet import fetch\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))\n"
        "from tfdet.errors import UserError\n"
        "try: fetch.download([sys.argv[1]], sys.argv[2])\n"
        "except UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, web.address(), target], capture_output=True, text=True)
    assert f"cannot write {record.part_file(target)}: File too large. Free some space" in done.stdout
    assert not target.exists()
    assert fetch.download([web.address()], target).read_bytes() == CONTENT
    assert web.gets()[-1] == "bytes=90000-"


def test_a_cache_that_cannot_be_written(web, tmp_path, monkeypatch):
    target = tmp_path / "file" / "a.pth"  # whoever runs the test, nobody makes a folder below a file
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"cannot fetch a\.pth: .*file cannot be written: .*TFDET_CACHE.*put the file of"
    ):
        fetch.download([web.address()], target)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    def refuse_to_write(*_):
        raise UserError("cannot write")

    kept = tmp_path / "kept" / "a.pth"
    fetch.download([web.address()], kept)
    fetch.forget(kept)
    monkeypatch.setattr(record, "write_json", refuse_to_write)
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert fetch.download([web.address()], kept) == kept  # a file that is there needs neither lock nor record
    with pytest.raises(UserError, match="kept cannot be written: Permission denied"):
        fetch.download([web.address()], kept.with_name("b.pth"))


def test_several_processes_fetch_once(web, target):
    web.pause, web.after = 0.5, 1000
    code = "import sys; from tfdet import fetch; fetch.download([sys.argv[1]], sys.argv[2], label='a')"
    command = [sys.executable, "-c", code, web.address(), str(target)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert len(web.gets()) == 1 and target.read_bytes() == CONTENT
    assert sum("fetching a from" in line for line in said) == 1
    assert all("waiting for another process that fetches a" in line for line in said if "fetching" not in line and line)


def test_a_killed_process_leaves_what_the_next_one_continues(web, target):
    web.pause, web.after = 20, 1 << 17
    code = "import sys; from tfdet import fetch; fetch.download([sys.argv[1]], sys.argv[2])"
    with subprocess.Popen(
        [sys.executable, "-c", code, web.address(), str(target)], stderr=subprocess.DEVNULL
    ) as process:
        part = record.part_file(target)
        while process.poll() is None and not (part.is_file() and part.stat().st_size == 1 << 17):
            time.sleep(0.01)
        process.kill()
    web.pause = 0
    assert fetch.download([web.address()], target).read_bytes() == CONTENT
    assert web.gets() == [None, f"bytes={1 << 17}-"]


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TFDET_CACHE", raising=False)
    assert fetch.cache_folder() == tmp_path / "tfdet"
    monkeypatch.setenv("TFDET_CACHE", "~/weights")
    assert fetch.cache_folder() == Path.home() / "weights"
