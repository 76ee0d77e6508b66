"""The folder of SONICHU's model card: written from a model of ours, and used as the card says.

    config.json, preprocessor_config.json, model.safetensors, README.md   what the card's folder has
    modeling_sonichu.py, inference.py                                     the card's two files: they call this

`SonichuModel` and `SonichuPreprocessor` read that folder and our own model folders alike, and so does
`insonate.load`. Only the card was public: names inside the files are ours. Points are (x, y) in 0 … 1 of the
picture's edges, in the challenge's order: times [width, height] they are pixels from the picture's corner;
ours are from the middle of its first pixel, half a pixel less. Source: the model card of SONICHU-124M.
Shapes: B pictures, C channels, H W input, K points, h w cells.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from insonate.data import Batch, InputFormat, Meta, prepare
from insonate.data.pointorders import INTERNAL, OFFICIAL, to_official
from insonate.errors import InsonateError, ModelError
from insonate.files import Content, atomic_write_all, write_folder
from insonate.hub.calibration import FIELD, told
from insonate.hub.card import model_card
from insonate.hub.config import CARD, CONFIG, PREPROCESSOR, WEIGHTS, read_config
from insonate.hub.model import Model, load
from insonate.hub.official import write_official
from insonate.hub.plain import to_json
from insonate.measure.points import MEASURED
from insonate.models.heatmaps import probabilities, soft_argmax, variance
from insonate.tasks.biometry import Biometry

MODELING, INFERENCE = "modeling_sonichu.py", "inference.py"
CODE = {
    MODELING: '''"""The two classes of the model card; insonate does the work: pip install insonate."""

from insonate.hub.sonichu import SonichuModel, SonichuPreprocessor

__all__ = ["SonichuModel", "SonichuPreprocessor"]
''',
    INFERENCE: '''"""python inference.py IMAGE TASK [--no-tta] [--out overlay.png] [--json]"""

from pathlib import Path

from insonate.hub.sonichu import main

if __name__ == "__main__":
    raise SystemExit(main(Path(__file__).parent))
''',
}
USE = """
## Use as the card of SONICHU says

```python
import cv2
from modeling_sonichu import SonichuModel, SonichuPreprocessor

model, prep = SonichuModel.from_pretrained("."), SonichuPreprocessor.from_pretrained(".")
inputs = prep(cv2.cvtColor(cv2.imread("image.png"), cv2.COLOR_BGR2RGB))
points = model.predict(inputs["pixel_values"], task="{task}", tta=True)  # 1 K 2 in 0 … 1, x first
points_px = points[0].numpy() * [inputs["orig_w"], inputs["orig_h"]]
```
"""


class Extras(NamedTuple):
    """What `SonichuModel.predict` knows besides."""

    points: Tensor  # B K 2 in 0 … 1
    confidence: Tensor  # B K, raw; 0 where the map has no peak
    spread: Tensor  # B K, standard deviation of the straight view's map, in pictures' sizes
    maps: Tensor  # B K h w, logits of the straight view


class SonichuModel(nn.Module):
    """The model of the card around one of ours with the task `biometry`."""

    def __init__(self, model: Model) -> None:
        """Wrap a model.

        Raises:
            ModelError: its task is another.
        """
        super().__init__()
        if not isinstance(model.task, Biometry):
            raise ModelError("SonichuModel", "the model's task is not biometry", "Give a model of point sets")
        self.task: Biometry = model.task
        self.eval()

    @classmethod
    def from_pretrained(cls, folder: Path | str, map_location: str = "cpu") -> Self:
        """From the card's folder or one of ours, in eval mode.

        Raises:
            InsonateError: see `insonate.load`.
        """
        return cls(load(folder, device=map_location))

    def forward_features(self, pixel_values: Tensor) -> Tensor:
        """Pictures B 3 H W → patch tokens B N D."""
        return self.task.backbone(pixel_values).patch

    def forward(self, pixel_values: Tensor, task: str) -> Tensor:
        """Pictures B 3 H W → heat maps B K h w, logits.

        Raises:
            ModelError: there is no such task; all are named.
        """
        return self.task.chosen(self._named(task)).head(self.task.backbone(pixel_values))

    @torch.no_grad()
    def predict(
        self,
        pixel_values: Tensor,
        task: str | Sequence[str],
        *,
        tta: bool = True,
        return_extras: bool = False,
    ) -> Tensor | Extras:
        """Points B K 2 in 0 … 1, x first, in the challenge's order.

        Args:
            pixel_values: B 3 H W, of `SonichuPreprocessor`.
            task: of all pictures, or one a picture; then K is that of the largest, NaN beyond a task's own.
            tta: mean with the mirrored picture.
            return_extras: also confidence, spread and maps; only for a single task.

        Raises:
            ModelError: there is no such task, or not one a picture.
        """
        names = [task] * len(pixel_values) if isinstance(task, str) else list(task)
        if len(names) != len(pixel_values):
            what = f"{len(names)} tasks for {len(pixel_values)} pictures"
            raise ModelError("predict", what, "Give one task, or one a picture")
        batch = _batch(pixel_values, [self._named(name) for name in names])
        outputs = self.task.predict(batch, tta=tta)
        points = self._official(outputs.values, batch)
        if not return_extras:
            return points
        maps = self(pixel_values, self._named(names[0]))
        probs = probabilities(maps)
        spread = variance(probs, soft_argmax(probs)).sqrt()
        return Extras(points, outputs.confidence, spread, maps)

    def _named(self, task: str) -> str:
        known = {name.casefold(): name for name in self.task.choices()}
        return known.get(task.casefold(), task)

    def _official(self, values: Tensor, batch: Batch) -> Tensor:
        """Points from the centre in input pixels → 0 … 1 of the edges, each item in its task's order."""
        size = values.new_tensor(batch["image"].shape[:-3:-1])  # W, H
        for row, meta in enumerate(batch["meta"]):
            name = meta.points_set
            if OFFICIAL.get(name) != INTERNAL.get(name) and name in MEASURED:
                count = len(self.task.sets[name].names)
                put = to_official(values[row, :count].double().cpu().numpy(), name)
                values[row, :count] = torch.from_numpy(put).to(values)
        return values / size + 0.5


class SonichuPreprocessor:
    """Pictures as the model takes them: stretched (no letterbox), grey thrice, normalised."""

    def __init__(self, fmt: InputFormat) -> None:
        self.format = fmt

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> Self:
        """From the card's folder or one of ours.

        Raises:
            ModelError: its `preprocessor_config.json` cannot be read.
        """
        folder = Path(folder)
        path = folder / PREPROCESSOR
        try:
            content = json.loads(path.read_bytes())
            if content.get("image_processor_type") == "insonate":
                return cls(read_config(folder).input.format())
            size = content["size"]
            return cls(
                InputFormat(
                    height=int(size["height"]),
                    width=int(size["width"]),
                    mean=tuple(map(float, content["image_mean"])),
                    std=tuple(map(float, content["image_std"])),
                )
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                path, f"cannot be read ({error!r})", "Download or write the folder again"
            ) from None

    def __call__(self, image: np.ndarray | Image.Image) -> dict[str, Any]:
        """A picture H W or H W 3, uint8 or float in 0 … 1 → `pixel_values` 1 3 H W, `orig_w`, `orig_h`.

        Raises:
            ModelError: it is float and out of 0 … 1.
            MediaError: it is no such picture.
        """
        picture = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
        if np.issubdtype(picture.dtype, np.floating):
            if not (
                np.isfinite(picture).all() and picture.min(initial=0) >= 0 and picture.max(initial=0) <= 1
            ):
                raise ModelError("picture", "is of floats out of 0 … 1", "Give uint8, or floats in 0 … 1")
            picture = (picture * 255).round().astype(np.uint8)
        pixels, _ = prepare(picture, self.format)
        return {
            "pixel_values": pixels.as_subclass(Tensor)[None],
            "orig_w": int(picture.shape[1]), "orig_h": int(picture.shape[0]),
        }  # fmt: skip


def write_card_folder(model: Model, folder: Path) -> Path:
    """Write the card's folder; it is read again and compared before anything is put there.

    Args:
        model: with the task `biometry` and a whole head a task, on a plain ViT of ImageNet's convention.
        folder: new, or of an earlier write.

    Raises:
        ModelError: the folder cannot say what this model is: it would come back as another one.
    """
    wrapped = SonichuModel(model)
    with tempfile.TemporaryDirectory() as temporary:
        trial = Path(temporary)
        write_official(model, trial / WEIGHTS, "sonichu")
        files: dict[str, Content] = {
            WEIGHTS: (trial / WEIGHTS).read_bytes(),
            CONFIG: to_json(_config(model, wrapped.task)),
            PREPROCESSOR: to_json(_preprocessor(model)),
            CARD: _readme(model, wrapped.task),
            **CODE,
        }
        atomic_write_all({trial / name: content for name, content in files.items() if name != WEIGHTS})
        _check_same(wrapped, trial, model)
    return write_folder(folder, files)


def main(folder: Path, words: Sequence[str] | None = None) -> int:
    """`inference.py`: print the points of a picture in pixels of the original; the exit status."""
    parser = argparse.ArgumentParser(prog=INFERENCE, description="Find the points of a task in a picture.")
    parser.add_argument("image", type=Path)
    parser.add_argument("task")
    parser.add_argument("--no-tta", action="store_true", help="without the mirrored picture")
    parser.add_argument("--out", type=Path, help="write the picture with the points on it")
    parser.add_argument("--json", action="store_true", help="points, confidence and measurements as JSON")
    asked = parser.parse_args(words)
    try:
        found = load(folder).predict(asked.image, task=asked.task, tta=not asked.no_tta)
        first = found[0] if isinstance(found, list) else found
        if asked.out is not None:
            first.draw().save(asked.out)
    except InsonateError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if asked.json:
        sys.stdout.write(json.dumps(first.to_dict()) + "\n")
        return 0
    for name, (x, y), sure in zip(first.names, first.value, first.confidence, strict=True):
        sys.stdout.write(f"{name:<24} x {x:8.2f}  y {y:8.2f}  confidence {sure:.2f}\n")
    sys.stdout.write(f"{first.text()}\n")
    return 0


def _batch(pixel_values: Tensor, names: Sequence[str]) -> Batch:
    height, width = pixel_values.shape[-2:]
    meta = [
        Meta(item_id=f"picture {i}", original_hw=(height, width), points_set=n) for i, n in enumerate(names)
    ]
    return Batch(image=pixel_values, meta=meta, item_seed=[0] * len(names), step_seed=0)


def _config(model: Model, task: Biometry) -> dict[str, Any]:
    options, spec = model.backbone.options, model.backbone.spec
    depth = len(getattr(model.backbone, "blocks", ()))
    return {
        "model_type": "sonichu", "architectures": ["SonichuModel"],
        "image_size": model.input.height, "patch_size": spec.patch[-1], "hidden_size": spec.embed_dim,
        "num_attention_heads": _heads(model), "class_token": False, "num_hidden_layers": depth,
        "pos_embed": options.get("position", "sincos"), "layer_norm_eps": options.get("norm_eps", 1e-6),
        "head": {
            "type": "vitpose_classic", "arrangement": "per_task", "norm": "batch",
            "deconv_filters": [task.config.head_width] * 2, "deconv_kernels": [4, 4],
        },
        "decode": {"method": "soft_argmax", "temperature": 1.0, "cell_centre": True},
        "tasks": {
            name: {
                "num_keypoints": len(one.names), "names": list(one.names), "order": "official",
                "hflip_perm": list(one.hflip),
                "measurements": list(one.measured.names) if one.measured else [],
            }
            for name, one in task.sets.items() if name not in task.config.extra_heads
        },
        "extra_heads": task.config.extra_heads,
        FIELD: told(task),
        "insonate_version": model.config().insonate,
    }  # fmt: skip


def _heads(model: Model) -> int:
    found = (getattr(module, "num_heads", None) for module in model.backbone.modules())
    return next((one for one in found if isinstance(one, int)), 0)


def _preprocessor(model: Model) -> dict[str, Any]:
    return {
        "processor_class": "SonichuPreprocessor",
        "size": {"height": model.input.height, "width": model.input.width}, "resample": "bilinear",
        "antialias": True, "keep_aspect": False, "do_rescale": True, "rescale_factor": 1 / 255,
        "image_mean": list(model.input.mean), "image_std": list(model.input.std), "do_convert_rgb": True,
    }  # fmt: skip


def _readme(model: Model, task: Biometry) -> str:
    numbers = sum(parameter.numel() for parameter in task.parameters())
    config = model.config().model_dump(mode="json")
    return model_card(config, numbers) + USE.format(task=task.choices()[0])


def _check_same(ours: SonichuModel, folder: Path, model: Model) -> None:
    """Compare a model with what its folder gives, on a picture of noise.

    Raises:
        ModelError: they differ.
    """
    where, mend = "layout sonichu", "Keep it as a model folder of ours"
    try:
        again, prep = SonichuModel.from_pretrained(folder), SonichuPreprocessor.from_pretrained(folder)
    except InsonateError as error:
        raise ModelError(where, f"cannot hold this model ({error})", mend) from None
    noise = np.random.default_rng(0).integers(0, 256, (96, 80), dtype=np.uint8)
    pixels = model.preprocess(noise)[0].as_subclass(Tensor)[None]
    if not torch.equal(prep(noise)["pixel_values"], pixels):
        raise ModelError(where, "does not say how this model's pictures are normalised", mend)
    device = next(ours.parameters()).device
    for name in ours.task.choices():
        if not torch.equal(ours(pixels.to(device), name).cpu(), again(pixels, name)):
            raise ModelError(where, f"cannot hold this model: the maps of {name} differ", mend)
