"""Files written whole or not at all, into nobody else's folder, and the one reader of JSON."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from catpose.errors import InputError
from catpose.fence import require_current

T = TypeVar("T")

#: Bytes of the largest JSON file that is read: COCO's own, of 123,000 images, is half as large. Read, it takes up to
#: twenty times as much memory, so small files are read with a smaller limit.
LARGEST_JSON = 2**29
LARGEST_RECORD = 2**24  # bytes of what we write about a run, a score or a data set
DEEPEST_JSON = 64  # lists and objects inside one another; COCO has 5
_LONGEST_NUMBER = 300  # digits: a float holds 308

#: How files begin that stand in another's place, and what to do with them.
_PACKED = (
    (b"\x1f\x8b", "is packed with gzip; unpack it (gunzip)"),
    (b"PK\x03\x04", "is a zip archive; unpack it, and name what is inside"),
    (b"BZh", "is packed with bzip2; unpack it (bunzip2)"),
    (b"\xfd7zXZ", "is packed with xz; unpack it (unxz)"),
    (b"\x28\xb5\x2f\xfd", "is packed with zstd; unpack it (unzstd)"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it, and name what is inside"),
    (b"Rar!\x1a\x07", "is a RAR archive; unpack it, and name what is inside"),
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"),
)

#: The names of `atomic_write`'s temporary files.
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")
#: Files and folders by which a folder is known to be a run's or a study's.
OWNERS = {"run": ("run.json",), "study": ("study.yaml", "study.db", "trials")}


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place once the block has ended well; else `path` stays as it was.

    The content is on the disk before it takes the place, so that neither a kill nor a power cut leaves a part of it,
    on any file system.

    Raises:
        InputError: the file can't be written (no folder, no right, no space).
        Superseded: another has taken over from this process.
    """
    require_current()  # before a folder is made, and again before the file's place is taken
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")  # pids repeat between machines
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _on_disk(temporary)
            require_current()
            os.replace(temporary, path)
            with contextlib.suppress(OSError):  # some file systems have no such order for folders
                _on_disk(path.parent)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            remedy = "make room there, or choose another place" if full else "choose another place"
            raise InputError(f"{path}: cannot be written ({error.strerror or error}); {remedy} with --out") from None
    finally:
        with contextlib.suppress(OSError):  # a parent may be a file
            temporary.unlink(missing_ok=True)


def link_or_copy(source: Path, path: Path) -> None:
    """Make `path` another name of a file, or a copy where the file system has no links; raises as `atomic_write`."""
    with atomic_write(path) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def _on_disk(path: Path) -> None:
    """Wait until what was written to a file, or the names in a folder, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that killed processes have left; for a folder that nobody else writes to now."""
    for file in folder.iterdir():
        if TEMPORARY.fullmatch(file.name):
            file.unlink(missing_ok=True)


def refuse_owned(path: Path, option: str, *owners: str) -> None:
    """InputError where a folder is a run's or a study's (`owners`, of `OWNERS`) and something else would go into it."""
    for owner in owners:
        for name in OWNERS[owner]:
            if (path / name).exists():
                raise InputError(f"{option} {path}: is the folder of a {owner} (it holds {name}); name another folder")


def refuse_other(path: Path, option: str, start: bytes) -> None:
    """InputError where a file stands that doesn't begin as what is to be written there does: it is somebody else's."""
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            is_ours = file.read(len(start)) in (start, b"")
    except OSError:
        is_ours = False
    if not is_ours:
        raise InputError(f"{option} {path}: is there, and isn't what catpose would write; name another place")


def require_writable(path: Path, option: str, folder: bool = False) -> None:
    """InputError where no file (no folder) can be written at `path`: said before the work rather than after it."""
    if folder and path.exists() and not path.is_dir():
        raise InputError(f"{option} {path}: is a file; name a folder")
    if not folder and path.is_dir():
        raise InputError(f"{option} {path}: is a folder; name a file")
    parent = next(place for place in (path if folder else path.parent, *path.parents) if os.path.exists(place))
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        why = "may not be written" if parent.is_dir() else "is a file"
        raise InputError(f"{option} {path}: {parent} {why}; choose another place")


def write_json(path: Path, content: object, indent: int | None = 1) -> None:
    """`content` as JSON, atomically; numbers that JSON doesn't have (nan, inf) are refused with ValueError."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, limit: int = LARGEST_JSON) -> Any:
    """What a JSON file holds, as `parse_json`.

    Args:
        limit: bytes of the largest file that is read.

    Raises:
        InputError: where it is missing, no regular file, too large, or as `parse_json`.
    """
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    if not os.path.isfile(path):
        raise InputError(f"{path}: is a {'folder' if os.path.isdir(path) else 'device'}, not a JSON file")
    try:
        with open(path, "rb") as file:
            data = file.read(min(os.fstat(file.fileno()).st_size, limit) + 1)  # read(n) sets n bytes aside
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check its permissions") from None
    if len(data) > limit:
        raise InputError(f"{path}: has more than the {limit / 2**20:g} MiB that are read; is it the right file?")
    return parse_json(data, path)


def parse_json(data: bytes | str, source: object) -> Any:
    """JSON as Python's values: objects without repeated keys, `DEEPEST_JSON` levels at most.

    `NaN`, `Infinity` and numbers beyond float's range (1e999) become floats, which those who use a number must expect;
    a byte order mark is skipped.

    Args:
        data: JSON in UTF-8.
        source: where it is from, for messages.

    Raises:
        InputError: empty, packed, in another encoding, no JSON, a key twice in an object, too deep, or with a whole
            number that no float holds.
    """
    text = _decoded(data, source) if isinstance(data, bytes) else data
    if not text.strip():
        raise InputError(f"{source}: is empty; make or copy it again")
    repeated: list[tuple[dict[str, Any], str]] = []

    def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entry = dict(pairs)
        if len(entry) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated.append((entry, next(key for key in keys if keys.count(key) > 1)))
        return entry

    try:
        content = json.loads(text, object_pairs_hook=as_object, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise InputError(f"{source}: is not JSON ({_what_is_wrong(error)}") from None
    except OverflowError:
        found = re.search(f"[0-9]{{{_LONGEST_NUMBER + 1}}}", text)
        line = text.count("\n", 0, found.start() if found else 0) + 1
        raise InputError(
            f"{source}: can't be read as JSON (line {line}: a number of more than {_LONGEST_NUMBER} digits); correct it"
        ) from None
    except RecursionError:
        raise InputError(f"{source}: can't be read as JSON (nested too deeply); is it the right file?") from None
    except MemoryError:
        raise InputError(f"{source}: is too large for this machine's memory; is it the right file?") from None
    _require_shallow(content, source)
    for entry, key in repeated:
        place = _place(content, entry)
        if place:  # else it went with another that was repeated around it
            raise InputError(
                f"{source}: {ascii(key)[:60]} is there twice {place}, and all but the last would be lost;"
                " leave one, or merge them"
            )
    return content


def as_record(kind: type[T], content: object) -> T:
    """JSON's values as a dataclass, strictly of the kinds that its fields say; keys that it doesn't have are left out.

    Raises:
        ValueError: a value of another kind, or a missing one; the text names it.
    """
    from pydantic import TypeAdapter, ValidationError  # a tenth of a second, which most commands save

    try:
        return TypeAdapter(kind).validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"] if part not in ("int", "bool"))  # members of a union
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None


def packed(head: bytes) -> str | None:
    """What to do with a file that only holds or points to the one meant, by its first 512 bytes; None for others."""
    if head[257:262] == b"ustar":
        return "is a tar archive; unpack it (tar -xf), and name what is inside"
    return next((remedy for start, remedy in _PACKED if head.lstrip().startswith(start)), None)


def require_folder(path: Path) -> None:
    """InputError where a file stands in a folder's place: a packed one, for example, is to be unpacked."""
    if os.path.isfile(path):
        try:
            with open(path, "rb") as file:
                remedy = packed(file.read(512))
        except OSError:
            remedy = None
        raise InputError(f"{path}: {remedy or 'is a file; name a folder'}")


def _decoded(data: bytes, source: object) -> str:
    head = data[:512]
    remedy = packed(head)
    if head.lstrip().startswith(b"<"):
        remedy = "is a web page or XML, not JSON; was a page saved in place of the file? Download it again"
    if remedy:
        raise InputError(f"{source}: {remedy}")
    encoding = json.detect_encoding(data)
    if not encoding.startswith("utf-8"):
        name = encoding[:6].upper()
        raise InputError(f"{source}: is not UTF-8 but {name}, or no text at all; is it a JSON file? Save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: is not UTF-8 (byte {error.start}); is it a JSON file? Save it as UTF-8") from None


def _whole(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise OverflowError
    return int(digits)


def _what_is_wrong(error: json.JSONDecodeError) -> str:
    where = f"line {error.lineno}, column {error.colno}: {error.msg}"
    if error.msg == "Extra data":
        return f"{where}); are there several JSON texts in one file? Leave one, or put them into one list"
    if not error.doc[error.pos :].strip() or error.msg.startswith("Unterminated string"):
        return f"{where}); was it cut short? Make or copy it again"
    return f"{where}); correct it there, or make the file again"


def _require_shallow(content: Any, source: object) -> None:
    level = [content]
    for _ in range(DEEPEST_JSON + 1):
        level = [inner for outer in level for inner in _inside(outer) if type(inner) in (dict, list)]
        if not level:
            return
    raise InputError(f"{source}: can't be read as JSON (nested too deeply); is it the right file?")


def _place(content: Any, entry: dict[str, Any]) -> str | None:
    """Where an object stands, as "in annotations[3]"; None where it isn't in the content."""
    ways: list[tuple[str, Any]] = [("", content)]
    while ways:
        way, at = ways.pop()
        if at is entry:
            return f"in {way}" if way else "at the top level"
        if type(at) is dict:
            ways += [(f"{way}.{key[:60]}" if way else key[:60], inner) for key, inner in at.items()]
        elif type(at) is list:
            ways += [(f"{way}[{i}]", inner) for i, inner in enumerate(at) if type(inner) in (dict, list)]
    return None


def _inside(value: Any) -> Any:
    return value.values() if type(value) is dict else value if type(value) is list else ()
