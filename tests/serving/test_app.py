"""The demo's server: what it answers, what it refuses, and that it touches nothing but its one file."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from serving.served import ask, png, served
from skeletons import KEYPOINTS

from catpose import prepare
from catpose.data.coco import read_split
from catpose.data.images import read_image
from catpose.errors import InputError
from catpose.serving.corrections import CorrectionsFile
from catpose.skeleton import AP10K

pytest.importorskip("uvicorn", reason="uvicorn isn't installed (catpose[demo])")
app = pytest.importorskip("catpose.serving.app", reason="starlette isn't installed (catpose[demo])")

BOX = [20.0, 10.0, 64.0, 80.0]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with served(tmp_path / "demo") as at:
        yield at


@pytest.fixture
def picture(address: str) -> dict[str, Any]:
    status, added = ask(f"{address}/pictures?name=tom.png", png())
    assert status == 200
    return added


def asked(picture: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"picture": picture["picture"], "model": "sure/best.ckpt", "box": BOX} | more


def test_a_picture_is_predicted_whole_and_in_a_box(address: str, picture: dict[str, Any]) -> None:
    assert (picture["name"], picture["width"], picture["height"]) == ("tom.png", 160, 120)
    assert ask(f"{address}/predict", asked(picture, box=None))[1]["box"] == [10, 20, 80, 60]
    status, found = ask(f"{address}/predict", asked(picture))
    assert status == 200
    assert found["box"] == BOX
    assert found["keypoints"][0] == [26.4, 18]
    assert found["keypoints"][-1] == [77.6, 82]
    assert ask(f"{address}/predict", asked(picture, model="unsure/best.ckpt"))[1]["confidence"][-1] == 0.5


def test_the_page_knows_models_and_keypoints(address: str) -> None:
    _, about = ask(f"{address}/about")
    assert about["models"] == ["sure/best.ckpt", "unsure/best.ckpt"]
    assert about["names"] == list(KEYPOINTS)
    assert len(about["colors"]) == 17


def test_pictures_come_back_upright_and_with_poses(address: str, picture: dict[str, Any], tmp_path: Path) -> None:
    keypoints, confidence = [[30, 40]] * 17, [1.0] + [0] * 16
    for path, body in (
        (f"/pictures/{picture['picture']}", None),
        ("/overlay", asked(picture, keypoints=keypoints, confidence=confidence)),
    ):
        status, content = ask(address + path, body)
        assert status == 200
        (tmp_path / "given.jpg").write_bytes(content)
        given = read_image(tmp_path / "given.jpg")
        assert given.shape == (120, 160, 3)
        drawn = np.abs(given[40, 30].astype(int) - [90, 40, 30]).max()
        assert (drawn > 60) == (path == "/overlay")


def test_what_is_no_picture_is_one_line(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (b" ", b"hello", png()[:-20]):
        status, answer = ask(f"{address}/pictures?name=a%0Ab%1B.png", content)
        assert status == 422
        assert "\n" not in answer["error"]
        assert "\x1b" not in answer["error"]
    monkeypatch.setattr(app, "MOST_PIXELS", 160 * 120 - 1)
    status, answer = ask(f"{address}/pictures?name=large.png", png())
    assert (status, "large.png: has 160 × 120 px" in answer["error"]) == (422, True)


def test_a_picture_that_no_jpeg_shows_is_refused(address: str) -> None:
    status, answer = ask(f"{address}/pictures?name=wide.png", png(65501, 1))
    assert (status, answer["error"]) == (422, "wide.png: has a side of more than 65500 px; cut or scale it down")


def test_uploads_are_bounded(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "LARGEST_UPLOAD", 100)
    assert ask(f"{address}/pictures?name=a.png", png())[0] == 413
    assert ask(f"{address}/predict", b"[" * (app.LARGEST_JSON + 1))[0] == 413


def test_few_uploads_are_held_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held, most, add = [], [], app.Demo.add

    def counted(demo: Any, content: bytes, name: str) -> dict[str, Any]:
        held.append(name)
        most.append(len(held))
        time.sleep(0.02)
        held.remove(name)
        return add(demo, content, name)

    monkeypatch.setattr(app.Demo, "add", counted)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: ask(f"{address}/pictures?name={i}.png", png(8, 8))[0], range(8)))
    assert answers == [200] * 8
    assert max(most) <= app.UPLOADS


def test_uploads_that_stall_give_way(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "LONGEST_UPLOAD", 0.1)
    host, port = address.removeprefix("http://").split(":")
    begun = f"POST /pictures?name=a.png HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 100\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(socket.create_connection((host, int(port)), 60)) for _ in range(app.UPLOADS)]
        for each in stalled:
            each.sendall(begun)
        assert [each.recv(12) for each in stalled] == [b"HTTP/1.1 408"] * app.UPLOADS
    monkeypatch.undo()
    assert ask(f"{address}/pictures?name=a.png", png())[0] == 200


def test_uploads_that_break_off_are_no_error_of_the_demo(
    address: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 60) as broken:
        broken.sendall(b"POST /pictures?name=a.png HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
    assert ask(f"{address}/pictures?name=a.png", png())[0] == 200
    assert capfd.readouterr().err + caplog.text == ""


def test_only_the_latest_pictures_are_held(address: str, picture: dict[str, Any]) -> None:
    for _ in range(app.KEPT):
        ask(f"{address}/pictures?name=b.png", png(8, 8))
    assert ask(f"{address}/predict", asked(picture))[0] == 404


@pytest.mark.parametrize(
    "wrong",
    [{"box": [1, 2, 3]}, {"box": [1, 2, None, 4]}, {"box": "x"}, {"box": [1e9, 0, 1, 1]}, {"box": [5, 5, 0, 9]},
     {"model": "other"}, {"picture": {"a": 1}}, {"picture": "../../etc/passwd"}],
)  # fmt: skip
def test_what_the_page_never_asks_is_refused(address: str, picture: dict[str, Any], wrong: dict[str, Any]) -> None:
    status, answer = ask(f"{address}/predict", asked(picture) | wrong)
    assert status in (404, 422)
    assert "\n" not in answer["error"]
    assert ask(f"{address}/predict", asked(picture))[0] == 200


@pytest.mark.parametrize("body", [b" ", b"[]", b"{", b"\xff", b'{"a": 1e999}'])
def test_what_is_no_json_object_is_refused(address: str, body: bytes) -> None:
    assert ask(f"{address}/predict", body)[0] in (404, 422)


def test_other_sites_and_names_are_refused(address: str, picture: dict[str, Any]) -> None:
    for origin in ("https://elsewhere.example", "null", "http://[", "x", "http://127.0.0.1:1"):
        assert ask(f"{address}/predict", asked(picture), Origin=origin)[0] == 403
    assert ask(f"{address}/predict", asked(picture), Origin=address)[0] == 200
    assert ask(f"{address}/", Host="rebound.example")[0] == 400


@pytest.mark.parametrize(
    "path", ["/app.py", "/../app.py", "/%2e%2e/app.py", "/pictures/..%2fapp.py", "/docs", "/demo.html"]
)
def test_no_other_file_is_served(address: str, path: str) -> None:
    assert ask(address + path)[0] == 404


def test_a_correction_is_saved_and_nothing_else_is_written(
    address: str, picture: dict[str, Any], tmp_path: Path
) -> None:
    points = [[30 + k, 40, 2] for k in range(16)] + [[0, 0, 0]]
    assert ask(f"{address}/corrections", asked(picture, keypoints=points))[1]["animals"] == 1
    moved = asked(picture, keypoints=points[::-1], box=[22, 10, 62, 80])
    assert ask(f"{address}/corrections", moved)[1]["animals"] == 1, "the same animal again"
    other = asked(picture, keypoints=points, box=[100, 60, 50, 50])
    assert ask(f"{address}/corrections", other)[1]["animals"] == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["demo", "corrections.json"]
    content = json.loads((tmp_path / "demo" / "corrections.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["tom.png"]
    first, second = content["annotations"]
    assert (first["bbox"], first["num_keypoints"]) == ([22, 10, 62, 80], 16)
    assert second["keypoints"][:3] == [30, 40, 2]


@pytest.mark.parametrize("wrong", [{"box": [500, 0, 10, 10]}, {"box": [5, 5, 0, 10]}, {"keypoints": [[0, 0, 0]] * 17},
                                   {"keypoints": [[500, 0, 2]] * 17}, {"keypoints": [[1, 2, 2]] * 16},
                                   {"keypoints": [[30, 40, 7]] * 17}, {"keypoints": [[30, 40, 0.5]] * 17}])  # fmt: skip
def test_no_correction_without_an_animal(
    address: str, picture: dict[str, Any], wrong: dict[str, Any], tmp_path: Path
) -> None:
    status, _ = ask(f"{address}/corrections", asked(picture, keypoints=[[30, 40, 2]] * 17) | wrong)
    assert status == 422
    assert not (tmp_path / "demo").exists()


def test_two_pictures_of_one_name_are_not_mixed(address: str, picture: dict[str, Any], tmp_path: Path) -> None:
    """Cameras count anew: of the same name, and the same size."""
    right = {"keypoints": [[30, 40, 2]] * 17}
    again = ask(f"{address}/pictures?name=tom.png", png())[1]
    other = ask(
        f"{address}/pictures?name=tom.png", cv2.imencode(".png", np.zeros((120, 160, 3), np.uint8))[1].tobytes()
    )
    for added, expected in ((picture, 200), (other[1], 422), (again, 200)):
        status, answer = ask(f"{address}/corrections", asked(added, **right))
        assert status == expected
    assert answer["animals"] == 1
    assert len(json.loads((tmp_path / "demo" / "corrections.json").read_text())["images"]) == 1


def test_what_another_demo_or_a_person_wrote_stays(address: str, picture: dict[str, Any], tmp_path: Path) -> None:
    """Both were started before there was a file."""
    file = tmp_path / "demo" / "corrections.json"
    right = asked(picture, keypoints=[[30, 40, 2]] * 17)
    with served(tmp_path / "demo") as second:
        added = ask(f"{second}/pictures?name=tim.png", png())[1]
        assert ask(f"{second}/corrections", asked(added, keypoints=right["keypoints"]))[0] == 200
    before = file.read_bytes()
    status, answer = ask(f"{address}/corrections", right)
    assert (status, "another --out" in answer["error"]) == (422, True)
    assert file.read_bytes() == before
    file.rename(tmp_path / "brought back.json")
    assert ask(f"{address}/corrections", right)[1]["animals"] == 1


@pytest.mark.parametrize("name", ["..", ".", "", "%2e%2e", "a/..", "a%5C..%5C", "%00", "...%20"])
def test_a_pictures_name_is_never_a_place(address: str, name: str) -> None:
    added = ask(f"{address}/pictures?name={name}", png())[1]["name"]
    assert Path(added).name == added
    assert added.strip(". ")


def test_a_correction_comes_back_onto_its_data(drawn: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(drawn, tmp_path / "cats"))
    before = read_split(root, "train")
    times = np.bincount(before.image_index)
    i = int(np.flatnonzero(times[before.image_index] == 1)[0])  # of a picture without another animal
    image = before.images[int(before.image_index[i])]
    points = np.column_stack([before.keypoints[i], before.visibility[i]])
    k = int(np.flatnonzero(points[:, 2])[0])
    points[k, :2] += (3, 2)
    points[points[:, 2] > 0, 2] = 2
    corrections = CorrectionsFile(tmp_path / "demo" / "corrections.json", AP10K)
    corrections.add(image.file_name, "0", (image.width, image.height), before.boxes[i], points)
    prepare.main(["coco", str(corrections.file), "--onto", str(root)])
    after = read_split(root, "train")
    moved = np.abs(after.keypoints - before.keypoints).max(axis=-1) > 0.1
    assert moved.sum() == 1
    assert moved[i, k]


def test_earlier_corrections_are_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "corrections.json").write_text("{}")
    with pytest.raises(InputError, match="--onto"):
        CorrectionsFile(tmp_path / "corrections.json", AP10K)
