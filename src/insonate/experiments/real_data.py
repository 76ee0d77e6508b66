"""The study of `pretraining.py` on real ultrasound: HC18 heads, CAMUS echo, POCUS lung.

Run: python -m insonate.experiments.real_data DATA OUT [--quick]
DATA holds the folders hc18_landmarks, camus_4ch and pocus_lung_videos. Licences: HC18 images CC BY 4.0, its
landmarks and CAMUS CC BY-NC-SA 4.0, POCUS by clip; models trained here must not be passed on.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from insonate.data import Manifest
from insonate.data.adapters import ADAPTERS
from insonate.errors import InsonateError
from insonate.evaluate import Section, Text, render_report
from insonate.experiments.pretraining import SMALL_VIT, Problem, Study, run_study, say, sections
from insonate.experiments.told import errors_told
from insonate.files import atomic_write

SETS = ("hc18_landmarks", "camus_4ch", "pocus_lung_videos")


def run_real_data(data: Path, out: Path, *, quick: bool = False, seed: int = 0) -> Path:
    """Run the study in `out` and return the path of its `report.html`; an interrupted one goes on.

    Args:
        data: the three data sets' folders.
        out: where copies of the media, runs and the report go.
        quick: a few steps of everything, to see it work.
        seed: of every run.

    Raises:
        InsonateError: a data set is missing, or a step failed.
    """
    start_s = time.monotonic()
    manifests = {}
    for name in SETS:
        if not (data / name).is_dir():
            raise InsonateError(data, f"holds no folder {name!r}", f"It needs {', '.join(SETS)}")
        path = out / "data" / name / "manifest.parquet"
        if not path.exists():
            say(start_s, f"taking over {name}")
            ADAPTERS[name](data / name, path.parent)
        manifests[name] = path
    unlabelled = together(out / "data", list(manifests.values()))
    study = real_study(unlabelled, manifests, quick=quick, seed=seed)
    arms = run_study(study, out)
    notice = Text(
        "Real images: HC18 (van den Heuvel 2018; landmarks doi 10.5522/04/30819911), CAMUS (Leclerc 2019), "
        "POCUS (Born 2021; frames only: its labels are confounded with the source of the clip)."
    )
    parts = [Section("Data", [notice]), *sections(study, arms, out)]
    return atomic_write(out / "report.html", render_report("insonate on real ultrasound", parts))


def together(root: Path, paths: list[Path]) -> Path:
    """One manifest of the unlabelled items of several below `root`; patients keep apart by their site."""
    rows = []
    for path in paths:
        manifest = Manifest.read(path)
        folder = path.parent.relative_to(root).as_posix()
        for row in manifest.rows:
            item = {name: row[name] for name in row if name in COMMON}
            item |= {"path": f"{folder}/{row['path']}", "patient_id": f"{folder}/{row['patient_id']}"}
            rows.append(item)
    return Manifest.from_rows(rows, root).write(root / "unlabelled.parquet")


COMMON = ("path", "kind", "patient_id", "view", "site", "frames", "height", "width", "split")


def real_study(unlabelled: Path, manifests: dict[str, Path], *, quick: bool, seed: int) -> Study:
    """Head keypoints, echo segmentation and phase of the heart on a small ViT (0.5 M parameters)."""
    epochs = 1 if quick else 25
    return Study(
        unlabelled=unlabelled,
        backbone=SMALL_VIT,
        pretrain_epochs=1 if quick else 24,
        seed=seed,
        problems=[
            Problem(
                name="HC18 keypoints",
                manifest=manifests["hc18_landmarks"],
                task={"name": "keypoints", "column": "keypoints_hc", "points": "HC", "head_width": 64},
                score="mre_mm",
                lower_is_better=True,
                epochs=epochs,
            ),
            Problem(
                name="CAMUS segmentation",
                manifest=manifests["camus_4ch"],
                task={
                    "name": "segmentation",
                    "column": "mask_path",
                    "classes": ["background", "left_ventricle", "myocardium", "left_atrium"],
                },
                score="dice",
                lower_is_better=False,
                epochs=epochs,
                fraction=0.1,
            ),
            Problem(
                name="CAMUS phase",
                manifest=manifests["camus_4ch"],
                task={
                    "name": "classification",
                    "column": "phase",
                    "classes": ["ED", "ES"],
                    "head": "linear_probe",
                },
                score="correct",
                lower_is_better=False,
                epochs=1 if quick else 10,
                frozen_lr=1.0e-2,
            ),
        ],
    )


def main() -> None:
    """Command line of the study.

    Raises:
        SystemExit: with 2, when a data set is missing or a step failed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    with errors_told():
        report = run_real_data(arguments.data, arguments.out, quick=arguments.quick)
    sys.stdout.write(f"{report}\n")


if __name__ == "__main__":
    main()
