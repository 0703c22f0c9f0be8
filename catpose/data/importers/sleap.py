"""SLEAP's projects and packages (.slp), read by sleap-io: local files only, whatever a project names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from catpose.data.importers.labels import Animal, Labels, Picture
from catpose.data.importers.pictures import PictureFinder
from catpose.data.values import is_coordinate
from catpose.errors import InputError, one_line
from catpose.text import counted

CATEGORY = "cat"


def read_sleap(source: Path, names: Sequence[str] | None, finder: PictureFinder, frames: Path) -> Labels:
    """The labels that people made in a .slp file; predictions are left out.

    Args:
        source: the file, or a folder that holds one.
        names: of the keypoints, in place of the file's own.
        finder: of the pictures and videos, by base name.
        frames: a folder for frames of videos and those that a package holds, written as PNG.

    Raises:
        InputError: sleap-io isn't installed; no such file, or none that it reads; a video that isn't there.
    """
    try:
        import sleap_io  # it takes seconds, and few have it
    except ImportError:
        raise InputError("SLEAP's files are read by sleap-io; pip install 'catpose[import]'") from None
    file = _file(source)
    try:
        project = sleap_io.load_slp(str(file.absolute()), open_videos=False)
    except Exception as error:  # of whatever kind the library raises for files that are none
        raise InputError(f"{file}: can't be read as SLEAP's labels ({one_line(error)[:100]}); save it again") from None
    labels = Labels("SLEAP", {}, [], [file])
    for labelled in project.labeled_frames:
        animals = []
        for instance in labelled.instances:
            if type(instance) is not sleap_io.Instance:
                labels.left_out["predicted"] += 1
                continue
            own = tuple(node.name for node in instance.skeleton.nodes)
            if names is not None and len(names) != len(own):
                raise InputError(
                    f"--keypoints has {counted(len(names), 'name')}, a line each, but {file} has {len(own)} nodes"
                )
            own = tuple(names) if names is not None else own
            if labels.keypoints.setdefault(CATEGORY, own) != own:
                raise InputError(f"{file}: has several skeletons; keep one")
            labels.limbs.setdefault(CATEGORY, [tuple(edge) for edge in instance.skeleton.edge_inds])
            animals.append(Animal(CATEGORY, _points(file, instance)))
        if animals:
            name, group = _picture(file, labelled, project.videos.index(labelled.video), finder, frames)
            labels.pictures.append(Picture(name, file, animals, group=group))
    if not labels.keypoints:
        raise InputError(f"{file}: holds no instance that a person labelled; label some first")
    return labels


def _file(source: Path) -> Path:
    if source.is_file():
        return source
    found = sorted(source.glob("*.slp"))
    if len(found) != 1:
        raise InputError(f"{source}: holds {len(found) or 'no'} .slp files; name one")
    return found[0]


def _points(file: Path, instance: Any) -> tuple[tuple[float, float, int], ...]:
    points = []
    for (x, y), visible in zip(instance.points["xy"].tolist(), instance.points["visible"].tolist(), strict=True):
        if np.isnan(x) or np.isnan(y):
            points.append((0.0, 0.0, 0))
        elif is_coordinate(x) and is_coordinate(y):
            points.append((x, y, 2 if visible else 1))
        else:
            raise InputError(f"{file}: a point at {x:g}, {y:g} is no place in a picture; correct it")
    return tuple(points)


def _picture(file: Path, labelled: Any, number: int, finder: PictureFinder, frames: Path) -> tuple[str, str | None]:
    """A frame's picture by name, and the video that it is of; a frame that is no file becomes one."""
    video, index = labelled.video, int(labelled.frame_idx)
    if isinstance(video.filename, list):
        if not 0 <= index < len(video.filename):
            raise InputError(
                f"{file}: frame {index} is beyond the {len(video.filename)} pictures of its video; save it again"
            )
        return video.filename[index], None
    metadata = video.backend_metadata or {}
    embedded = bool(metadata.get("has_embedded_images"))
    path = file if embedded else finder.find(os.fspath(video.filename), file)
    if path is None:
        raise InputError(
            f"{file}: its video '{one_line(os.path.basename(video.filename))[:100]}' isn't beside it; put it there,"
            " name its folder with --images, or save a package (.pkg.slp) with the frames in it"
        )
    from sleap_io import load_video

    try:
        opened = load_video(str(path.absolute()), **({"dataset": metadata.get("dataset")} if embedded else {}))
        picture = np.asarray(opened[index])
    except Exception as error:  # of whatever kind the library or its readers of videos raise
        raise InputError(
            f"{path}: frame {index} can't be read ({one_line(error)[:100]}); save a package instead"
        ) from None
    name = f"{number}_{path.stem.removesuffix('.pkg')}_{index:06}.png"
    Image.fromarray(picture.squeeze()).save(frames / name)
    source = getattr(video, "source_video", None)
    of_pictures = embedded and source is not None and isinstance(source.filename, list)
    return name, None if of_pictures else f"video {number}"
