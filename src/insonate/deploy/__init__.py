"""Use of trained models outside training.

| file | content |
|-|-|
| `predict.py` | `predict_media`: many files, one JSON, one overlay and the masks each |
| `sources.py` | the media of files and folders |
| `measured.py` | from the points of frames to what is said about a medium |
| `choosing.py`, `views.py` | which task a medium is for; the first without torch |
| `study.py` | what the media of one study tell together |
| `reporting.py` | the calipers of a structured report |
| `pseudo_label.py` | label unlabelled pictures for training |
| `export.py`, `quantise.py`, `halved.py` | tasks as one graph, checked; 8 or 16 bits |
| `runtime.py`, `mirrored.py`, `portable.py` | that graph on pictures and on files, without torch |
| `serving.py` | whether a model's folder or its graph answers |
| `doctor.py` | what this machine has |

Names load on first use, so that `doctor` runs where torch does not. Imports hub.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from insonate.deploy.predict import FileResult, predict_media

__all__ = ["NOTICE", "FileResult", "predict_media"]

NOTICE = "not for clinical use"
"""stands in whatever is written about a medium"""


def __getattr__(name: str) -> Any:
    if name in __all__:
        from insonate.deploy import predict

        return getattr(predict, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
