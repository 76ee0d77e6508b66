"""What the installed decoders can read: for `insonate doctor`. Loads pydicom and av when asked."""

from __future__ import annotations

from pathlib import Path

SYNTAXES = {
    "1.2.840.10008.1.2": "implicit VR little endian",
    "1.2.840.10008.1.2.1": "explicit VR little endian",
    "1.2.840.10008.1.2.1.99": "deflated",
    "1.2.840.10008.1.2.2": "explicit VR big endian",
    "1.2.840.10008.1.2.5": "RLE",
    "1.2.840.10008.1.2.4.50": "JPEG baseline",
    "1.2.840.10008.1.2.4.51": "JPEG extended",
    "1.2.840.10008.1.2.4.57": "JPEG lossless",
    "1.2.840.10008.1.2.4.70": "JPEG lossless, first order",
    "1.2.840.10008.1.2.4.80": "JPEG-LS lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS near-lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.110": "JPEG XL lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL, recompressed JPEG",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.4.201": "HTJ2K lossless",
    "1.2.840.10008.1.2.4.203": "HTJ2K",
}
"""transfer syntaxes of stills and frames that ultrasound archives hold: UID → short name"""
FILMS = {
    "1.2.840.10008.1.2.4.100": ("MPEG-2", "mpeg2video"),
    "1.2.840.10008.1.2.4.102": ("H.264", "h264"),
    "1.2.840.10008.1.2.4.107": ("HEVC", "hevc"),
}
"""of videos inside DICOM: UID → short name, FFmpeg decoder"""
CODECS = ("h264", "hevc", "mjpeg", "mpeg4", "mpeg2video", "vp8", "vp9", "av1", "ffv1", "rawvideo")
"""FFmpeg decoders of the video files met in ultrasound"""


def dicom_syntaxes() -> dict[str, bool]:
    """Short name → whether pixels of this transfer syntax can be decoded here."""
    from pydicom.uid import UID

    from insonate.data.media.dicom_pixels import check_decoder
    from insonate.errors import MediaError

    found = {}
    for uid, name in SYNTAXES.items():
        try:
            check_decoder(Path(name), UID(uid))
            found[name] = True
        except MediaError:
            found[name] = False
    codecs = video_codecs()
    return found | {name: codecs[codec] for name, codec in FILMS.values()}


def video_codecs() -> dict[str, bool]:
    """Codec → whether it can be decoded here."""
    import av

    return {name: name in av.codecs_available for name in CODECS}
