"""Dataset archives: download, verification and extraction."""

from __future__ import annotations

import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO

from dl_lib.data.errors import MissingDataError, UnreadableFileError
from dl_lib.utils.files import NO_SPACE, PARTIAL_SUFFIX, write_errors
from dl_lib.utils.progress import progress_bar

__all__ = ["PublishedArchive", "check_archive", "fetch_archive", "unpack_archive"]

_MIB = 2**20
_DAMAGE_ERRORS = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)  # besides an OSError without a number


@dataclass(frozen=True)
class PublishedArchive:
    """Tar archive of a published dataset, compressed or not.

    `path_map` maps path prefixes inside the archive to their replacements below the extraction folder. Members with
    another prefix are skipped.
    """

    file_name: str
    url: str
    md5: str
    path_map: Mapping[str, str]


def fetch_archive(archive: PublishedArchive, folder: Path) -> Path:
    """Download an archive with torchvision, unless the verified file exists, and return its path.

    Raises:
        MissingDataError: If the download fails.
        WriteError: If the disk is full.
    """
    from torchvision.datasets.utils import download_url

    try:
        download_url(archive.url, str(folder), archive.file_name, archive.md5)
    except (OSError, HTTPException, RuntimeError) as error:  # no network, incomplete file, wrong checksum
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            with write_errors(folder / archive.file_name):
                raise
        raise MissingDataError(
            f"{archive.file_name} could not be downloaded: {error}. Download it by other means and pass its path "
            f"instead. Received: url={archive.url!r}"
        ) from error
    return folder / archive.file_name


def check_archive(path: Path, archive: PublishedArchive) -> None:
    """Verify that a file is the published archive.

    Raises:
        MissingDataError: If the file does not exist.
        UnreadableFileError: If its checksum differs.
    """
    from torchvision.datasets.utils import calculate_md5

    if not path.is_file():
        raise MissingDataError(
            f"the archive {archive.file_name} was not found; pass the path of the downloaded file. "
            f"Received: path={str(path)!r}"
        )
    md5 = calculate_md5(path)
    if md5 != archive.md5:
        raise UnreadableFileError(
            f"{path} is damaged or not the published {archive.file_name}. Expected MD5 checksum {archive.md5}; "
            f"download it again from {archive.url}. Received: md5={md5}"
        )


def unpack_archive(path: Path, archive: PublishedArchive, *, folder: Path) -> None:
    """Extract the dataset, overwriting existing files once all are extracted. Nothing is written outside the folder.

    Raises:
        UnreadableFileError: If the archive is damaged, or contains devices, or paths or links that leave the folder.
        WriteError: If the disk is full; existing files are unchanged.
    """

    def mapped_member(member: tarfile.TarInfo, destination: str) -> tarfile.TarInfo | None:
        for prefix, replacement in archive.path_map.items():
            if member.name.startswith(prefix):
                renamed = member.replace(name=replacement + member.name[len(prefix) :], deep=False)
                return tarfile.data_filter(renamed, destination)
        return None

    extracted = folder / f".{archive.file_name}{PARTIAL_SUFFIX}"
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file) as tar, write_errors(extracted):
            extracted.mkdir(parents=True, exist_ok=True)
            tar.extractall(extracted, members=_with_progress(tar, file), filter=mapped_member)
            while tar.fileobj and tar.fileobj.read(_MIB):  # compressed data end in a checksum, after the last member
                pass
        _move_content(extracted, folder)
    except (*_DAMAGE_ERRORS, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UnreadableFileError(
            f"{path} could not be extracted: the archive is damaged, or has members that would be written outside of "
            f"{folder}. Download it again from {archive.url}. Received: {type(error).__name__}: {error}"
        ) from error
    finally:
        shutil.rmtree(extracted, ignore_errors=True)


def _move_content(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):  # folders before their content
        moved = target / path.relative_to(source)
        if path.is_dir() and not path.is_symlink():
            moved.mkdir(exist_ok=True)
        else:
            path.replace(moved)


def _with_progress(tar: tarfile.TarFile, file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    size = os.fstat(file.fileno()).st_size
    with progress_bar(size // _MIB, description="Extracting", unit="MiB") as bar:
        for member in tar:
            yield member
            bar.update(file.tell() // _MIB - bar.n)
