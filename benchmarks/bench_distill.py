"""Five teachers' target of a batch: exported (fp32, int8) and from a cache, against five passes in torch.

Run: python benchmarks/bench_distill.py --size toy [--json OUT]. Needs openvino and nncf (extra export).
INSONATE_TEACHERS names a folder with trained model folders (`r1/model`, …, as `insonate claims sonichu`
leaves them) and INSONATE_MANIFEST the manifest of their pictures. Without them teachers are untrained and
pictures noise: int8 is then timed, but not held to its tolerance, for such maps have no peak to move.
Difference: of the fused points, in px of a picture of 256; the largest for exact rows, the mean for int8.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import torch
from compare import Sides, main_rows
from torch import Tensor, nn

from insonate.data import Batch, Loader, Manifest, ManifestDataset, Meta
from insonate.hub import load
from insonate.models import build_backbone
from insonate.models.heatmaps import probabilities, soft_argmax
from insonate.recipes.build import input_format
from insonate.tasks import build_task
from insonate.tasks.ensemble import median_points
from insonate.tasks.keypoints import FRAME_PX, Keypoints
from insonate.tasks.teachers import CachedTeachers, OnlineTeachers, seen_points

COUNT, IMAGES = 5, 8
CALIBRATION = 12
"""batches that int8 is calibrated on"""
SIZES = {
    "toy": {"name": "vit", "width": 192, "depth": 4, "heads": 3, "input_size": [128, 128]},
    "real": {"name": "vit", "width": 384, "depth": 12, "heads": 6, "input_size": [224, 224]},
}
INT8_PX = 0.3
TRAINED, PICTURES = (os.environ.get(name) for name in ("INSONATE_TEACHERS", "INSONATE_MANIFEST"))


class Points(nn.Module):
    """A teacher as a function of pictures: B C H W → B K 2, in picture sizes from the centre."""

    def __init__(self, task: Keypoints) -> None:
        super().__init__()
        self.task = task

    def forward(self, image: Tensor) -> Tensor:
        """The expected places."""
        return soft_argmax(probabilities(self.task.head(self.task.backbone(image))))


@cache
def teachers(size: str) -> tuple[Keypoints, ...]:
    """Trained ones where there are, each as a task of one set."""
    if TRAINED is not None:
        names = ("r1", "r2", "r3", "selective", "balanced")
        folders = [folder for name in names if (folder := Path(TRAINED) / name / "model").is_dir()]
        return tuple(load(folder).task_named("HC").eval() for folder in folders)
    made = []
    for seed in range(COUNT):
        torch.manual_seed(seed)
        task = build_task(build_backbone(SIZES[size]), {"name": "keypoints", "column": "c", "points": "HC"})
        for weight in task.head.parameters():
            weight.data *= 300 if weight.ndim == 4 else 1  # maps with a peak
        made.append(task.eval())
    return tuple(made)


@cache
def batches(size: str) -> tuple[Batch, ...]:
    """Whole pictures, as a cache sees them: the first to be timed, the others to calibrate on."""
    first = teachers(size)[0]
    height, width = first.backbone.spec.input_size
    if PICTURES is not None:
        manifest = Manifest.read(PICTURES)
        dataset = ManifestDataset(
            manifest.select(split="train"), input_format(first.backbone), first.target()
        )
        return tuple(Loader(dataset, IMAGES).epoch(0))[: CALIBRATION + 1]
    torch.manual_seed(0)
    made = []
    for number in range(CALIBRATION + 1):
        metas = [Meta(item_id=f"{number}-{i}", original_hw=(height, width)) for i in range(IMAGES)]
        image = torch.randn(IMAGES, 3, height, width)
        made.append(Batch(image=image, meta=metas, item_seed=[0] * IMAGES, step_seed=0))
    return tuple(made)


@torch.inference_mode()
def in_torch(tasks: Sequence[Keypoints], image: Tensor) -> Tensor:
    return median_points(torch.stack([Points(task)(image) for task in tasks]))


def exported(options: argparse.Namespace, *, int8: bool) -> Callable[[Tensor], Tensor]:
    """All teachers in OpenVINO, as a function of pictures."""
    import openvino

    image = batches(options.size)[0]["image"]
    compiled = []
    for task in teachers(options.size):
        with torch.inference_mode():
            model = openvino.convert_model(Points(task), example_input=image)
        if int8:
            model = quantised(model, options.size)
        hints = {"INFERENCE_NUM_THREADS": options.threads, "PERFORMANCE_HINT": "LATENCY"}
        compiled.append(openvino.compile_model(model, "CPU", hints | {"INFERENCE_PRECISION_HINT": "f32"}))

    def run(image: Tensor) -> Tensor:
        given = image.numpy()
        return median_points(torch.stack([torch.from_numpy(one(given)[0]) for one in compiled]))

    return run


def quantised(model, size: str):
    import nncf

    data = nncf.Dataset([one["image"].numpy() for one in batches(size)[1:]])
    return nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=CALIBRATION)


def export(options: argparse.Namespace, *, int8: bool) -> Sides:
    tasks, image = teachers(options.size), batches(options.size)[0]["image"]
    run = exported(options, int8=int8)

    def difference() -> float:
        apart = FRAME_PX * (run(image) - in_torch(tasks, image)).norm(dim=-1)
        return float(apart.mean() if int8 else apart.max())

    return Sides(
        ours=lambda: run(image),
        reference=lambda: in_torch(tasks, image),
        difference=difference,
        tolerance=(INT8_PX if TRAINED else math.inf) if int8 else 1e-2,
        items=IMAGES,
        about="five passes in torch, fp32",
    )


def cached(options: argparse.Namespace) -> Sides:
    tasks, batch = teachers(options.size), batches(options.size)[0]
    online = OnlineTeachers(tasks, median_points)
    sets = {"": tasks[0].target()}
    known = CachedTeachers(seen_points(online, batch, sets), sets, median_points)
    size = torch.tensor(batch["image"].shape[:-3:-1])
    return Sides(
        ours=lambda: known(batch),
        reference=lambda: in_torch(tasks, batch["image"]),
        difference=lambda: (
            FRAME_PX * float(((known(batch).points - online(batch).points) / size).abs().nan_to_num().max())
        ),
        tolerance=1e-2,
        items=IMAGES,
        about="five passes in torch, fp32",
    )


if __name__ == "__main__":
    rows = {"distill_cached": cached}
    if find_spec("openvino") and find_spec("nncf"):
        rows |= {"distill_exact": partial(export, int8=False), "distill_int8": partial(export, int8=True)}
    else:
        print("openvino or nncf is not installed (extra export): the exported rows are left out")
    suffix = "_trained" if TRAINED else ""  # the floors are of the untrained ones, whose size is known
    main_rows("distill", {row + suffix: build for row, build in rows.items()})
