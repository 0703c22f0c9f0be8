"""Videos made of drawn pictures that are panned and zoomed, predicted by a model that finds a green mark."""

from __future__ import annotations

import csv
import json
import re
import resource
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from catpose.data.video import Video, Writer, is_video
from catpose.errors import InputError
from catpose.predict import main
from catpose.run.video import follow, predict_video, require_new
from catpose.score.trust import Trust
from catpose.skeleton import AP10K
from catpose.synthetic import draw

SIZE = (160, 120)  # width, height, px
N, FPS = 30, 20.0
GREEN = (0, 255, 0)


class Green:
    """The corners of what is green in a crop, by turns; sure where there is any. `calls` holds each batch's size."""

    skeleton, input_size, n_threads = AP10K, (64, 64), 0

    def __init__(self, calibration: dict[str, list[float]] | None = None) -> None:
        self.calibration = calibration
        self.calls: list[int] = []

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.calls.append(len(crops))
        keypoints, confidence = np.zeros((len(crops), 17, 2), np.float32), np.zeros((len(crops), 17), np.float32)
        for i, crop in enumerate(crops.astype(int)):
            y, x = np.nonzero((crop[..., 1] > 180) & (crop[..., 0] < 90) & (crop[..., 2] < 90))
            if len(x):
                corners = [(x.min(), y.min()), (x.max(), y.min()), (x.max(), y.max()), (x.min(), y.max())]
                keypoints[i], confidence[i] = [corners[k % 4] for k in range(17)], 0.9
        return keypoints, confidence


def middle(number: int) -> tuple[int, int]:
    """Where the mark is in a frame."""
    return 40 + 3 * number // 2, 40 + number


def frames(hidden: range = range(0)) -> list[np.ndarray]:
    """A drawn picture, panned and zoomed, with a green mark on it but in some frames."""
    picture = draw(0, 0).picture
    made = []
    for number in range(N):
        zoom = 1 + number / N
        affine = np.array([[zoom, 0, -number], [0, zoom, -number / 2]])
        frame = cv2.warpAffine(picture, affine, SIZE, borderMode=cv2.BORDER_REFLECT)
        frame[..., 1] = np.minimum(frame[..., 1], 120)  # nothing else is green
        if number not in hidden:
            x, y = middle(number)
            cv2.rectangle(frame, (x - 12, y - 10), (x + 12, y + 10), GREEN, cv2.FILLED)
        made.append(frame)
    return made


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return save(tmp_path / "cat.mp4", frames())


def save(file: Path, pictures: list[np.ndarray]) -> Path:
    with Writer(file, FPS, SIZE) as writer:
        for each in pictures:
            writer.write(each)
    return file


def predicted(video: Path, out: Path, overlay: Path | None = None, part: tuple[int, int | None] = (0, None)) -> None:
    predict_video(Green(), video, part, out, overlay, 0.2, 8)


def test_frames_are_read_as_they_were_written(video: Path) -> None:
    with Video(video) as opened:
        assert (opened.size, opened.fps, opened.n) == (SIZE, FPS, N)
        read = list(opened)
    assert [number for number, *_ in read] == list(range(N))
    assert np.mean([np.abs(a.astype(int) - b).mean() for (*_, a), b in zip(read, frames(), strict=True)]) < 8
    with Video(video, 7, 12) as opened:
        part = list(opened)
        assert opened.n == 5
    assert [number for number, *_ in part] == list(range(7, 12))
    assert all(np.array_equal(frame, read[number][2]) for number, _, frame in part)


def test_an_animal_is_followed_through_pan_and_zoom(video: Path) -> None:
    model = Green()
    with Video(video) as opened:
        found = list(follow(model, opened, 8))
    assert model.calls == [1, *[4] * 7, 2]  # the first looks for a box
    assert [each.number for each in found] == list(range(N))
    for each in found:
        np.testing.assert_allclose(each.keypoints[:4].mean(0), middle(each.number), atol=4)
        assert each.score == pytest.approx(0.9)
        assert each.box[2:].max() < 60, "a box around the mark, not the whole frame"
    moved = np.linalg.norm(found[-1].box[:2] - found[0].box[:2])
    assert moved > 20


def test_an_animal_that_was_lost_is_looked_for_again(tmp_path: Path) -> None:
    file = save(tmp_path / "cat.mp4", frames(hidden=range(5, 18)))
    with Video(file) as opened:
        found = list(follow(Green(), opened, 4))
    seen = [each.number for each in found if each.score > 0]
    assert seen == [number for number in range(N) if number not in range(5, 18)]
    assert found[17].box.tolist() == [0, 0, *SIZE]
    np.testing.assert_allclose(found[25].keypoints[:4].mean(0), middle(25), atol=4)


def test_results_are_written_by_frame(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predicted(video, tmp_path / "a.json", tmp_path / "new" / "drawn.mp4")
    entries = json.loads((tmp_path / "a.json").read_text())
    assert [entry["image_id"] for entry in entries] == list(range(N))
    assert [entry["time_s"] for entry in entries] == [round(i / FPS, 4) for i in range(N)]
    assert all(len(entry["keypoints"]) == 51 and len(entry["box"]) == 4 for entry in entries)
    assert f"{N} frames" in capsys.readouterr().out

    predicted(video, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == N
    assert [float(row["nose_x"]) for row in rows] == [entry["keypoints"][6] for entry in entries]
    assert [float(row["score"]) for row in rows] == [entry["score"] for entry in entries]

    with Video(tmp_path / "new" / "drawn.mp4") as opened:
        assert (opened.size, opened.n) == (SIZE, N)
        drawn = [frame for *_, frame in opened]
    assert np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(drawn, frames(), strict=True)]) > 1
    assert not list(tmp_path.rglob(".*")), "temporary files"


def test_a_calibrated_models_frames_have_probability_and_radius(video: Path, tmp_path: Path) -> None:
    trust = Trust((0.1, 0.9), (0.2, 0.7), (0.1,) * 17)
    for name in ("a.json", "a.csv"):
        predict_video(Green(trust.to_plain()), video, (0, 9), tmp_path / name, None, 0.2, 8)
    entry = json.loads((tmp_path / "a.json").read_text())[8]
    assert entry["probability"] == pytest.approx([0.7] * 17)
    assert entry["radius_px"] == pytest.approx([0.1 * max(entry["box"][2:])] * 17)
    with (tmp_path / "a.csv").open(newline="") as file:
        row = list(csv.DictReader(file))[8]
    assert float(row["nose_radius_px"]) == pytest.approx(entry["radius_px"][2])


def test_an_interruption_keeps_what_was_found(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Green.__call__

    def until(self: Green, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if len(self.calls) == 5:
            raise KeyboardInterrupt
        return whole(self, crops)

    monkeypatch.setattr(Green, "__call__", until)
    with pytest.raises(KeyboardInterrupt):
        predicted(video, tmp_path / "a.json", tmp_path / "a.mp4", (2, None))
    assert [entry["image_id"] for entry in json.loads((tmp_path / "a.json").read_text())] == list(range(2, 18))
    assert "--frames 18:" in capsys.readouterr().err
    with Video(tmp_path / "a.mp4") as opened:
        assert opened.n == 16


def test_a_job_that_ends_keeps_what_was_found(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(Green):
        def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if len(self.calls) == 5:
                signal.raise_signal(signal.SIGTERM)
            return super().__call__(crops)

    monkeypatch.setattr("catpose.run.prediction.load_crop_model", lambda *_: Ended())
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit, match="130"):
            main([str(video), "--checkpoint", "cats", "--out", str(tmp_path / "a.json")])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [entry["image_id"] for entry in json.loads((tmp_path / "a.json").read_text())] == list(range(16))
    assert "--frames 16:" in capsys.readouterr().err


def test_an_error_leaves_nothing(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Green, crops: np.ndarray) -> None:
        raise InputError("no memory")

    monkeypatch.setattr(Green, "__call__", fail)
    with pytest.raises(InputError):
        predicted(video, tmp_path / "a.json", tmp_path / "a.mp4")
    assert [file.name for file in tmp_path.iterdir()] == ["cat.mp4"]


def empty(file: Path) -> None:
    file.write_bytes(b"")


def text(file: Path) -> None:
    file.write_text("no video\n" * 100)


def cut(file: Path) -> None:
    whole = save(file.with_name("whole.mp4"), frames()).read_bytes()
    file.write_bytes(whole[: len(whole) // 2])


def a_list_of_files(file: Path) -> None:
    """FFmpeg's, of another's video."""
    (file.parent / "others").mkdir()
    save(file.parent / "others" / "b.mp4", frames())
    file.write_text("ffconcat version 1.0\nfile others/b.mp4\n")


def a_list_of_addresses(file: Path) -> None:
    file.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/b.ts\n#EXT-X-ENDLIST\n")


def a_picture(file: Path) -> None:
    file.write_bytes(cv2.imencode(".png", frames()[0])[1].tobytes())


@pytest.mark.parametrize("damage", [empty, text, cut, a_list_of_files, a_list_of_addresses, a_picture])
def test_what_is_no_video_is_said(
    damage: Callable[[Path], None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.mp4"
    damage(file)
    with pytest.raises(InputError, match="no video that can be decoded"):
        Video(file)
    assert capfd.readouterr().err == "", "FFmpeg's own"


def test_a_video_without_such_frames_is_said(video: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 30 frames, so none from 30 on"):
        Video(video, 30)
    with pytest.raises(InputError, match="has 30 frames"):
        Video(video, 500)
    with pytest.raises(InputError, match="no such file"):
        Video(tmp_path / "none.mp4")


def test_a_name_that_looks_like_an_address_is_a_file(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("http:x.mp4", "data:x.mp4", "concat:a|b%d.mp4"):
        video.rename(name)
        with Video(Path(name)) as opened:
            assert opened.n == N
        Path(name).rename(video)


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".avi", ".mkv", ".wmv"])
def test_common_kinds_are_read(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{suffix}"
    writer = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), FPS, SIZE)
    for frame in frames()[:5]:
        writer.write(frame)
    writer.release()
    with Video(file) as opened:
        assert len(list(opened)) == 5


def test_a_disk_that_is_full_leaves_no_part_of_a_video(tmp_path: Path) -> None:
    """OpenCV doesn't say so; a file's limit stands for the disk's."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).integers(0, 256, (20, SIZE[1], SIZE[0], 3), dtype=np.uint8)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with pytest.raises(InputError, match=r"a\.mp4: can't be written whole"):
            save(tmp_path / "a.mp4", [*noise])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_frame_rate_that_cannot_be_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), FPS, SIZE)
    for frame in frames()[:2]:
        writer.write(frame)
    writer.release()
    content = bytearray(file.read_bytes())
    stream, main = content.index(b"strh") + 8, content.index(b"avih") + 8
    content[stream + 20 : stream + 28] = struct.pack("<II", 1, 2**31)  # frames a second
    content[main : main + 4] = bytes(4)  # a frame's duration
    file.write_bytes(content)
    predicted(file, tmp_path / "a.json")
    assert "a.avi: states no sound frame rate; times are for 25 frames a second" in capsys.readouterr().err
    assert json.loads((tmp_path / "a.json").read_text())[1]["time_s"] == 0.04


@pytest.mark.parametrize("start", [0, 3, 6])
def test_frames_of_unequal_length_have_the_files_times(
    start: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As phones film: here Matroska's blocks, each with its own time."""
    file, times = tmp_path / "a.mkv", [0, 100, 200, 300, 900, 1500, 1600, 2500]  # ms
    writer = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for shade in range(len(times)):
        writer.write(np.full((48, 64, 3), 20 * shade, np.uint8))
    writer.release()
    content = bytearray(file.read_bytes())
    blocks = [each.end() for each in re.finditer(rb"\xa3[\x10-\xff]{1,4}?\x81(?=..\x80\xff\xd8)", content, re.DOTALL)]
    assert len(blocks) == len(times)
    predicted(file, tmp_path / "even.json", part=(start, None))
    for place, time in zip(blocks, times, strict=True):
        content[place : place + 2] = struct.pack(">h", time)
    file.write_bytes(content)
    predicted(file, tmp_path / "uneven.json", tmp_path / "drawn.mp4", part=(start, None))
    found = [
        [entry["time_s"] for entry in json.loads((tmp_path / f"{name}.json").read_text())]
        for name in ("even", "uneven")
    ]
    assert found == [[round(i / 10, 4) for i in range(start, 8)], [time / 1000 for time in times[start:]]]
    assert "vary" in capsys.readouterr().err


def test_what_another_process_wrote_meanwhile_stays(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Green.__call__

    def beside(self: Green, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (tmp_path / "a.json").write_text("[]")
        return whole(self, crops)

    monkeypatch.setattr(Green, "__call__", beside)
    with pytest.raises(InputError, match="is there already"):
        predicted(video, tmp_path / "a.json", tmp_path / "a.mp4")
    assert (tmp_path / "a.json").read_text() == "[]"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.json", "cat.mp4"]


def test_an_interruption_before_the_first_frame_leaves_nothing(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Green, crops: np.ndarray) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Green, "__call__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        predicted(video, tmp_path / "a.json", tmp_path / "a.mp4")
    assert [file.name for file in tmp_path.iterdir()] == ["cat.mp4"]


def test_one_file_is_not_both_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"--out a\.mp4: is the annotated video of --overlays"):
        require_new(Path("a.mp4"), tmp_path / "a.mp4")


def test_outputs_that_are_there_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(InputError, match=r"--out .*a.json: is there already"):
        require_new(tmp_path / "a.json", None)
    with pytest.raises(InputError, match=r"--overlays .*a.json: is there already"):
        require_new(tmp_path / "b.json", tmp_path / "a.json")
    require_new(tmp_path / "b.json", tmp_path / "b.mp4")


def test_a_video_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "pictures.mp4").mkdir()
    assert not is_video(tmp_path / "pictures.mp4")
    assert is_video(Path("a/Cat.MP4"))
    assert is_video(Path("cat.mov"))
    assert not is_video(Path("cat.gif"))
    assert not is_video(Path("mp4"))
