"""A zip archive's labels and pictures in a folder of their own, with bounds on what comes out of it."""

from __future__ import annotations

import os
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from catpose.errors import InputError, one_line

MOST_MEMBERS = 500_000
LARGEST = 2**36  # bytes, unpacked
#: Unpacked, an archive may have so many times its own size and `FREE` bytes more: text is packed to a twentieth,
#: pictures hardly at all, and bombs to a thousandth.
RATIO, FREE = 50, 2**26
_CHUNK = 2**20


@contextmanager
def unpacked(source: Path, beside: Path) -> Iterator[Path]:
    """The folder with what a zip archive holds, while the block lasts; another `source` as it is.

    Args:
        beside: a temporary folder is made in it, or in the first one above it that exists.

    Raises:
        InputError: no such file; no sound archive; a member that leaves the folder, is a link or is there twice; more
            than the bounds allow; no room.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if source.is_dir() or not _is_zip(source):
        yield source
        return
    with scratch(beside) as folder:
        _unpack(source, folder)
        yield folder


@contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """An empty folder in `beside`, or in the first one above it that exists, while the block lasts.

    Raises:
        InputError: nothing can be written there.
    """
    beside = next(folder for folder in (beside, *beside.absolute().parents) if folder.is_dir())
    try:
        temporary = tempfile.TemporaryDirectory(prefix=".unpacked-", dir=beside)
    except OSError as error:
        raise InputError(f"{beside}: can't be written ({error.strerror}); give another folder with --out") from None
    with temporary as name:
        yield Path(name)


def _is_zip(source: Path) -> bool:
    try:
        with source.open("rb") as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError as error:
        raise InputError(f"{source}: can't be read ({error.strerror}); check its permissions") from None


def _unpack(source: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            members = [member for member in archive.infolist() if not member.filename.endswith("/")]
            targets = _targets(source, members)
            left = min(LARGEST, FREE + RATIO * source.stat().st_size)
            if len(members) > MOST_MEMBERS or sum(member.file_size for member in members) > left:
                raise _too_large(source)
            progress = tqdm(
                zip(members, targets, strict=True), "unpacking", len(members), delay=2, leave=False, disable=None
            )
            for member, target in progress:
                place = folder / target
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as packed, place.open("xb") as out:
                    while chunk := packed.read(_CHUNK):
                        left -= len(chunk)
                        if left < 0:  # the archive's directory may say what it likes
                            raise _too_large(source)
                        out.write(chunk)
    except FileExistsError as error:
        name = os.path.relpath(error.filename, folder)
        raise InputError(f"{source}: holds '{one_line(name)}' twice; pack the folder again") from None
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise InputError(f"{source}: is no sound zip archive ({one_line(error)[:100]}); download it again") from None
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed by a method that Python doesn't have
        raise InputError(
            f"{source}: can't be unpacked ({one_line(error)[:100]}); unpack it, and name the folder"
        ) from None
    except OSError as error:
        raise InputError(f"{source}: can't be unpacked ({error.strerror or error}); unpack it yourself") from None


def _targets(source: Path, members: list[zipfile.ZipInfo]) -> list[str]:
    """Where each member goes, relative to the folder."""
    targets = []
    for member in members:
        name = member.filename.replace("\\", "/")
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or ":" in parts[0] or "\0" in name:
            raise InputError(
                f"{source}: its member {ascii(member.filename)[:100]} leaves the folder; pack the files"
                " again below one folder"
            )
        if stat.S_ISLNK(member.external_attr >> 16):
            raise InputError(
                f"{source}: its member {ascii(member.filename)[:100]} is a link; pack the files themselves"
            )
        targets.append(name)
    return targets


def _too_large(source: Path) -> InputError:
    size = source.stat().st_size
    return InputError(
        f"{source}: would unpack to more than {min(LARGEST, FREE + RATIO * size) / 2**20:.0f} MiB, which no pictures of"
        f" {size / 2**20:.1f} MiB do; unpack it yourself if you trust it, and name the folder"
    )
