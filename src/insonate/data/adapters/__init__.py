"""Adapters: data sets as they are handed out → a manifest. Each is a function (root, out) → Manifest.

`folders` common shapes of folders · `public` data sets by name · `tables` what they share.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from insonate.data.adapters.folders import image_folder, image_mask_folder, keypoint_csv
from insonate.data.adapters.public import camus_4ch, hc18_landmarks, pocus_lung_videos
from insonate.data.manifest import Manifest


def _images_and_masks(root: Path, out: Path) -> Manifest:
    """Images in `root/images`, masks of the same names in `root/masks`: column `mask_path`."""
    return image_mask_folder(root / "images", root / "masks", out)


def _images_and_keypoints(root: Path, out: Path) -> Manifest:
    """Images in `root/images` and `root/keypoints.csv`, with columns NAME_x, NAME_y: column `keypoints`."""
    return keypoint_csv(root / "keypoints.csv", root / "images", out)


ADAPTERS: dict[str, Callable[[Path, Path], Manifest]] = {
    "camus_4ch": camus_4ch,
    "hc18_landmarks": hc18_landmarks,
    "image_folder": image_folder,
    "image_mask_folder": _images_and_masks,
    "keypoint_csv": _images_and_keypoints,
    "pocus_lung_videos": pocus_lung_videos,
}
"""name → adapter; `out` is a new folder that receives the media and `manifest.parquet`"""

__all__ = [
    "ADAPTERS",
    "camus_4ch",
    "hc18_landmarks",
    "image_folder",
    "image_mask_folder",
    "keypoint_csv",
    "pocus_lung_videos",
]
