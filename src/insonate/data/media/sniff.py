"""Which reader a file needs, by its first bytes; names do not count."""

from __future__ import annotations

from types import ModuleType

from insonate.data.media import dicom, dicom_bytes, image, metaimage, nifti, video

SNIFF_BYTES = 512
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif",
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv",
    ".dcm", ".dicom", ".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr",
)  # fmt: skip
"""names that promise media, so that one that is damaged, or of a kind that is not read, is told"""
IMAGE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
VIDEO_STARTS = (b"\x1aE\xdf\xa3", b"\0\0\x01\xba")
MOV_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def reader_of(start: bytes) -> ModuleType | None:
    """The module that reads a file with this beginning, or `None`."""
    if dicom_bytes.starts(start):
        return dicom
    if start.startswith(IMAGE_STARTS) or (start.startswith(b"RIFF") and start[8:12] == b"WEBP"):
        return image
    if start.startswith(b"BM") and start[6:10] == b"\0\0\0\0":  # reserved fields, zero in any real bitmap
        return image
    if start[4:8] in MOV_ATOMS or start.startswith(VIDEO_STARTS):
        return video
    if start.startswith(b"RIFF") and start[8:12] == b"AVI ":
        return video
    if nifti.starts(start):
        return nifti
    return metaimage if metaimage.starts(start) else None


def is_markup(start: bytes) -> bool:
    """Whether it is a page of HTML or XML."""
    return start.lstrip(b"\xef\xbb\xbf \r\n\t")[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml"))
