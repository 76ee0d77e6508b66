"""Stills, cine clips and DICOM: what a file holds, its frames, and writing them.

- `door`: sniffs, checks and dispatches: `probe`, `read_frames`, `is_media`.
- `info`: the facts of a file.
- `image`, `video`, `dicom`: one format each.
- `dicom_bytes`: lengths and fragments of a DICOM file, checked before they are believed.
- `calibration`: mm per pixel and frame rate from a DICOM header.
- `writing`: PNG, MP4 and DICOM files.

May import errors, files, `data.limits` and `data.spacing`; no torch.
"""

from insonate.data.media.door import is_media, probe, read_frames
from insonate.data.media.info import MediaInfo
from insonate.data.media.writing import write_dicom, write_png, write_video

__all__ = ["MediaInfo", "is_media", "probe", "read_frames", "write_dicom", "write_png", "write_video"]
