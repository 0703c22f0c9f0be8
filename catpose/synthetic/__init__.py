"""Synthetic pictures of cats with exact keypoints, drawn from a seed: data for trying the package without photographs.

A cat is posed in three dimensions (`bones`), given flesh and fur (`flesh`, `coat`, `body`, `head`), put into a scene
(`scene`, `scenery`, `props`) and painted back to front (`brush`). What was painted last at a keypoint's pixel says
whether the keypoint is visible.
"""

from catpose.synthetic.scene import DrawnImage, draw

__all__ = ["DrawnImage", "draw"]
