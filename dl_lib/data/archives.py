"""Published archives: fetched, checked, and unpacked to where a data set expects its files."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO

from dl_lib.data.errors import MissingDataError, UnreadableFileError
from dl_lib.utils.progress import progress_bar

__all__ = ["PublishedArchive", "check_archive", "fetch_archive", "unpack_archive"]

_MIB = 2**20
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)  # what tarfile and gzip meet it with


@dataclass(frozen=True)
class PublishedArchive:
    """A tar file as its authors published it, compressed or not.

    Args:
        file_name: what it is called.
        url: where it is.
        md5: its checksum, in hexadecimal digits.
        places: beginnings of the paths in it, and what stands in their place where it is unpacked; the rest of the
            archive is left out.
    """

    file_name: str
    url: str
    md5: str
    places: Mapping[str, str]


def fetch_archive(archive: PublishedArchive, folder: Path) -> Path:
    """Download an archive with torchvision, unless it is there already; returns its path.

    Raises:
        MissingDataError: if it cannot be fetched.
    """
    from torchvision.datasets.utils import download_url

    try:
        download_url(archive.url, str(folder), archive.file_name, archive.md5)
    except (OSError, HTTPException, RuntimeError) as error:  # no network, half a file, another file
        raise MissingDataError(
            f"{archive.file_name} cannot be downloaded: {error}. Fetch it by other means and name the file instead. "
            f"Received: url={archive.url!r}"
        ) from error
    return folder / archive.file_name


def check_archive(path: Path, archive: PublishedArchive) -> None:
    """Make sure that a file is the archive as it was published.

    Raises:
        MissingDataError: if there is no such file.
        UnreadableFileError: if it is another one, or damaged.
    """
    from torchvision.datasets.utils import calculate_md5

    if not path.is_file():
        raise MissingDataError(f"there is no such archive. Received: path={str(path)!r}")
    md5 = calculate_md5(path)
    if md5 != archive.md5:
        raise UnreadableFileError(
            f"{path} is not {archive.file_name} as it was published, or it is damaged; fetch it from {archive.url}. "
            f"Expected the MD5 checksum {archive.md5}. Received: md5={md5}"
        )


def unpack_archive(path: Path, archive: PublishedArchive, *, folder: Path) -> None:
    """Unpack what belongs to the data set, over what may be there; nothing is written outside of the folder.

    Args:
        path: of the archive.
        archive: says what goes where.
        folder: which the places are relative to.

    Raises:
        UnreadableFileError: if the archive is damaged, or holds something that does not belong into one: paths or
            links that lead elsewhere, devices.
    """

    def placed(member: tarfile.TarInfo, destination: str) -> tarfile.TarInfo | None:
        for beginning, place in archive.places.items():
            if member.name.startswith(beginning):
                moved = member.replace(name=place + member.name[len(beginning) :], deep=False)
                return tarfile.data_filter(moved, destination)
        return None

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file) as tar:
            tar.extractall(folder, members=_counted(tar, file), filter=placed)
    except _DAMAGE as error:
        raise UnreadableFileError(
            f"{path} cannot be unpacked: it is damaged, or holds what does not belong into such an archive. "
            f"Received: {type(error).__name__}: {error}"
        ) from error


def _counted(tar: tarfile.TarFile, file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """The members of an archive, with a progress bar over the bytes of its file."""
    size = os.fstat(file.fileno()).st_size
    with progress_bar(size // _MIB, description="unpacking", unit="MiB") as bar:
        for member in tar:
            yield member
            bar.update(file.tell() // _MIB - bar.n)
