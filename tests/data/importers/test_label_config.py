"""What labelling tools are told about the skeleton."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from skeletons import KEYPOINTS, LIMBS

from catpose.data.importers.label_config import cvat_labels, label_studio_interface
from catpose.data.importers.names import match_keypoints
from catpose.figures.canvas import DPI
from catpose.prepare import main


def test_cvats_skeleton_has_each_keypoint_and_limb_where_it_belongs() -> None:
    points = np.random.default_rng(0).uniform(50, 300, (17, 2))
    (label,) = json.loads(cvat_labels(points))
    assert label["type"] == "skeleton"
    assert [sublabel["name"] for sublabel in label["sublabels"]] == list(KEYPOINTS)
    circles = re.findall(
        r'<circle [^>]*cx="([\d.]+)" cy="([\d.]+)"[^>]*data-node-id="(\d+)" data-label-name="(\w+)"', label["svg"]
    )
    assert [(int(node), name) for _, _, node, name in circles] == list(enumerate(KEYPOINTS, start=1))
    places = np.array([(float(x), float(y)) for x, y, _, _ in circles])
    assert places.min() >= 0
    assert places.max() <= 100
    scale = np.ptp(places, axis=0) / np.ptp(points, axis=0)
    assert np.allclose(scale[0], scale[1], rtol=0.01)  # no distortion
    edges = re.findall(r'data-node-from="(\d+)"[^>]*data-node-to="(\d+)"', label["svg"])
    assert [(int(a) - 1, int(b) - 1) for a, b in edges] == list(LIMBS)


def test_label_studios_export_has_the_keypoints_in_order() -> None:
    """By its converter's rule (label-studio-sdk): names in the order of `model_index`."""
    root = ElementTree.fromstring(label_studio_interface())
    labels = root.findall("./KeyPointLabels/Label")
    names = [
        label.get("value") or "" for label in sorted(labels, key=lambda label: int(label.get("model_index") or -1))
    ]
    assert match_keypoints(names, "export").places == tuple(range(17))
    assert [label.get("value") for label in root.findall("./RectangleLabels/Label")] == ["cat"]


@pytest.mark.parametrize(("tool", "name"), [("cvat", "cvat_labels.json"), ("label-studio", "label_studio.xml")])
def test_the_command(tool: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["label-config", "--for", tool, "--out", str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "keypoints.png"])
    assert cv2.imread(str(tmp_path / "keypoints.png")).shape[1] > 4 * DPI
    assert name in capsys.readouterr().out
