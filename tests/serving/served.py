"""The demo served to a test, by a model whose keypoints are known."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from catpose.skeleton import AP10K


class Grid:
    """A model that finds keypoints on the box's diagonal, from 0.1 to 0.9 of it, the surer the further down."""

    skeleton = AP10K

    def __init__(self, confidence: float = 1.0) -> None:
        self.confidence = confidence * np.linspace(0, 1, len(AP10K))

    def predict(self, pictures: np.ndarray, boxes: Any = None) -> SimpleNamespace:
        height, width = pictures.shape[:2]
        boxes = np.array([[10.0, 20, width / 2, height / 2]] if boxes is None else boxes)
        steps = np.linspace(0.1, 0.9, len(AP10K))[None, :, None]
        return SimpleNamespace(
            keypoints=boxes[:, None, :2] + steps * boxes[:, None, 2:], confidence=self.confidence[None], boxes=boxes
        )


@contextlib.contextmanager
def served(out: Path, models: dict[str, Any] | None = None) -> Iterator[str]:
    """The address of a demo during the block."""
    import uvicorn

    from catpose.serving.app import Demo, create_app
    from catpose.serving.corrections import CorrectionsFile

    models = models or {"sure/best.ckpt": Grid(), "unsure/best.ckpt": Grid(0.5)}
    app = create_app(Demo(models, CorrectionsFile(out / "corrections.json", AP10K)), ["127.0.0.1", "localhost"])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


def ask(address: str, body: object = None, **headers: str) -> tuple[int, Any]:
    """Status and JSON (or bytes) of a request; a body makes it a POST."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, kind, content = answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        status, kind, content = error.code, error.headers["Content-Type"], error.read()
    return status, json.loads(content) if kind.startswith("application/json") else content


def png(width: int = 160, height: int = 120) -> bytes:
    """A picture file whose pixels tell where they are."""
    y, x = np.mgrid[:height, :width]
    picture = np.stack([x % 256, y % 256, np.full_like(x, 90)], axis=-1).astype(np.uint8)
    return cv2.imencode(".png", picture)[1].tobytes()
