"""Dataset archives: download, verification and safe extraction."""

import dataclasses
import errno
import hashlib
import io
import os
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from dl_lib.data.archives import PublishedArchive, check_archive, fetch_archive, unpack_archive
from dl_lib.data.errors import MissingDataError, UnreadableFileError
from dl_lib.utils.files import WriteError

CONTENT = {"release/dataset/img/1.jpg": b"image", "release/dataset/list.txt": b"1\n", "release/code/run.m": b"code"}
PATH_MAP = {"release/dataset/img/": "set/img/", "release/dataset/list.txt": "set/list.txt"}


def write_tar(path, members, *, mode="w"):
    """Write a tar file; members are contents by name, or a TarInfo without content."""
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def archive_of(path, *, path_map=PATH_MAP):
    md5 = hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else ""
    return PublishedArchive("set.tar", path.as_uri(), md5, path_map)


def files_below(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_mapped_members_are_extracted(tmp_path, mode):
    path = write_tar(tmp_path / "set.tar", CONTENT, mode=mode)
    check_archive(path, archive_of(path))
    for _ in range(2):  # the second time over existing files
        unpack_archive(path, archive_of(path), folder=tmp_path / "root" / "datasets")
        assert files_below(tmp_path / "root") == {"datasets/set/img/1.jpg": b"image", "datasets/set/list.txt": b"1\n"}


def test_wrong_checksum_and_missing_file_raise(tmp_path):
    path = write_tar(tmp_path / "set.tar", CONTENT)
    archive = archive_of(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UnreadableFileError, match=rf"published set\.tar.*{archive.md5}; .*Received: md5="):
        check_archive(path, archive)
    with pytest.raises(MissingDataError, match=r"set\.tar was not found.*Received: path='.*absent\.tar'$"):
        check_archive(tmp_path / "absent.tar", archive)


def link(name, target, kind):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "members",
    [
        {"release/dataset/img/../../../outside.txt": b"x"},
        {"": link("release/dataset/img/a", "../../../outside", tarfile.SYMTYPE)},
        {"": link("release/dataset/img/a", "/etc/passwd", tarfile.SYMTYPE)},
        {"": link("release/dataset/img/a", "../../../outside", tarfile.LNKTYPE)},
        {"": link("release/dataset/img/a", "", tarfile.CHRTYPE)},
    ],
)
def test_members_outside_of_the_folder_raise(tmp_path, members):
    path = write_tar(tmp_path / "set.tar", members)
    with pytest.raises(UnreadableFileError, match=r"set\.tar could not be extracted.*Received: \w+Error: "):
        unpack_archive(path, archive_of(path), folder=tmp_path / "root" / "datasets")
    assert files_below(tmp_path) == {"set.tar": path.read_bytes()}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_truncated_archive_raises(tmp_path, mode):
    path = write_tar(tmp_path / "set.tar", {**CONTENT, "release/dataset/img/2.jpg": bytes(range(256)) * 99}, mode=mode)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 3], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(UnreadableFileError, match=r"set\.tar could not be extracted"):
            unpack_archive(path, archive_of(path), folder=tmp_path / "root")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_damaged_compressed_archive_raises(tmp_path, mode):
    text = " ".join(str(number) for number in range(9999)).encode()
    path = write_tar(tmp_path / "set.tar", {**CONTENT, "release/dataset/img/2.jpg": text}, mode=mode)
    whole = path.read_bytes()
    position = len(whole) // 2
    path.write_bytes(whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
    with pytest.raises(UnreadableFileError, match=r"set\.tar could not be extracted"):
        unpack_archive(path, archive_of(path), folder=tmp_path / "root")


def test_full_disk_keeps_existing_files(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "set.tar", CONTENT)
    unpack_archive(path, archive_of(path), folder=tmp_path / "root")
    before = files_below(tmp_path)
    copy = tarfile.copyfileobj

    def fill(source, target, length, *args):
        copy(source, target, length // 2, *args)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile, "copyfileobj", fill)
    with pytest.raises(WriteError, match=r"No space left on device, .* MB free.*set\.tar\.partial'$"):
        unpack_archive(path, archive_of(path), folder=tmp_path / "root")
    assert files_below(tmp_path) == before


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server_url(tmp_path):
    """URL of an HTTP server for the test's temporary folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=tmp_path)) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_existing_archive_is_not_downloaded(tmp_path, server_url):
    path = write_tar(tmp_path / "there.tar", CONTENT)
    archive = dataclasses.replace(archive_of(path), url=f"{server_url}/there.tar")
    fetched = fetch_archive(archive, tmp_path / "root")
    assert fetched == tmp_path / "root" / "set.tar"
    assert fetched.read_bytes() == path.read_bytes()
    path.write_bytes(b"something else")
    assert fetch_archive(archive, tmp_path / "root") == fetched
    fetched.unlink()
    for _ in range(2):  # the server has a file with another checksum, then none
        with pytest.raises(MissingDataError, match=rf"set\.tar could not be downloaded: .*url='{archive.url}'$"):
            fetch_archive(archive, tmp_path / "root")
        path.unlink(missing_ok=True)
