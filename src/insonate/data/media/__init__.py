"""Stills, cine clips, DICOM and volumes: what a file holds, its frames, and writing them.

- `door`: checks and dispatches: `MediaFile`, `probe`, `read_frames`, `read_tracks`, `is_media`.
- `sniff`, `regular`: which reader a file needs; opening regular files only.
- `info`: the facts of a file, times and poses; `medium`: what a reader gives the door.
- `image`, `animation`, `video`, `dicom`, `nifti`, `metaimage`: one family of formats each.
- `dicom_bytes`, `dicom_pixels`: lengths and fragments, checked before they are believed; frames of them.
- `dicom_jpeg`: JPEG frames straight from their bytes, luma alone where they have no colour.
- `coded`: the size of a compressed frame, from its first bytes.
- `calibration`, `timing`: scales and times from a DICOM header.
- `poses`: pixels of tracked sequences in space.
- `volume`, `transparency`: what two formats share.
- `writing`: PNG, MP4 and DICOM files.

May import errors, files, `data.limits` and `data.spacing`; no torch.
"""

from insonate.data.media.door import MediaFile, is_media, probe, read_frames, read_tracks
from insonate.data.media.info import MediaInfo, Track
from insonate.data.media.poses import image_poses, read_calibration
from insonate.data.media.writing import write_dicom, write_png, write_video

__all__ = [
    "MediaFile",
    "MediaInfo",
    "Track",
    "image_poses",
    "is_media",
    "probe",
    "read_calibration",
    "read_frames",
    "read_tracks",
    "write_dicom",
    "write_png",
    "write_video",
]
