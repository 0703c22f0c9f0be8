"""Videos: frames one after the other, upright as OpenCV turns them, and annotated ones written; memory is constant."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from catpose.data.header import LARGEST_PICTURE
from catpose.errors import InputError

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong with a file is said by us, in one line
#: What a file may be, whatever its name: no list of other files or addresses, which FFmpeg would go and open.
os.environ.setdefault(
    "OPENCV_FFMPEG_CAPTURE_OPTIONS",
    "protocol_whitelist;file|format_whitelist;mov,avi,matroska,mpeg,mpegts,mpegvideo,m4v,h264,hevc,asf,flv,ogg,mxf",
)

#: By their names: what a video is, can be told only by decoding it.
SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".mts")


def is_video(file: Path) -> bool:
    """Whether a source is a video, by its name; a folder is none."""
    return file.suffix.lower() in SUFFIXES and not os.path.isdir(file)


class Video:
    """A video's frames.

    Args:
        file: any kind that OpenCV's FFmpeg decodes. start, stop: frames from `start` (0 is the first) up to, not with,
            `stop`; None: to the end.

    Attributes:
        fps: frames a second, 25 where `states_fps` is False. varies: whether frames so far were of unequal length.
        size: (width, height), px. n: how many frames are to come, None where the file doesn't say.

    Raises:
        InputError: no such file, no video, an empty or damaged one, one that ends before `start`.
    """

    def __init__(self, file: Path, start: int = 0, stop: int | None = None) -> None:
        if not os.path.isfile(file):
            raise InputError(f"{file}: no such file; name a video")
        self.file, self.start, self.stop = file, start, stop
        self._capture = cv2.VideoCapture(os.path.abspath(file), cv2.CAP_FFMPEG)  # "http:x.mp4" would be an address
        self.varies = False
        self._began = self._last = 0.0  # s, by the file: of frame 0, and since then of the last that had a time
        self._next, self._waiting = start, self._first()
        self.size = (self._waiting.shape[1], self._waiting.shape[0])
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.states_fps = 0.1 <= fps <= 1000
        self.fps = float(fps) if self.states_fps else 25.0
        stated = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))  # a guess of the container's, or nonsense
        ends = [end for end in (stop, stated if stated > start else None) if end is not None]
        self.n = min(ends) - start if ends else None

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[tuple[int, float, np.ndarray]]:
        """Each frame's number, its time (s; frame 0 is at 0) and pixels, (height, width, 3) uint8 RGB; only once."""
        frame: np.ndarray | None = self._waiting
        while frame is not None and (self.stop is None or self._next < self.stop):
            yield self._next, self._time(), frame
            self._next += 1
            frame = self._read()

    def _time(self) -> float:
        """When the frame that was read last is shown, s: by its number, but by the file's own times where frames are
        of unequal length, as many phones' are."""
        by_number, by_file = self._next / self.fps, self._position() - self._began
        if not self.states_fps or not by_file > self._last:  # or it has no times
            return by_number
        self._last = by_file
        if abs(by_file - by_number) < 0.75 / self.fps:
            return by_number
        self.varies = True
        return by_file

    def _position(self) -> float:
        """When the frame that was read last is shown, by the file, s."""
        return self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000

    def _first(self) -> np.ndarray:
        if not self._capture.isOpened():
            raise InputError(f"{self.file}: is no video that can be decoded; convert it to .mp4, or copy it again")
        width, height = (self._capture.get(side) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > LARGEST_PICTURE:
            raise InputError(f"{self.file}: frames of {width:.0f} x {height:.0f} px are too large; scale them down")
        for number in range(self.start):  # seeking would end at a key frame nearby
            if not self._capture.grab():
                raise InputError(f"{self.file}: has {number} frames, so none from {self.start} on; see --frames")
            if not number:
                self._began = self._position()
        frame = self._read()
        if not self.start:
            self._began = self._position()
        if frame is None:
            what = f"has {self.start} frames, so none from {self.start} on" if self.start else "holds no frame"
            raise InputError(f"{self.file}: {what} that can be decoded; name another video")
        return frame

    def _read(self) -> np.ndarray | None:
        try:
            is_read, frame = self._capture.read()
        except cv2.error:
            is_read, frame = False, None
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if is_read and frame is not None else None


class Writer:
    """Frames into an .mp4, which takes its place when all are written; else nothing is left.

    Args:
        file: ends in .mp4. fps: frames a second. size: (width, height), px.

    Raises:
        InputError: it can't be written, or not whole.
    """

    def __init__(self, file: Path, fps: float, size: tuple[int, int]) -> None:
        self.file, self.size = file, size
        self._temporary = file.with_name(f".{file.stem}.{secrets.token_hex(6)}.mp4")  # the suffix tells the format
        self._fps, self._n = fps, 0

    def __enter__(self) -> Writer:
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, code, self._fps, self.size)
        if not self._writer.isOpened():
            raise InputError(f"{self.file}: can't be written; choose another place")
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, (height, width, 3) uint8 RGB."""
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self._n += 1

    def __exit__(self, kind: object, *_: object) -> None:
        self._writer.release()
        try:
            if kind is None:
                self._require_whole()
                os.replace(self._temporary, self.file)
        finally:
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)

    def _require_whole(self) -> None:
        """OpenCV doesn't say when a disk is full."""
        capture = cv2.VideoCapture(os.path.abspath(self._temporary), cv2.CAP_FFMPEG)
        n_frames = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture.isOpened() else 0
        capture.release()
        if n_frames != self._n:
            raise InputError(f"{self.file}: can't be written whole; make room there, or choose another place")
