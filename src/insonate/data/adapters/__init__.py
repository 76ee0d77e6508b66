"""Adapters: data sets as they are handed out → a manifest. Each is a function (root, out) → Manifest.

`listing` names them all, with licence, citation and place · `folders`, `generic` common shapes of folders
and tables · `public`, `shared` sets in the form of the project's shared data · `heart`, `echonet`, `fetal`,
`busi`, `lung`, `birth` published layouts · `fu_biometry`, `fm_uia`, `multicentre`, `unity` sets of points
with `points` in common, `chambers` of masks · `gather`, `tables` what all share.
"""

from insonate.data.adapters.folders import image_folder, image_mask_folder, keypoint_csv
from insonate.data.adapters.gather import Adapter
from insonate.data.adapters.listing import ADAPTERS
from insonate.data.adapters.public import camus_4ch, hc18_landmarks, pocus_lung_videos

__all__ = [
    "ADAPTERS",
    "Adapter",
    "camus_4ch",
    "hc18_landmarks",
    "image_folder",
    "image_mask_folder",
    "keypoint_csv",
    "pocus_lung_videos",
]
