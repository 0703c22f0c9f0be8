"""The demo's server: a picture is uploaded, predicted in a box, corrected; nothing is kept but what is saved.

It answers its own page alone: other sites' scripts are refused, the page's policy lets it ask nobody else, pictures are
held in memory, and the one file that is written is the corrections'.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from catpose.data.images import decode_image
from catpose.errors import InputError, one_line, printable
from catpose.figures.overlay import SIDES, draw_box, draw_pose
from catpose.files import parse_json
from catpose.run.pictures import LARGEST_JPEG
from catpose.serving.corrections import CorrectionsFile
from catpose.skeleton import Skeleton

LARGEST_UPLOAD = 32 * 2**20  # bytes
MOST_PIXELS = 40 * 10**6  # of a picture: 120 MB decoded
UPLOADS = 2  # that are held at once; further ones wait, unread
LONGEST_UPLOAD = 120  # seconds, after which another has its turn
KEPT = 3  # pictures that are held, the latest
LARGEST_JSON = 2**18  # bytes of a request
_FILES = {
    "/": ("demo.html", "text/html"),
    "/demo.js": ("demo.js", "text/javascript"),
    "/demo.css": ("demo.css", "text/css"),
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Found(Protocol):
    """What a model finds in one picture: N animals of K keypoints, as `catpose.run.poses.Poses`."""

    keypoints: np.ndarray  # (N, K, 2), image px
    confidence: np.ndarray  # (N, K)
    boxes: np.ndarray  # (N, 4): x, y, width, height, image px


class Model(Protocol):
    """As `catpose.load` gives it."""

    @property
    def skeleton(self) -> Skeleton: ...
    def predict(self, pictures: Any, boxes: Any = None) -> Any: ...


class Picture(NamedTuple):
    """An uploaded picture."""

    name: str  # as its file was called
    pixels: np.ndarray  # (height, width, 3) uint8 RGB, upright
    digest: str  # of its file


class Refused(Exception):
    """A request that can't be answered: its HTTP status and one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


class Demo:
    """The requests' answers.

    Args:
        models: by their names, all of one skeleton.
        corrections: where corrected poses go.
    """

    def __init__(self, models: Mapping[str, Model], corrections: CorrectionsFile) -> None:
        self.models = models
        self.corrections = corrections
        self.skeleton = next(iter(models.values())).skeleton
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._lock = threading.Lock()  # one prediction at a time: a model isn't shared, and memory is bounded

    def about(self) -> dict[str, Any]:
        """What the page has to know."""
        skeleton = self.skeleton
        return {
            "models": list(self.models),
            "names": skeleton.names,
            "limbs": skeleton.limbs,
            "colors": [f"rgb{SIDES[side]}" for side in skeleton.sides],
            "corrections": str(self.corrections.file),
        }

    def add(self, content: bytes, name: str) -> dict[str, Any]:
        """Take a picture's file; InputError where it isn't one that is read."""
        name = printable(Path(name.replace("\\", "/")).name)[:200].strip(". ") or "picture"
        with self._lock:
            pixels = decode_image(content, name, MOST_PIXELS)
            if max(pixels.shape) > LARGEST_JPEG:
                raise InputError(f"{name}: has a side of more than {LARGEST_JPEG} px; cut or scale it down")
            identity = secrets.token_hex(8)
            self._pictures[identity] = Picture(name, pixels, hashlib.sha256(content).hexdigest())
            while len(self._pictures) > KEPT:
                self._pictures.popitem(last=False)
        return {"picture": identity, "name": name, "width": pixels.shape[1], "height": pixels.shape[0]}

    def picture(self, identity: object) -> Picture:
        """One that was added."""
        found = self._pictures.get(identity) if isinstance(identity, str) else None
        if found is None:
            raise Refused(404, "this picture is no longer held; drop it again")
        return found

    def predict(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The animal in a box, or the one in the whole picture where `box` is null."""
        picture, model = self.picture(fields.get("picture")), self.models.get(str(fields.get("model")))
        if model is None:
            raise Refused(404, "there is no such model; reload the page")
        box = None if fields.get("box") is None else _numbers(fields["box"], (4,), "box")[None]
        if box is not None and box[0, 2:].min() < 1:
            raise Refused(422, f"{picture.name}: the box has no size")
        with self._lock:
            poses: Found = model.predict(picture.pixels, box)
        if not len(poses.keypoints):
            raise Refused(422, f"{picture.name}: no animal was found")
        return {
            "box": np.asarray(poses.boxes[0]).round(2).tolist(),
            "keypoints": poses.keypoints[0].round(2).tolist(),
            "confidence": poses.confidence[0].round(4).tolist(),
        }

    def overlay(self, fields: dict[str, Any]) -> bytes:
        """A JPEG of the picture with keypoints of the given confidence on it; those of 0 are left out."""
        picture, k = self.picture(fields.get("picture")), len(self.skeleton)
        points = _numbers(fields.get("keypoints"), (k, 2), "keypoints")
        confidence = _numbers(fields.get("confidence"), (k,), "confidence").clip(0, 1)
        boxed = draw_box(picture.pixels, _numbers(fields.get("box"), (4,), "box"))
        return _jpeg(draw_pose(boxed, points, confidence, self.skeleton))

    def correct(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Save a pose (x, y, v of each keypoint) of the animal in a box."""
        picture = self.picture(fields.get("picture"))
        points = _numbers(fields.get("keypoints"), (len(self.skeleton), 3), "keypoints")
        if not np.isin(points[:, 2], (0, 1, 2)).all():
            raise Refused(422, "keypoints: v is 0, 1 or 2 (not labelled, hidden, visible)")
        box = _numbers(fields.get("box"), (4,), "box")
        height, width = picture.pixels.shape[:2]
        with self._lock:
            animals = self.corrections.add(picture.name, picture.digest, (width, height), box, points)
        return {"file": str(self.corrections.file), "animals": animals}


def create_app(demo: Demo, hosts: list[str]) -> Starlette:
    """The page and what it asks for.

    Args:
        hosts: names that the server may be called by; "*" for any.
    """
    uploads = asyncio.Semaphore(UPLOADS)

    async def static(request: Request) -> Response:
        name, kind = _FILES[request.url.path]
        return Response(Path(__file__).with_name(name).read_bytes(), media_type=kind, headers=_HEADERS)

    async def about(request: Request) -> Response:
        return JSONResponse(demo.about(), headers=_HEADERS)

    async def add(request: Request) -> Response:
        async with uploads:
            try:
                async with asyncio.timeout(LONGEST_UPLOAD):
                    what = f"pictures of {LARGEST_UPLOAD >> 20} MiB; scale it down"
                    content = await _body(request, LARGEST_UPLOAD, what)
            except TimeoutError:
                raise Refused(408, "the picture took too long to arrive; drop it again") from None
            return await _answer(demo.add, content, request.query_params.get("name", ""))

    async def shown(request: Request) -> Response:
        return await _answer(lambda: _jpeg(demo.picture(request.path_params["identity"]).pixels))

    async def predict(request: Request) -> Response:
        return await _answer(demo.predict, await _fields(request))

    async def overlay(request: Request) -> Response:
        return await _answer(demo.overlay, await _fields(request))

    async def correct(request: Request) -> Response:
        return await _answer(demo.correct, await _fields(request))

    routes = [
        *(Route(path, static) for path in _FILES),
        Route("/about", about),
        Route("/pictures", add, methods=["POST"]),
        Route("/pictures/{identity}", shown),
        Route("/predict", predict, methods=["POST"]),
        Route("/overlay", overlay, methods=["POST"]),
        Route("/corrections", correct, methods=["POST"]),
    ]
    handlers: Any = {Refused: _refused, InputError: _refused}
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        exception_handlers=handlers,
    )


async def _answer(function: Any, *args: Any) -> Response:
    """What a function gives, called beside the server's own thread."""
    content = await run_in_threadpool(function, *args)
    if isinstance(content, bytes):
        return Response(content, media_type="image/jpeg", headers=_HEADERS)
    return JSONResponse(content, headers=_HEADERS)


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, Refused) else 422
    return JSONResponse({"error": one_line(error)}, status, headers=_HEADERS)


async def _body(request: Request, most: int, what: str) -> bytes:
    """A request's content, of the page's own alone; no more than `most` bytes are held."""
    origin = request.headers.get("origin")
    if origin and origin.partition("://")[2] != request.headers.get("host"):
        raise Refused(403, "the request comes from another site's page")
    content = bytearray()
    try:
        async for part in request.stream():
            content += part
            if len(content) > most:
                raise Refused(413, f"the demo takes {what}")
    except ClientDisconnect:
        raise Refused(400, "the request broke off") from None
    return bytes(content)


async def _fields(request: Request) -> dict[str, Any]:
    fields = parse_json(await _body(request, LARGEST_JSON, "smaller requests"), "the request")
    if not isinstance(fields, dict):
        raise Refused(422, "the request is no JSON object")
    return fields


def _numbers(value: object, shape: tuple[int, ...], name: str) -> np.ndarray:
    """A request's numbers as float64 of a shape; `Refused` where they are something else."""
    try:
        numbers = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.zeros(0)
    if numbers.shape != shape or not np.isfinite(numbers).all() or np.abs(numbers).max(initial=0) > 1e6:
        raise Refused(422, f"{name}: must be {' × '.join(map(str, shape))} numbers")
    return numbers


def _jpeg(picture: np.ndarray) -> bytes:
    """A JPEG of (height, width, 3) uint8 RGB."""
    _, content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return content.tobytes()
