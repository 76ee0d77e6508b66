"""Data: from media files to batches.

`media` reads and writes files · `manifest` the table of items, with its `columns`, the `checks` on its rows
and its files as a `table` · `scan` makes one of a folder, in the worker processes of `pool` or on other
`engines`, with a `journal` to go on from · `vet` decodes strangers' files there first · `deidentify` writes
an archive without identity: `blanking` makes each medium anew, with the headers of `dicom_profile`, the names
of `pseudonyms`, the pictures of `review`; `private` is the folder of what leads back · `sector` finds the
echoes and their `outlines`, which `templates` remember, `overlays` the writing in them · `card` tells what a
manifest holds, with `likeness` of pictures · `shards` packs its media · `split` by patient · `adapters` make
one of a public data set · `targets` what a label is · `augment`, `transforms` from picture to model input ·
`dataset`, `sampler`, `loader` from manifest to batches · `sample` what travels · `spacing` mm per pixel ·
`pointsets` the named keypoints of nine tasks · `structured_report` measurements as DICOM.

Names load on first use, so that options and manifests are read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from insonate.data.augment import Augment
    from insonate.data.dataset import ManifestDataset
    from insonate.data.loader import Loader, collate
    from insonate.data.manifest import COLUMNS, Manifest
    from insonate.data.pointsets import POINT_SETS, PointSet
    from insonate.data.sample import Batch, Meta, Sample
    from insonate.data.sampler import ItemKey
    from insonate.data.scan import ScanResult
    from insonate.data.spacing import Spacing
    from insonate.data.split import split_by_patient
    from insonate.data.targets import (
        ClassTarget,
        MaskTarget,
        PointSetsTarget,
        PointsTarget,
        Target,
        ValueTarget,
    )
    from insonate.data.transforms import InputFormat, prepare

__all__ = [
    "COLUMNS",
    "POINT_SETS",
    "Augment",
    "Batch",
    "ClassTarget",
    "InputFormat",
    "ItemKey",
    "Loader",
    "Manifest",
    "ManifestDataset",
    "MaskTarget",
    "Meta",
    "PointSet",
    "PointSetsTarget",
    "PointsTarget",
    "Sample",
    "ScanResult",
    "Spacing",
    "Target",
    "ValueTarget",
    "collate",
    "prepare",
    "split_by_patient",
]

_HOME = {
    "Augment": "augment", "Batch": "sample", "COLUMNS": "manifest", "ClassTarget": "targets",
    "InputFormat": "transforms", "ItemKey": "sampler", "Loader": "loader", "Manifest": "manifest",
    "ManifestDataset": "dataset", "MaskTarget": "targets", "Meta": "sample", "POINT_SETS": "pointsets",
    "PointSet": "pointsets", "PointSetsTarget": "targets", "PointsTarget": "targets", "Sample": "sample",
    "ScanResult": "scan", "Spacing": "spacing", "Target": "targets", "ValueTarget": "targets",
    "collate": "loader", "prepare": "transforms", "split_by_patient": "split",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"insonate.data.{_HOME[name]}"), name)
