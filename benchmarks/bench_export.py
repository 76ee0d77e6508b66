"""Exported graphs beside torch in fp32, one picture, one thread: fp32 and int8 on OpenVINO and onnxruntime.

Run: python benchmarks/bench_export.py --size toy (TinyUSFM's ViT at 224 px) or real (ViT-B/16 at 256 px),
each with a head of four points. Weights are random and int8 is calibrated on noise, so its largest difference
is shown, not judged: `insonate export --int8` judges by the task's score. Equality of fp32: 0.01 px.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from compare import Sides, main_rows

from insonate.deploy.export import export
from insonate.deploy.quantise import calibrated
from insonate.deploy.runtime import Exported
from insonate.hub import Model
from insonate.models import build_backbone
from insonate.tasks import build_task

BACKBONES = {"toy": {"name": "tinyusfm"}, "real": {"name": "vit_base", "input_size": [256, 256]}}
PICTURES = 32
LARGEST_INT8_PX = 64.0
"""of random weights on noise: only that nothing is broken"""


def exported(options: argparse.Namespace, to: str, *, int8: bool) -> Sides:
    backbone = build_backbone(BACKBONES[options.size])
    task = build_task(backbone, {"name": "keypoints", "column": "points_xy", "points": "HC"})
    model = Model(backbone, task.eval())
    folder = Path(tempfile.mkdtemp()) / "model"
    export(model, folder, to=to)
    height, width = backbone.spec.input_size
    pictures = [torch.randn(1, 3, height, width).numpy() for _ in range(PICTURES)]
    if int8:
        calibrated(folder, to, pictures)
    ours, x = Exported(folder, threads=options.threads), torch.from_numpy(pictures[0])
    batch = {"image": x, "meta": [], "item_seed": [], "step_seed": 0}
    return Sides(
        ours=lambda: ours.run(pictures[0]),
        reference=lambda: quiet(task, batch),
        difference=lambda: float(
            np.abs(ours.run(pictures[0])["points_xy.values"] - quiet(task, batch).values.numpy()).max()
        ),
        tolerance=LARGEST_INT8_PX if int8 else 1e-2,
        items=1,
        about="torch in fp32, in inference mode",
    )


@torch.inference_mode()
def quiet(task, batch):
    return task.predict(batch)


if __name__ == "__main__":
    main_rows(
        "export",
        {
            "export_onnx": partial(exported, to="onnx", int8=False),
            "export_openvino": partial(exported, to="openvino", int8=False),
            "export_onnx_int8": partial(exported, to="onnx", int8=True),
            "export_openvino_int8": partial(exported, to="openvino", int8=True),
        },
    )
