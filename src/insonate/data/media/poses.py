"""Where the pixels of a tracked sequence lie in space: the Image-to-Probe calibration, applied to its poses.

The sequence tells where probe and reference are as the tracker sees them; which point of the probe's space a
pixel is was measured once, and stands in the XML of PLUS (`CoordinateDefinitions`). Shapes: T frames.
Source: PLUS toolkit, "Coordinate system definitions"; Lasso et al. 2014 (doi 10.1109/TBME.2014.2322864).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from insonate.data.limits import check
from insonate.data.media.info import Track
from insonate.data.media.regular import open_regular
from insonate.errors import MediaError


def read_calibration(path: Path | str, source: str = "Image", target: str = "Probe") -> np.ndarray:
    """The 4 4 matrix that an XML of PLUS gives from `source` to `target`.

    From Image it takes pixels (x, y, 0, 1), as `read_frames` gives them, to mm.

    Raises:
        MediaError: the file is no such XML, is longer than the limit `header_bytes`, or has no such matrix.
    """
    path = Path(path)
    for transform in _root(path).iter("Transform"):
        if (transform.get("From"), transform.get("To")) == (source, target):
            return _matrix(path, transform.get("Matrix", ""))
    raise MediaError(path, f"has no Transform from {source} to {target}", "Give the XML of the calibration")


def image_poses(tracks: Sequence[Track], image_to_probe: np.ndarray) -> Track:
    """Image in Reference: inv(ReferenceToTracker) · ProbeToTracker · ImageToProbe, one a frame.

    Args:
        tracks: of `read_tracks`; valid where both probe and reference were seen.
        image_to_probe: 4 4, of `read_calibration`.

    Raises:
        MediaError: probe or reference were not tracked, or the calibration is no 4 4 matrix.
    """
    seen = {track.source: track for track in tracks if track.target == "Tracker"}
    for name in ("Probe", "Reference"):
        if name not in seen:
            raise MediaError("the sequence", f"has no poses {name}ToTracker", "Give one that tracked both")
    if np.shape(image_to_probe) != (4, 4):
        what = f"has the shape {np.shape(image_to_probe)}"
        raise MediaError("the calibration", what, "Give the 4 4 matrix of read_calibration")
    probe, reference = seen["Probe"], seen["Reference"]
    valid = probe.valid & reference.valid  # T
    matrices = np.full(probe.matrices.shape, np.nan)  # T 4 4
    found = np.linalg.solve(reference.matrices[valid], probe.matrices[valid])
    matrices[valid] = found @ image_to_probe
    return Track("Image", "Reference", matrices, valid)


def _root(path: Path) -> ElementTree.Element:
    """The XML, of which no part is another file or a text that grows.

    Raises:
        MediaError: it is none, is too long, or defines entities.
    """
    with open_regular(path) as file:
        check(path, "header_bytes", file.seek(0, io.SEEK_END))
        file.seek(0)
        data = file.read()
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data or b"\0" in data:  # no other way to define any
        raise MediaError(path, "defines texts of its own", "Save the XML without a DOCTYPE, as UTF-8")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise MediaError(path, f"is no XML ({type(error).__name__})", "Copy the file again") from None


def _matrix(path: Path, text: str) -> np.ndarray:
    try:
        entries = np.array(text.split()[:17], np.float64)
    except ValueError:
        entries = np.empty(0)
    if entries.shape != (16,) or not np.isfinite(entries).all():
        raise MediaError(path, "Matrix is no list of 16 numbers", "Calibrate again")
    matrix = entries.reshape(4, 4)
    if tuple(matrix[3]) != (0, 0, 0, 1) or np.linalg.det(matrix) == 0:
        raise MediaError(path, "Matrix is no transform of space", "Calibrate again")
    return matrix
