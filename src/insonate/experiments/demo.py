"""The whole job on the phantom: generate, scan, split, pretrain, adapt, evaluate, predict, report.

All of it is synthetic. The question it answers is that of `pretraining.py`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from insonate.data import Manifest, split_by_patient
from insonate.data.scan import scan
from insonate.deploy import predict_media
from insonate.errors import InsonateError
from insonate.evaluate import Section, Text, picture, render_report
from insonate.experiments.pretraining import SMALL_VIT, Problem, Study, run_study, say, sections
from insonate.files import atomic_write
from insonate.phantom import generate

NO_ZOOM = {"rotate_deg": 10.0, "shift": 0.05, "brightness": 0.2, "contrast": 0.2}
"""sizes in mm must not be stretched"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything a demo uses."""

    patients: int
    images_per_patient: int
    pretrain_epochs: int
    point_epochs: int
    lesion_epochs: int


FULL = Size(patients=500, images_per_patient=2, pretrain_epochs=16, point_epochs=15, lesion_epochs=8)
QUICK = Size(patients=48, images_per_patient=2, pretrain_epochs=3, point_epochs=4, lesion_epochs=4)
FRACTIONS = {"train": 0.7, "test": 0.3}
"""nothing is chosen by validation"""


def run_demo(out: Path, *, quick: bool = False, seed: int = 0) -> Path:
    """Run the demo in `out` and return the path of its `report.html`.

    Args:
        out: a folder; a demo that was interrupted there goes on.
        quick: a few steps of everything, to see it work; too short to show that pretraining helps.
        seed: of the phantom and of every run.

    Raises:
        InsonateError: a step failed; the message names it.
    """
    size, start_s = (QUICK if quick else FULL), time.monotonic()
    say(start_s, f"rendering {size.patients} phantom patients")
    manifest = phantom_data(out / "data", size, seed)
    study = demo_study(manifest, size, seed)
    arms = run_study(study, out)
    say(start_s, "predicting on a DICOM cine")
    (keypoints,) = [
        arm.model_dir
        for arm in arms
        if (arm.problem.name, arm.protocol, arm.init) == ("HC keypoints", "fine-tuned", "pretrained")
    ]
    parts = sections(study, arms, out)
    if quick:
        parts.insert(
            0, Section("Quick run", [Text("Too short to judge pretraining: it shows the path only.")])
        )
    parts.append(_on_dicom(out, keypoints, seed))
    report = atomic_write(out / "report.html", render_report("insonate demo", parts, synthetic=True))
    say(start_s, "done")
    return report


def phantom_data(folder: Path, size: Size, seed: int) -> Path:
    """Render the phantom once, scan and split it; the path of the manifest.

    Raises:
        InsonateError: the scan did not find what was rendered.
    """
    path = folder / "manifest.parquet"
    if not path.exists():
        generate(
            folder,
            kind="mixed",
            patients=size.patients,
            images_per_patient=size.images_per_patient,
            seed=seed,
            workers=2,
        )
    manifest = Manifest.read(path)
    found = scan(folder / "media", None)
    if found.errors or len(found.manifest) != len(manifest):
        what = f"{len(found.manifest)} of {len(manifest)} media could be read back"
        raise InsonateError(folder, what, "Remove the folder and run the demo again")
    return split_by_patient(manifest, FRACTIONS, seed=seed).write(path)


def demo_study(manifest: Path, size: Size, seed: int) -> Study:
    """Head keypoints, class and size of lesions on a small ViT (0.5 M parameters)."""
    return Study(
        unlabelled=manifest,
        backbone=SMALL_VIT,
        pretrain_epochs=size.pretrain_epochs,
        seed=seed,
        problems=[
            Problem(
                name="HC keypoints",
                manifest=manifest,
                task={"name": "keypoints", "column": "keypoints_hc", "points": "HC", "head_width": 32},
                score="mre_mm",
                lower_is_better=True,
                epochs=size.point_epochs,
            ),
            Problem(
                name="lesion class",
                manifest=manifest,
                task={
                    "name": "classification",
                    "column": "lesion_class",
                    "classes": ["benign", "malignant"],
                    "head": "linear_probe",
                },
                score="correct",
                lower_is_better=False,
                epochs=size.lesion_epochs,
                frozen_lr=1.0e-2,
                augment=NO_ZOOM,
            ),
            Problem(
                name="lesion size",
                manifest=manifest,
                task={"name": "regression", "column": "lesion_long_mm", "head": "linear_probe"},
                score="abs_error",
                lower_is_better=True,
                epochs=size.lesion_epochs,
                frozen_lr=1.0e-2,
                augment=NO_ZOOM,
            ),
        ],
    )


def _on_dicom(out: Path, model_dir: Path, seed: int) -> Section:
    folder = out / "dicom"
    if not (folder / "manifest.parquet").exists():
        generate(folder, kind="head", patients=1, images_per_patient=1, seed=seed + 1, formats=("dicom",))
    results = list(predict_media(sorted(folder.rglob("*.dcm")), model_dir, out / "predictions"))
    pictures = []
    for result in results:
        if result.overlay_path is None:
            raise InsonateError(result.media, result.error, "Remove the demo's folder and run it again")
        measured = result.predictions[0].measurements
        hc = measured.get("hc_mm", "unknown")
        text = f"{result.media.name}: {len(result.predictions)} frames, HC {hc} in the first"
        pictures.append(picture(result.overlay_path, text))
    return Section("Prediction on a phantom DICOM", pictures)
