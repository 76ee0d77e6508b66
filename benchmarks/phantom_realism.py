"""How real the phantom looks: the same measures of real and synthetic pictures, side by side.

Run: python benchmarks/phantom_realism.py DATA --work WORK [--patients 100] [--sheet docs/phantom_realism.jpg]
DATA holds camus_4ch, hc18_landmarks, echo_clips and sononet16. WORK takes copies of the first two. Prints the
tables in Markdown; --json FILE keeps the numbers. Tune on `--split train`, report on the default `val,test`.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from realism import decorrelation, levels, outline, sector, speckle, spectrum
from scipy import ndimage

from insonate.data import Manifest
from insonate.data.adapters import ADAPTERS
from insonate.data.media import read_frames
from insonate.files import atomic_write
from insonate.hub import load
from insonate.phantom.cast import ROLES
from insonate.phantom.heart import HeartOrder, render_heart
from insonate.phantom.items import Order, render

REGIONS = {"LV": 1, "muscle": 2, "LA": 3}
SCORED = (
    "grey p5", "grey p25", "grey p50", "grey p75", "grey p95", "grey p99", "spectrum slope",
    "power above .25 %", "LV grey", "muscle grey", "LA grey", "LV residual sd", "muscle residual sd",
    "LV residual skew", "muscle residual skew", "LV envelope SNR", "muscle envelope SNR", "LV Nakagami m",
    "muscle Nakagami m", "LV axial mm", "muscle axial mm", "LV lateral mm", "muscle lateral mm",
)  # fmt: skip
"""what the score of hearts is made of"""
FOUR_CHAMBERS = (
    "sonocrop_0011", "sonocrop_0013", "sonocrop_0014", "sonocrop_0015", "sonocrop_heavy-borders",
    "sonocrop_echo-with-borders", "echotracker_input", "echotracker_input1", "camus_patient0001_2CH",
)  # fmt: skip
SHOWN = ("sonocrop_0011", "sonocrop_0013", "sonocrop_0014", "sonocrop_0015")
"""Apache-2.0"""
TILE = 256


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture, H W, with its regions."""

    patient: str
    image: np.ndarray
    regions: dict[str, np.ndarray]
    mm_per_px: float


def real_shots(data: Path, work: Path, name: str, splits: list[str], most: int) -> list[Shot]:
    """One picture of each patient of the splits; end of diastole and systole take turns."""
    path = work / name / "manifest.parquet"
    manifest = Manifest.read(path) if path.exists() else ADAPTERS[name](data / name, path.parent)
    by_patient: dict[str, list[dict]] = defaultdict(list)
    for row in manifest.rows:
        if row["split"] in splits:
            by_patient[row["patient_id"]].append(row)
    shots = []
    for number, (patient, rows) in enumerate(list(by_patient.items())[:most]):
        row = rows[number % len(rows)]
        image, mask = (read_frames(path.parent / row[column])[0] for column in ("path", "mask_path"))
        regions = _heart_regions(mask) if name == "camus_4ch" else _head_regions(mask)
        shots.append(Shot(patient=patient, image=image, regions=regions, mm_per_px=row["spacing_row_mm"]))
    return shots


def _heart_regions(mask: np.ndarray) -> dict[str, np.ndarray]:
    return {name: mask == value for name, value in REGIONS.items()}


def _head_regions(mask: np.ndarray) -> dict[str, np.ndarray]:
    head = mask > 0
    inner = ndimage.binary_erosion(head, iterations=12)
    return {
        "brain": inner,
        "skull": ndimage.binary_dilation(head, iterations=3) & ~ndimage.binary_erosion(head, iterations=6),
    }


def phantom_hearts(count: int, seed: int) -> list[Shot]:
    """Four chambers of as many patients, without the machine's graphics."""
    shots = []
    for patient in range(count):
        order = HeartOrder(seed=seed, patient=patient, item=0, view="A4C", size=256, clip=False, overlays=0)
        item = render_heart(order)
        shots.append(
            Shot(
                patient=str(patient), image=item.frames[0], regions=_heart_regions(item.masks["mask_path"]),
                mm_per_px=item.row["spacing_row_mm"],
            )
        )  # fmt: skip
    return shots


def phantom_heads(count: int, seed: int, *, soft: bool = True) -> list[Shot]:
    """Fetal heads of as many patients, cut to the shape of the real ones.

    Args:
        count: patients.
        seed: of the phantom.
        soft: the machines' soft setting, which heads have; else the one that other curved scenes have.
    """
    shots = []
    ROLES["head"] = replace(ROLES["head"], soft=soft)
    for patient in range(count):
        item = render(Order(scene="head", seed=seed, patient=patient, item=0, size=400))
        middle = np.nonzero(item.mask)[0].mean() - 135
        top = int(np.clip(middle, 0, 400 - 270))
        image, mask = (picture[top : top + 270] for picture in (item.frames[0], item.mask))
        shots.append(
            Shot(
                patient=str(patient), image=image, regions=_head_regions(mask),
                mm_per_px=float(item.row["spacing_row_mm"]),
            )
        )  # fmt: skip
    return shots


def measured(shot: Shot) -> dict[str, float]:
    """All measures of a picture."""
    field = sector(shot.image)
    found = levels(shot.image, field) | spectrum(shot.image) | outline(field)
    for name, region in shot.regions.items():
        own = speckle(shot.image, region & field, shot.mm_per_px)
        found |= {f"{name} {measure}": value for measure, value in own.items()}
        found[f"{name} / field"] = float((region & field).sum() / field.sum())
    return found


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measure of both groups: 10th, 50th, 90th percentile of patients."""

    real: tuple[float, float, float]
    phantom: tuple[float, float, float]
    away: float
    """difference of the medians in standard deviations of the real ones"""


def compared(real: list[dict[str, float]], made: list[dict[str, float]]) -> dict[str, Row]:
    """By measure."""
    rows = {}
    for name in real[0]:
        first, second = (np.array([one[name] for one in group if name in one]) for group in (real, made))
        first, second = first[np.isfinite(first)], second[np.isfinite(second)]
        if not len(first) or not len(second):
            continue
        away = (np.median(second) - np.median(first)) / max(float(first.std()), 1e-9)
        rows[name] = Row(real=_spread(first), phantom=_spread(second), away=float(away))
    return rows


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    low, middle, high = (float(v) for v in np.percentile(values, [10, 50, 90]))
    return low, middle, high


def score(rows: dict[str, Row]) -> float:
    """Mean of the distances of the medians, each at most 4 standard deviations."""
    return float(np.mean([min(abs(rows[name].away), 4) for name in SCORED if name in rows]))


def features(shots: list[Shot], encoder: torch.nn.Module, crop: int | None) -> np.ndarray:
    """Shots × channels: mean and deviation over places of a frozen encoder's tokens.

    Args:
        shots: the pictures.
        encoder: frozen.
        crop: of the middle of the field, so that no outline tells; None takes the whole picture.
    """
    height, width = encoder.spec.input_size
    found = []
    for shot in shots:
        image = shot.image
        if crop is not None:
            middle = ndimage.center_of_mass(sector(image))
            top, left = (
                int(np.clip(place - crop / 2, 0, length - crop))
                for place, length in zip(middle, image.shape, strict=True)
            )
            image = image[top : top + crop, left : left + crop]
        resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
        picture = torch.from_numpy(resized.astype(np.float32))[None, None].expand(1, 3, -1, -1)
        with torch.inference_mode():
            tokens = encoder(picture).patch[0]
        found.append(torch.cat([tokens.mean(0), tokens.std(0)]).numpy())
    return np.stack(found)


def separation(real: np.ndarray, made: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Area under the curve of a logistic classifier on held-out patients, with its 95 % interval."""
    x = np.concatenate([real, made])
    y = np.r_[np.zeros(len(real)), np.ones(len(made))]
    rng = np.random.default_rng(seed)
    fold, told = rng.permutation(len(x)) % 5, np.empty(len(x))
    for number in range(5):
        train = fold != number
        mean, deviation = x[train].mean(0), x[train].std(0) + 1e-6
        told[~train] = _logistic((x[train] - mean) / deviation, y[train], (x[~train] - mean) / deviation)
    areas = []
    for _ in range(1000):
        a, b = (rng.choice(told[y == group], int((y == group).sum())) for group in (0, 1))
        areas.append(_area(a, b))
    low, high = np.percentile(areas, [2.5, 97.5])
    return _area(told[y == 0], told[y == 1]), float(low), float(high)


def _logistic(x: np.ndarray, y: np.ndarray, asked: np.ndarray) -> np.ndarray:
    weight = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    inputs, target = (torch.from_numpy(a.astype(np.float64)) for a in (np.c_[x, np.ones(len(x))], y))
    optimiser = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(inputs @ weight, target)
        loss = loss + 0.01 * (weight[:-1] ** 2).sum()
        loss.backward()
        return loss

    optimiser.step(step)
    return np.c_[asked, np.ones(len(asked))] @ weight.detach().numpy()


def _area(negative: np.ndarray, positive: np.ndarray) -> float:
    higher = positive[:, None] - negative[None]
    return float((higher > 0).mean() + 0.5 * (higher == 0).mean())


def clips_real(data: Path, names: tuple[str, ...] = FOUR_CHAMBERS) -> Iterator[np.ndarray]:
    """T H W, grey, at the height that phantoms have."""
    for name in names:
        frames = read_frames(data / "echo_clips" / "mp4" / f"{name}.mp4")[:40]
        frames = frames if frames.ndim == 3 else frames[..., 1]
        yield np.stack([_fitted(frame) for frame in frames])


def clips_phantom(count: int, seed: int) -> Iterator[np.ndarray]:
    """T H W of one beat, of those with the frame rate of the real ones."""
    patient = 0
    while count:
        order = HeartOrder(seed=seed, patient=patient, item=0, view="A4C", size=TILE, clip=True, overlays=0)
        item, patient = render_heart(order), patient + 1
        if 20 <= item.row["fps"] <= 30:
            count -= 1
            yield item.frames


def _fitted(image: np.ndarray) -> np.ndarray:
    height, width = image.shape
    size = round(width * TILE / height), TILE
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def in_time(clips: Iterator[np.ndarray]) -> list[dict[str, float]]:
    """How the speckle of each clip lasts."""
    rng = np.random.default_rng(0)
    return [decorrelation(frames, rng) for frames in clips]


def table(title: str, rows: dict[str, Row]) -> str:
    """Markdown."""
    lines = [f"| {title} | real | phantom | away, sd |", "|---|---|---|---|"]
    for name, row in rows.items():
        lines.append(f"| {name} | {_told(row.real)} | {_told(row.phantom)} | {row.away:+.1f} |")
    return "\n".join(lines)


def _told(values: tuple[float, float, float]) -> str:
    low, middle, high = (f"{value:.3g}" for value in values)
    return f"{middle} ({low} – {high})"


def sheet(path: Path, data: Path, heads: list[Shot], hearts: list[Shot]) -> None:
    """Real pictures whose licence allows it above synthetic ones."""
    real = [frames[10] for frames in clips_real(data, SHOWN)]
    rows = [
        ("real (sonocrop, Apache-2.0)", real),
        ("synthetic", [shot.image for shot in hearts]),
        ("real (HC18, van den Heuvel, CC BY 4.0)", [shot.image for shot in heads[: len(heads) // 2]]),
        ("synthetic", [shot.image for shot in heads[len(heads) // 2 :]]),
    ]
    width = 4 * 340
    whole = Image.new("L", (width, len(rows) * TILE))
    draw = ImageDraw.Draw(whole)
    for number, (title, images) in enumerate(rows):
        for column, image in enumerate(images[:4]):
            tile = Image.fromarray(image)
            tile.thumbnail((336, TILE - 4))
            whole.paste(tile, (column * 340 + (340 - tile.width) // 2, number * TILE))
        draw.text((4, number * TILE + 2), title, fill=255)
    whole.save(path, quality=82)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--split", default="val,test")
    parser.add_argument("--patients", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    splits, count = options.split.split(","), options.patients
    groups = {
        "hearts, four chambers": (
            real_shots(options.data, options.work, "camus_4ch", splits, count),
            phantom_hearts(count, options.seed),
        ),
        "fetal heads": (
            real_shots(options.data, options.work, "hc18_landmarks", splits, count),
            phantom_heads(count, options.seed),
        ),
    }
    real, made = groups["fetal heads"][0], phantom_heads(count, options.seed, soft=False)
    rows = compared([measured(shot) for shot in real], [measured(shot) for shot in made])
    print(f"\n{table('fetal heads, by the setting of other curved scenes', rows)}\n")
    told: dict[str, object] = {"fetal heads, not soft": {name: asdict(row) for name, row in rows.items()}}
    encoder = load(options.data / "sononet16" / "SonoNet16.pth").backbone.eval()
    for name, (real, made) in groups.items():
        rows = compared([measured(shot) for shot in real], [measured(shot) for shot in made])
        print(f"\n{table(f'{name}: {len(real)} and {len(made)} patients', rows)}\n")
        told[name] = {measure: asdict(row) for measure, row in rows.items()}
        if name.startswith("hearts"):
            told["score"] = score(rows)
            print(f"score {told['score']:.2f}")
        for crop in (None, 96):
            area, low, high = separation(*(features(shots, encoder, crop) for shots in (real, made)))
            told[f"{name}, classifier, crop {crop}"] = [area, low, high]
            part = "whole" if crop is None else f"middle {crop} px"
            print(f"classifier, {part}: {area:.3f} ({low:.3f} – {high:.3f})")
    rows = compared(
        in_time(clips_real(options.data)), in_time(clips_phantom(len(FOUR_CHAMBERS), options.seed))
    )
    print(f"\n{table('correlation of speckle over frames', rows)}")
    told["time"] = {measure: asdict(row) for measure, row in rows.items()}
    if options.sheet:
        heads = [*groups["fetal heads"][0][4:24:5], *groups["fetal heads"][1][:4]]
        sheet(options.sheet, options.data, heads, groups["hearts, four chambers"][1])
    if options.json:
        atomic_write(options.json, json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
