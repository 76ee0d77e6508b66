"""Pictures of docs/predict.md: a model of nine tasks on a phantom fetus, a phantom loop, a real head.

Run: python benchmarks/predict_pictures.py NINE HC18 --out docs
NINE is a model folder of the nine tasks, HC18 the folder hc18_landmarks of the shared data. Its pictures are
CC BY 4.0 (van den Heuvel et al. 2018, doi 10.1371/journal.pone.0200412). The points on the loop are the
phantom's own, those on the real head the axes of the ellipse that HC18's own annotation fills: not predicted.
The numbers that the page tells are printed.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from insonate.data.adapters import ADAPTERS
from insonate.data.adapters.points import ellipse_ends, point_columns
from insonate.data.media import probe, read_frames, write_video
from insonate.data.sample import Meta
from insonate.data.spacing import Spacing
from insonate.deploy import predict_media
from insonate.deploy.measured import Known, said_about, trace_of
from insonate.files import atomic_write
from insonate.hub import load
from insonate.measure.derived import centiles
from insonate.measure.overlay import Marked, draw_marked, told
from insonate.measure.points import MEASURED, measure
from insonate.phantom import generate
from insonate.phantom.items import render, staged
from insonate.phantom.orders import Order
from insonate.tasks.base import Prediction

HEIGHT_PX, QUALITY, SEED = 560, 85, 11
REAL_ROW, REAL_WEEKS = 3, 13.5


def fetus(model, folder: Path) -> Image.Image:
    """Head, abdomen and femur of one phantom fetus of 24 weeks, side by side."""
    manifest = generate(folder / "fetus", kind="fetal", patients=1, images_per_patient=1, ga_weeks=24.0,
                        seed=SEED, size=320)  # fmt: skip
    shown = []
    for row in manifest.rows:
        task = row["points_set"]
        (result,) = predict_media(
            [manifest.file(row)],
            model,
            folder / "out",
            task=task,
            known=Known(ga_weeks=24.0, spacing=spacing(row)),
        )
        shown.append(result.overlay_path)
        truth = {name: row[name] for name in ("hc_mm", "ac_mm", "fl_mm") if row.get(name)}
        print(task, ", ".join(told(*one) for one in result.quantities.items()), "| truth", truth)
    return beside([Image.open(path) for path in shown])


def vein(folder: Path) -> Image.Image:
    """A phantom's inferior vena cava over a breath, measured from the phantom's own points."""
    order = Order(scene="cava", seed=SEED, patient=1, item=0, size=320, frames=None)
    item, (scene, machine) = render(order), staged(order)
    path = write_video(folder / "cava.mp4", item.frames, fps=scene.fps)
    scale = Spacing(row_mm=machine.screen.mm_per_px, col_mm=machine.screen.mm_per_px)
    predictions = []
    for number in range(len(item.frames)):
        places = scene.truth(number / scene.fps).points_mm
        points = np.array([machine.screen.seen_px(*place) for place in places.values()])
        meta = Meta(item_id="phantom", original_hw=item.frames.shape[1:3], spacing=scale, frame=number)
        predictions.append(Prediction(
            task="IVC", kind="keypoints", meta=meta, value=points, confidence=np.ones(2), names=tuple(places),
            measurements=measure(MEASURED["IVC"], points, scale),
        ))  # fmt: skip
    said = said_about(path, predictions, Known())
    print(
        "IVC", ", ".join(told(*one) for one in said.quantities.items()), "| truth", scene.truth(0.0).columns
    )
    marked = Marked(
        points_set="IVC", points_xy=said.shown.value, confidence=np.ones(2), spacing=scale,
        measurements=said.shown.measurements,
    )  # fmt: skip
    frame = Image.fromarray(item.frames[said.shown.meta.frame])
    overlay = draw_marked(frame, marked, footer="phantom, its own points · research use only")
    return beside([overlay, trace_of(path, said, probe(path))])


def real(hc18: Path, folder: Path) -> Image.Image:
    """A real head with the axes of its annotated ellipse."""
    manifest = ADAPTERS["hc18_landmarks"](hc18, folder / "hc18")
    row = manifest.rows[REAL_ROW]
    mask = read_frames(manifest.file(row, "mask_path"))[0] > 0
    ends = ellipse_ends(mask & ~ndimage.binary_erosion(mask, border_value=1))
    points = np.reshape(point_columns("HC", ends)["keypoints"], (4, 2))
    found = measure(MEASURED["HC"], points, spacing(row))
    marked = Marked(
        points_set="HC", points_xy=points, confidence=np.ones(4), spacing=spacing(row),
        measurements=found | centiles(found, REAL_WEEKS),
    )  # fmt: skip
    image = Image.fromarray(read_frames(manifest.file(row))[0])
    print("HC18", row["path"], ", ".join(told(*one) for one in found.items()), "| told", row["hc_mm"])
    return draw_marked(image, marked, footer="HC18 (CC BY 4.0), its own annotation · research use only")


def spacing(row) -> Spacing:
    return Spacing(row_mm=row["spacing_row_mm"], col_mm=row["spacing_col_mm"])


def beside(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one height, side by side."""
    scaled = [p.resize((round(p.width * HEIGHT_PX / p.height), HEIGHT_PX)) for p in pictures]
    sheet = Image.new("RGB", (sum(p.width for p in scaled) + 8 * (len(scaled) - 1), HEIGHT_PX), (90, 90, 90))
    left = 0
    for picture in scaled:
        sheet.paste(picture, (left, 0))
        left += picture.width + 8
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nine", type=Path)
    parser.add_argument("hc18", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sheets = {
            "predict_fetus": fetus(load(asked.nine), folder),
            "predict_vein": vein(folder),
            "predict_head": real(asked.hc18, folder),
        }
        for name, sheet in sheets.items():
            buffer = io.BytesIO()
            sheet.convert("RGB").save(buffer, "JPEG", quality=QUALITY)
            atomic_write(asked.out / f"{name}.jpg", buffer.getvalue())


if __name__ == "__main__":
    main()
