"""Drawn cats: pictures with exact keypoints, made from a seed, for those who have no photographs at hand.

A cat is posed in three dimensions (`bones`), given flesh and fur (`flesh`, `coat`, `body`, `head`), put into a scene
(`scene`, `scenery`, `props`) and painted back to front (`brush`). What was painted last at a keypoint's pixel says
whether the keypoint is visible.
"""

from catpose.data.drawn.scene import DrawnImage, draw

__all__ = ["DrawnImage", "draw"]
