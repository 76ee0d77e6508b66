"""Model: a backbone, its task where it has one, and how media become its input.

A model folder holds `config.json` (registry names and options, input format, provenance),
`preprocessor_config.json`, `model.safetensors` and `README.md`: all that loading needs, and no code.
Shapes: T frames, C channels, H W pixels, B items, N patches, D channels of a token.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import insonate
from insonate import weights
from insonate.data import prepare
from insonate.data.sample import Batch, Matrix, Meta
from insonate.errors import ModelError, RecipeError, WeightsError, choose
from insonate.files import Content, write_folder
from insonate.hub.card import model_card
from insonate.hub.config import (
    CARD,
    CONFIG,
    MEND,
    PREPROCESSOR,
    WEIGHTS,
    InputConfig,
    ModelConfig,
    read_config,
)  # fmt: skip
from insonate.hub.frames import Media, clips_of, frame_of, frames_of
from insonate.hub.official import from_official, is_official
from insonate.hub.part_tasks import PROBE, check_single, names_of, read_probe, study_task, task_of
from insonate.hub.plain import plain, to_json
from insonate.hub.remote import HUB_ID, HubApi, default_api, find, hub_errors
from insonate.models import BACKBONES, Backbone, LoadReport, build_backbone, build_part, resolve
from insonate.tasks import build_task
from insonate.tasks.base import Prediction, Task

LARGEST_NUMBERS = 3_000_000_000
"""parameters and buffers of a model folder, together"""
LARGEST_TABLE, WIDEST = 2**26, 1408
"""tokens × channels of a position table; channels of the widest named backbone"""
BATCH = 16
Parts = dict[str, tuple[dict[str, Any], nn.Module]]
"""name → options and module"""


class Model:
    """What `insonate.load` returns and a training run leaves behind.

    Args:
        backbone: the encoder.
        task: the task around it; without one the model only embeds.
        parts: what else came with an official encoder (predictor, decoder, text tower): name → its options
            and module.
        info: where it comes from: `recipe`, `data` (items, patients, sites, synthetic), `metrics`, `license`.
    """

    def __init__(
        self,
        backbone: Backbone,
        task: Task | None = None,
        info: Mapping[str, Any] | None = None,
        parts: Mapping[str, tuple[dict[str, Any], nn.Module]] | None = None,
    ) -> None:
        self.backbone, self.task, self.info = backbone, task, dict(info or {})
        self.parts = dict(parts or {})
        self.report: LoadReport | None = None
        """what became of the tensors of an official checkpoint"""
        self.probe_report: LoadReport | None = None
        """the same of the probe that was given beside it"""
        spec = backbone.spec
        self.input = InputConfig(
            height=spec.input_size[0], width=spec.input_size[1], channels=spec.channels,
            mean=spec.mean, std=spec.std, resize=spec.resize, interpolation=spec.interpolation,
            margin=spec.margin, standardise=spec.standardise, frames=spec.frames, stride=spec.stride,
        )  # fmt: skip
        self.format = self.input.format()

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.backbone.parameters()).device

    def to(self, device: str | torch.device) -> Self:
        """Move it; returns itself."""
        self._whole().to(device)
        return self

    def preprocess(self, image: np.ndarray) -> tuple[Tensor, Matrix]:
        """Image HW or HWC, uint8 → model input C H W, and the matrix original → input pixels."""
        return prepare(image, self.format)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names that `predict` takes: of its own task (the column, or its sets), and of its parts' tasks."""
        own = () if self.task is None else self.task.choices()
        return own + names_of(self.parts)

    def task_named(self, name: str | None) -> Task:
        """The task of a name (one of `tasks`, in upper or lower case); for none its own, or the only one.

        Raises:
            ModelError: there is none, not this one, or more than one.
        """
        names = self.tasks
        if not names:
            raise ModelError(
                self._name(), "has no task, it only embeds", "Use `embed`, or train a task on it first"
            )
        own = () if self.task is None else self.task.choices()
        if name is None and len(own or names) > 1:
            raise ModelError(self._name(), f"has the tasks {', '.join(names)}", "Say task=NAME")
        wanted = names[0] if name is None else name
        found = next((one for one in names if one.casefold() == wanted.casefold()), None)
        if found is None:
            raise ModelError(self._name(), f"no task is called {name!r}", choose(wanted, names))
        if self.task is not None and found in own:
            return self.task.chosen(found)
        return task_of(found, self.backbone, self.parts).to(self.device)

    def predict(
        self, media: Media | Sequence[Media], *, tta: bool = True, task: str | None = None
    ) -> Prediction | list[Any]:
        """What the task says about media.

        Args:
            media: a path (image, video, DICOM), an array HW or HWC or T H W C (uint8), a PIL image, or a
                list of those.
            tta: average with the mirrored image, where the task does so.
            task: one of `tasks`; needed where there are several.

        Returns:
            A `Prediction` in the units of the original; for several frames (or clips, whose first frame it
            names), a list with one for each; for a list, a list with the result of each entry.

        Raises:
            ModelError: see `task_named`; or `media` is nothing of the above.
        """
        if isinstance(media, list | tuple):
            return [self.predict(one, tta=tta, task=task) for one in media]
        predictions = list(self.stream(media, tta=tta, task=task))  # type: ignore[arg-type]
        return predictions[0] if len(predictions) == 1 else predictions

    def stream(self, media: Media, *, tta: bool = True, task: str | None = None) -> Iterator[Prediction]:
        """The prediction of each frame of one medium, as `predict`, as it is made.

        Raises:
            ModelError: see `predict`.
        """
        chosen = self.task_named(task)
        check_single(chosen)
        for batch in self._batches(media):
            for prediction in _predicted(chosen, batch, tta=tta):
                yield replace(prediction, drawer=partial(_drawn, chosen, media))

    def predict_study(self, media: Sequence[Media | None], *, task: str = PROBE) -> Prediction:
        """What a probe says of the clips of one study together.

        Args:
            media: the clips, view by view; None for a missing one. Of each medium the first clip is taken.
            task: name of the probe.

        Raises:
            ModelError: there is no such probe, or it has another number of clips.
        """
        chosen = self.task_named(task)
        batches = [None if one is None else _first_of(next(self._batches(one))) for one in media]
        with torch.inference_mode():
            tokens = [
                None if one is None else chosen.backbone(one["image"]).patch for one in batches
            ]  # 1 N D
            chosen = study_task(chosen, tokens)
        batch = next(one for one in batches if one is not None)
        return _predicted(chosen, batch, tta=False)[0]

    def embed(self, media: Media) -> np.ndarray:
        """T D: for each frame (or clip) of one medium the mean of its patch tokens."""
        rows = []
        for batch in self._batches(media):
            with torch.inference_mode():
                tokens = self.backbone(batch["image"]).patch  # B N D
                rows.append(tokens.mean(1).float().cpu().numpy())  # B D
        return np.concatenate(rows)  # T D

    def save_pretrained(
        self, folder: Path | str, *, storage: Literal["float32", "float16"] = "float32"
    ) -> Path:
        """Write the model folder; an earlier save in it is replaced as a whole, or stays, whatever fails.

        Where `files.write_folder` has to write the files one by one, the config is the last: should a fault
        fall between, loading refuses the folder until it is saved again.

        Args:
            folder: where to.
            storage: of the real numbers; from 16 bits, half the size, loading makes 32 again, rounded.

        Returns:
            The folder.

        Raises:
            ModelError: a number is too large for 16 bits.
        """
        from safetensors.torch import save

        whole = self._whole()
        state = {
            name: tensor.detach().cpu().contiguous().clone() for name, tensor in whole.state_dict().items()
        }
        if storage == "float16":
            state = {name: _halved(name, tensor) for name, tensor in state.items()}
        stored = save(state, metadata={"format": "pt"})
        config = self.config().model_dump(mode="json")
        config["weights_sha256"] = hashlib.sha256(stored).hexdigest()
        files: dict[str, Content] = {
            WEIGHTS: stored,
            PREPROCESSOR: to_json(self.input.preprocessor()),
            CARD: model_card(config, _numbers(whole.parameters())),
            CONFIG: to_json(config),
        }
        return write_folder(folder, files)

    def config(self) -> ModelConfig:
        """What `config.json` holds."""
        return ModelConfig(
            insonate=insonate.__version__,
            backbone=plain(self.backbone.options),
            task=None if self.task is None else self.task.config.model_dump(mode="json"),
            parts={name: plain(options) for name, (options, _) in self.parts.items()},
            input=self.input,
            info=plain(self.info),
        )

    def digest(self) -> str:
        """SHA-256 of the names, types and values of all weights: which model it was that said something."""
        hashed = hashlib.sha256()
        for name, tensor in sorted(self._whole().state_dict().items()):
            values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            hashed.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode() + values.numpy().tobytes())
        return hashed.hexdigest()

    def push_to_hub(self, repo_id: str, *, private: bool = True, api: HubApi | None = None) -> str:
        """Send the model folder to the hub as one commit.

        Args:
            repo_id: owner/name; made where it is missing.
            private: of a repository that is made now.
            api: instead of `huggingface_hub.HfApi()`, which takes the user's own login.

        Returns:
            The repository id.

        Raises:
            ModelError: the id is none, the hub cannot be reached, or it refuses.
        """
        if not HUB_ID.fullmatch(repo_id):
            raise ModelError(repo_id, "is no hub id", "Use owner/name")
        with tempfile.TemporaryDirectory() as temporary:
            folder = self.save_pretrained(Path(temporary) / "model")
            with hub_errors(repo_id):
                api = api or default_api()
                api.create_repo(repo_id, private=private, exist_ok=True)
                api.upload_folder(
                    repo_id=repo_id, folder_path=str(folder), commit_message="Model folder of insonate"
                )
        return repo_id

    @classmethod
    def from_pretrained(cls, source: Path | str, *, device: str = "cpu") -> Self:
        """A model from its folder or hub id.

        Raises:
            ModelError: there is no such folder or id, its config is damaged or of unknown parts, or the
                weights are not those that the config was saved with.
        """
        folder = find(source)
        config = read_config(folder)
        path = folder / WEIGHTS
        if not path.is_file():
            raise ModelError(path, "is missing", MEND)
        backbone, task, parts = _build(config, folder)
        info = config.info | ({"revision": folder.name} if not Path(source).exists() else {})
        model = cls(backbone, task, info, parts)
        model.input, model.format = config.input, config.input.format()
        whole = model._whole()
        _check_safetensors(path)
        weights.load_into(whole, weights.read(path), path)
        _check_same_save(path, config)
        whole.eval()
        return model.to(device)

    def _whole(self) -> nn.Module:
        """The module whose state is saved: its tensors' names start with `backbone.`, `head.` or `parts.`."""
        if self.task is not None and not self.parts:
            return self.task
        own = {"backbone": self.backbone} if self.task is None else dict(self.task.named_children())
        parts = nn.ModuleDict({name: module for name, (_, module) in self.parts.items()})
        return nn.ModuleDict({**own, **({"parts": parts} if parts else {})})

    def _name(self) -> str:
        return f"model {self.backbone.options.get('name', '')}"

    def _batches(self, media: Media) -> Iterator[Batch]:
        """The frames of a medium as batches of pictures, or of clips where the model takes clips."""
        self._whole().eval()
        clips = clips_of(frames_of(media), self.input.frames, self.input.stride)
        while chunk := list(itertools.islice(clips, max(BATCH // self.input.frames, 1))):
            prepared = [[self.preprocess(frame) for frame, _ in clip] for clip in chunk]
            image = torch.stack([torch.stack([x.as_subclass(Tensor) for x, _ in clip]) for clip in prepared])
            yield Batch(
                image=(image if self.input.frames > 1 else image[:, 0]).to(self.device),  # B (T) C H W
                meta=[
                    Meta(**facts, original_hw=frame.shape[:2], input_from_original=matrix)
                    for ((frame, facts), *_), ((_, matrix), *_) in zip(chunk, prepared, strict=True)
                ],
                item_seed=[0] * len(chunk),
                step_seed=0,
            )


def _predicted(task: Task, batch: Batch, *, tta: bool) -> list[Prediction]:
    with torch.inference_mode():
        outputs = task.predict(batch, tta=tta)
        outputs = type(outputs)(*(part.cpu() for part in outputs))
        return task.decode(outputs, _on(batch, "cpu"))


def _first_of(batch: Batch) -> Batch:
    return Batch(**{**batch, "image": batch["image"][:1], "meta": batch["meta"][:1], "item_seed": [0]})


def _drawn(task: Task, media: Media, prediction: Prediction) -> Image.Image:
    picture = frame_of(media, prediction.meta.frame)
    return task.draw(Image.fromarray(picture).convert("RGB"), prediction)


def load(source: Path | str, *, device: str = "cpu", **given: Any) -> Model:
    """A model from a local folder, an official checkpoint of a known family, or else from the hub.

    Args:
        source: a model folder, a weights file, a folder with one, the name of a model that came with the
            package (`shipped.py`), or a hub id.
        device: where to.
        given: what is known of an official checkpoint and not in it: `family`, `heads`, `input_size`, …
            (docs/models/index.md); `probe`, the file of a probe of this encoder, and `probe_…`, what is known
            of that.

    Raises:
        ModelError: see `Model.from_pretrained`.
        WeightsError: an official checkpoint that is not known, not whole, or needs more to be said.
    """
    probe = given.pop("probe", None)
    of_probe = {name: given.pop(name) for name in list(given) if name.startswith("probe_")}
    if of_probe and probe is None:
        raise ModelError(source, f"{', '.join(of_probe)} without a probe", "Give probe=FILE")
    model = _load(source, given)
    if probe is not None:
        known = {name.removeprefix("probe_"): value for name, value in of_probe.items()}
        options, module, report = read_probe(probe, model.backbone, known)
        model.parts[PROBE], model.probe_report = (options, module), report
        model.info["probe"] = {"layout": report.layout, "assumed": list(report.assumed)}
    return model.to(device)


def _load(source: Path | str, given: Mapping[str, Any]) -> Model:
    if not is_official(source):
        if given:
            raise ModelError(
                source, f"is no official checkpoint: {', '.join(given)} means nothing", "Leave it out"
            )
        return Model.from_pretrained(source)
    parts, report = from_official(source, given)
    model = Model(**parts)
    model.report = report
    return model


def _build(config: ModelConfig, folder: Path) -> tuple[Backbone, Task | None, Parts]:
    """The modules of a config, made first without memory to count them.

    Raises:
        ModelError: unknown names or options.
        WeightsError: larger than any model of ours, or much larger than the weights beside it.
    """
    where = folder / CONFIG
    try:
        _check_table(config, where)
        with torch.device("meta"):
            backbone, task, parts = _make(config)
        modules = [task or backbone, *(module for _, module in parts.values())]
        numbers = sum(_numbers(m.parameters()) + _numbers(m.buffers()) for m in modules)
        stored = (folder / WEIGHTS).stat().st_size  # at least one byte a number
        if numbers > min(LARGEST_NUMBERS, 4 * stored + 1_000_000):
            raise WeightsError(where, f"describes {numbers} numbers, {WEIGHTS} has {stored} bytes", MEND)
        return _make(config)
    except RecipeError as error:
        raise ModelError(f"{where}, field {error.where}", error.what, error.mend) from None


def _check_safetensors(path: Path) -> None:
    """Model folders hold no pickles, however harmless: the file must start as safetensors do.

    Raises:
        WeightsError: it does not.
    """
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] != b"{":
        raise WeightsError(path, "is no safetensors file", MEND)


def _check_same_save(path: Path, config: ModelConfig) -> None:
    """Refuse weights beside the config of another save: they fit, but classes and scores are the other's.

    Raises:
        ModelError: the weights have another hash than the config says.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if config.weights_sha256 not in {"", found}:
        raise ModelError(path, f"is not the file that {CONFIG} was saved with", MEND)


def _check_table(config: ModelConfig, where: Path) -> None:
    """Refuse input sizes whose position table, which is computed and not stored, would fill the memory.

    Raises:
        WeightsError: it would.
    """
    options = resolve(BACKBONES, config.backbone)[1]
    height, width = getattr(options, "input_size", (224, 224))
    tokens = (height // getattr(options, "patch", 16)) * (width // getattr(options, "patch", 16))
    tokens *= getattr(options, "frames", 1)
    if tokens * getattr(options, "width", WIDEST) > LARGEST_TABLE:
        raise WeightsError(where, f"describes a backbone of {tokens} tokens", MEND)


def _make(config: ModelConfig) -> tuple[Backbone, Task | None, Parts]:
    backbone = build_backbone(config.backbone)
    task = None if config.task is None else build_task(backbone, config.task)
    return backbone, task, {name: (options, build_part(options)) for name, options in config.parts.items()}


def _numbers(tensors: Iterator[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _halved(name: str, tensor: Tensor) -> Tensor:
    """Real numbers in 16 bits; whole ones as they are.

    Raises:
        ModelError: one is too large for that.
    """
    if not tensor.is_floating_point():
        return tensor
    half = tensor.to(torch.float16)
    if not half.isfinite().all():
        raise ModelError(name, "holds a number above 65504, the largest of 16 bits", "Store it in float32")
    return half


def _on(batch: Batch, device: str) -> Batch:
    return Batch(**{**batch, "image": batch["image"].to(device)})
