"""What labelling tools must be told about the skeleton: CVAT's labels, Label Studio's interface."""

from __future__ import annotations

import json
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

import numpy as np

from catpose.skeleton import AP10K


class Tool(NamedTuple):
    """A labelling tool."""

    file: str  # the name of its configuration
    use: str  # where the configuration goes, and how the labels are exported


TOOLS = {
    "cvat": Tool(
        "cvat_labels.json",
        'paste it into "Raw" of a new project\'s labels, label with "Skeleton", export "COCO Keypoints 1.0"',
    ),
    "label-studio": Tool(
        "label_studio.xml", 'paste it into "Code" of a project\'s labelling interface, export "COCO with images"'
    ),
}
ORANGE, BLUE, GREEN = "#ff8c1e", "#2878ff", "#3cdc5a"  # the animal's left, its right, its middle, as overlays have them


def _side_colour(name: str) -> str:
    """The colour of a keypoint's side as "#rrggbb"."""
    return ORANGE if name.startswith("left_") else BLUE if name.startswith("right_") else GREEN


def cvat_labels(points: np.ndarray) -> str:
    """A skeleton for the "Raw" tab of CVAT's label constructor, as JSON.

    Args:
        points: (17, 2), where its points stand at first, in any unit.
    """
    low, side = points.min(axis=0), np.ptp(points, axis=0).max()
    places = np.round(5 + 90 * (points - low) / side, 1)  # the drawing is 100 wide and high
    lines = [
        f'<line x1="{places[a, 0]}" y1="{places[a, 1]}" x2="{places[b, 0]}" y2="{places[b, 1]}" stroke="black"'
        f' data-type="edge" data-node-from="{a + 1}" stroke-width="0.5" data-node-to="{b + 1}"></line>'
        for a, b in AP10K.limbs
    ]
    circles = [
        f'<circle r="1.5" stroke="black" fill="{_side_colour(name)}" cx="{x}" cy="{y}" stroke-width="0.1"'
        f' data-type="element node" data-element-id="{k}" data-node-id="{k}" data-label-name="{name}"></circle>'
        for k, (name, (x, y)) in enumerate(zip(AP10K.names, places, strict=True), start=1)
    ]
    sublabels = [
        {"name": name, "type": "points", "color": _side_colour(name), "attributes": []} for name in AP10K.names
    ]
    label = {
        "name": "cat", "type": "skeleton", "color": "#808080", "attributes": [], "sublabels": sublabels,
        "svg": "".join([*lines, *circles]),
    }  # fmt: skip
    return json.dumps([label], indent=1) + "\n"


def label_studio_interface() -> str:
    """A labelling interface for Label Studio's "Code" view; its COCO export orders keypoints by `model_index`, and its
    importer of COCO files calls the two controls as they are called here."""
    labels = [
        f'    <Label value={quoteattr(name)} background="{_side_colour(name)}" model_index="{k}"/>'
        for k, name in enumerate(AP10K.names)
    ]
    return "\n".join(
        [
            "<View>",
            '  <Image name="image" value="$image" zoom="true" zoomControl="true"/>',
            '  <RectangleLabels name="label_rectangles" toName="image">',
            '    <Label value="cat"/>',
            "  </RectangleLabels>",
            '  <KeyPointLabels name="label_keypoints" toName="image" strokeWidth="4">',
            *labels,
            "  </KeyPointLabels>",
            "</View>",
            "",
        ]
    )
