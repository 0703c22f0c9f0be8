"""What `predict` finds in one picture."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from catpose.data.images import read_image
from catpose.errors import InputError
from catpose.figures.overlay import draw_poses
from catpose.run.prediction import entries_of
from catpose.score.detections import Detections
from catpose.score.trust import Trust
from catpose.skeleton import Skeleton

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False, repr=False)
class Poses:
    """The poses of N animals in one picture, of K keypoints each.

    Coordinates are image px: x to the right and y down, the centre of the top left pixel is (0, 0).
    """

    detections: Detections
    boxes: np.ndarray  # (N, 4) float64: x, y, width, height, image px: where each animal was looked for
    skeleton: Skeleton  # names, limbs and flip pairs of the K keypoints
    picture: Path | np.ndarray  # its file, or its pixels (height, width, 3) uint8 RGB
    image_id: int  # its place among the pictures that were given, from 1, or its id in their COCO file
    trust: Trust | None = None  # what the model's confidences are worth, where it is calibrated

    def __len__(self) -> int:
        return len(self.detections)

    def __repr__(self) -> str:
        whose = f" in {self.picture}" if isinstance(self.picture, Path) else ""
        highest = f", highest confidence {self.confidence.max():.2f}" if len(self) else ""
        return f"<{len(self)} poses of {len(self.skeleton)} keypoints{whose}{highest}>"

    @property
    def keypoints(self) -> np.ndarray:
        """(N, K, 2) float64: x, y, image px."""
        return self.detections.keypoints

    @property
    def confidence(self) -> np.ndarray:
        """(N, K) float64, of each keypoint: the height of its peak, about 0 to 1."""
        return self.detections.confidence

    @property
    def score(self) -> np.ndarray:
        """(N,) float64, of each animal: the mean of its keypoints' confidences above 0.2."""
        return self.detections.score

    @property
    def probability(self) -> np.ndarray | None:
        """(N, K) float64, of each keypoint: that it is correct (its similarity to the truth, as in OKS, 0.5 or more);
        None where the model isn't calibrated (`test --calibrate`)."""
        return None if self.trust is None else self.trust.probabilities(self.confidence)

    @property
    def radius(self) -> np.ndarray | None:
        """(N, K) float64, image px: 90 % of such keypoints are no farther from the truth; None as `probability`."""
        return None if self.trust is None else self.trust.radius_px(self.boxes)

    def draw(self, shown_above: float = 0.2) -> np.ndarray:
        """The picture with the poses on it, (height, width, 3) uint8 RGB: left orange, right blue, boxes white.

        Args:
            shown_above: keypoints of more than this confidence are drawn.

        Raises:
            InputError: the picture's file can't be read again.
        """
        picture = read_image(self.picture) if isinstance(self.picture, Path) else self.picture.copy()
        return draw_poses(picture, self.keypoints, self.confidence, self.boxes, self.skeleton, shown_above)

    def save(self, file: str | Path, shown_above: float = 0.2) -> None:
        """Write what `draw` gives as a picture file, whose kind is that of its name (.jpg, .png).

        Raises:
            InputError: it can't be written, is the picture itself, or as `draw`.
        """
        if isinstance(self.picture, Path) and Path(file).resolve() == self.picture.resolve():
            raise InputError(f"{file}: is the picture itself; name another file")
        picture = cv2.cvtColor(self.draw(shown_above), cv2.COLOR_RGB2BGR)
        try:
            is_encoded, content = cv2.imencode(Path(file).suffix, picture)
            if not is_encoded:
                raise OSError(errno.EFBIG, "the picture is too large for this kind of file")
            Path(file).write_bytes(content.tobytes())
        except (cv2.error, OSError) as error:
            why = getattr(error, "strerror", None) or "is no name of a picture"
            raise InputError(f"{file}: can't be written ({why}); name a .jpg or .png") from None

    def to_coco(self) -> list[dict[str, Any]]:
        """Entries of a COCO results file, one an animal, as `predict` writes them; those of several pictures are one
        list: `sum((each.to_coco() for each in poses), [])`."""
        name = {"file_name": str(self.picture)} if isinstance(self.picture, Path) else {}
        return [entry | name for entry in entries_of(self.detections, self.boxes, self.trust)]

    def to_dataframe(self) -> pandas.DataFrame:
        """A row a keypoint: image_id, animal (from 0), keypoint (its name), x, y (image px), confidence; of a
        calibrated model also probability and radius (image px).

        Raises:
            InputError: pandas isn't installed.
        """
        try:
            import pandas
        except ImportError:
            raise InputError("to_dataframe needs pandas, which isn't installed; pip install pandas") from None
        n, names = len(self), self.skeleton.names
        worth = {"probability": self.probability, "radius": self.radius} if self.trust else {}
        return pandas.DataFrame(
            {
                "image_id": np.full(n * len(names), self.image_id),
                "animal": np.repeat(np.arange(n), len(names)),
                "keypoint": list(names) * n,
                "x": self.keypoints[..., 0].ravel(),
                "y": self.keypoints[..., 1].ravel(),
                "confidence": self.confidence.ravel(),
                **{column: values.ravel() for column, values in worth.items() if values is not None},
            }
        )
