"""Archives of strangers: what comes out of them stays in its folder, and within bounds."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from catpose.data.importers import unpack
from catpose.data.importers.unpack import unpacked
from catpose.errors import InputError


def archive(file: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members:
            out.writestr(name, content, zipfile.ZIP_DEFLATED)
    return file


def refused(source: Path, beside: Path) -> str:
    before = sorted(beside.parent.rglob("*"))
    with pytest.raises(InputError) as caught, unpacked(source, beside):
        pass
    assert sorted(beside.parent.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_inside_is_there_while_it_is_needed(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", ("x/a.txt", b"1"), ("x\\b.txt", b"2"))
    with unpacked(source, tmp_path / "out" / "none") as folder:
        assert folder.parent == tmp_path
        assert (folder / "x" / "a.txt").read_bytes() == b"1"
        assert (folder / "x" / "b.txt").read_bytes() == b"2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]
    for other in (tmp_path, source.with_suffix(".json")):
        if other.suffix:
            other.write_text("{}")
        with unpacked(other, tmp_path) as place:
            assert place == other


@pytest.mark.parametrize("name", ["../a.txt", "x/../../a.txt", "/etc/a.txt", "..\\a.txt", "C:\\a.txt", "x/..\\..\\a"])
def test_a_member_that_leaves_the_folder(name: str, tmp_path: Path) -> None:
    error = refused(archive(tmp_path / "a.zip", ("ok.txt", b""), (name, b"1")), tmp_path / "out")
    assert "leaves the folder" in error
    assert not (tmp_path.parent / "a.txt").exists()


def test_a_member_without_a_name(tmp_path: Path) -> None:
    assert "leaves the folder" in refused(archive(tmp_path / "a.zip", (zipfile.ZipInfo(""), b"1")), tmp_path / "out")


def test_a_link(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("pictures")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert "is a link" in refused(archive(tmp_path / "a.zip", (link, b"/etc")), tmp_path / "out")


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "FREE", 2**16)
    bomb = archive(tmp_path / "a.zip", ("zeros.json", bytes(2**24)))
    assert "would unpack to more than" in refused(bomb, tmp_path / "out")
    # The directory states a smaller size than what comes out.
    content = bytearray(bomb.read_bytes())
    place = content.rindex((2**24).to_bytes(4, "little"))
    content[place : place + 4] = (10).to_bytes(4, "little")
    bomb.write_bytes(content)
    assert "zip" in refused(bomb, tmp_path / "out")
    monkeypatch.setattr(unpack, "MOST_MEMBERS", 3)
    many = archive(tmp_path / "b.zip", *((f"{i}.txt", b"") for i in range(4)))
    assert "would unpack to more than" in refused(many, tmp_path / "out")


def test_what_is_no_sound_archive(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", ("a.json", b"[1, 2, 3]" * 100))
    content = source.read_bytes()
    source.write_bytes(content[:40])
    assert "is no sound zip archive" in refused(source, tmp_path / "out")
    source.write_bytes(content[:38] + b"\xff\xff\xff" + content[41:])
    assert "a.zip" in refused(source, tmp_path / "out")
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive(source, ("a.json", b"1"), ("a.json", b"2"))
    assert "holds 'a.json' twice" in refused(source, tmp_path / "out")
    assert "no such file" in refused(tmp_path / "b.zip", tmp_path / "out")


def test_one_that_is_encrypted(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.zip", ("a.json", b"1"))
    content = bytearray(source.read_bytes())
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    source.write_bytes(content)
    assert "unpack it, and name the folder" in refused(source, tmp_path / "out")
