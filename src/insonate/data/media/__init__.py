"""Stills, cine clips and DICOM: what a file holds, its frames, and writing them."""

from insonate.data.media.writing import write_dicom, write_png, write_video

__all__ = ["write_dicom", "write_png", "write_video"]
