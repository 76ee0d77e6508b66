"""What SONICHU's card claims, measured again: `insonate claims sonichu`. Page: docs/claims/sonichu.md.

On the phantom's nine tasks, and on real sets with points where their folder is given, each problem goes the
card's way: I-JEPA on unlabelled frames; a model on the few labels, from that, from a supervised encoder and
from random weights; teachers by self-training under the five regimes; their median, their soup, a distilled
student; each with and without the mirrored view. Beside it: the order of the points, and the leak of a split
by images. There are no ImageNet weights offline: "supervised" is an encoder that learned to tell the views
of the same frames. Arms of a problem have the same number of steps; nothing is chosen on the test patients.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from insonate.data import Manifest
from insonate.data.adapters import ADAPTERS
from insonate.data.fairsplit import split_by_image
from insonate.data.manifest import Row
from insonate.data.pointorders import to_official
from insonate.data.pseudo_labels import HELD_OUT, REGIMES, Regime
from insonate.data.split import patient_place
from insonate.deploy.pseudo_label import pseudo_label
from insonate.errors import InsonateError
from insonate.evaluate.together import training_batches
from insonate.experiments.biometry_arms import (
    Arm,
    Scored,
    centre_guess,
    milliseconds,
    recipe_of,
    scored,
    trained,
    training_items,
)  # fmt: skip
from insonate.experiments.pretraining import say
from insonate.experiments.sonichu_page import page, result
from insonate.files import atomic_write, atomic_write_all
from insonate.hub import Model, ensemble, load, soup_of, to_json
from insonate.phantom import generate

LABELLED = 0.35
"""share of the training patients whose labels are used; the others are the pool of pseudo-labels"""
WHOLE_POOL = 5000
"""pictures of a task in the pool that the regimes' caps are meant for; here they are scaled to our pool"""
TEACHERS = {"r1": "r0", "r2": "r1", "r3": "r2", "selective": "r3", "balanced": "r3"}
"""regime → whose model labels for it"""
ORDERED_SETS = ("A4C", "PSAX")
"""whose official order is not the internal one"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything; see `SMALL`."""

    patients: int
    images: int
    """of each patient, from different places of the probe"""
    input_px: int
    width: int
    depth: int
    pretrain_steps: int
    steps: int
    real_steps: int


TINY = Size(
    patients=252, images=2, input_px=64, width=64, depth=3, pretrain_steps=300, steps=180, real_steps=100
)
SMALL = Size(
    patients=630, images=2, input_px=64, width=64, depth=3, pretrain_steps=900, steps=900, real_steps=200
)
LARGE = Size(
    patients=6300, images=4, input_px=256, width=384, depth=12, pretrain_steps=30_000, steps=15_000,
    real_steps=5000,
)  # fmt: skip
SIZES = {"tiny": TINY, "small": SMALL, "large": LARGE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Labelled pictures with a training and a test split, and what is located in them."""

    name: str
    manifest: Path
    column: str
    task: Mapping[str, Any]
    """options of the task but for the column"""
    steps: int
    synthetic: bool
    regimes: Sequence[str] = tuple(TEACHERS)
    view: str | None = None
    """column of a class that the supervised encoder learns; none = there is none such"""


def run_claims(out: Path, *, size: str = "small", data: Path | None = None, seed: int = 0) -> list[Arm]:
    """Measure everything in `out`; an interrupted run goes on. Leaves `claims.json` and `claims.md` there.

    Args:
        out: folder of data, runs and results.
        size: "tiny", "small" (40 minutes on two cores) or "large" (a GPU).
        data: folder with `hc18_landmarks`, `camus_4ch` and `tongue_keypoints`; none = the phantom alone.
        seed: of the phantom and of every run.

    Raises:
        InsonateError: a step failed; the message names it.
    """
    chosen, start_s = SIZES[size], time.monotonic()
    say(start_s, "phantom")
    problems = [phantom_problem(out / "phantom", chosen, seed)]
    if data is not None:
        problems += real_problems(data, out / "real", chosen)
    arms: list[Arm] = []
    for problem in problems:
        for more in run_problem(problem, chosen, out / problem.name, seed, start_s):
            arms += more
            facts = {"size": size, "seed": seed, "seconds": time.monotonic() - start_s}
            measured = result(arms, facts)
            atomic_write_all({out / "claims.json": to_json(measured), out / "claims.md": page(measured)})
    say(start_s, "done")
    return arms


def phantom_problem(folder: Path, size: Size, seed: int) -> Problem:
    """Nine tasks, a patient shows one; two sevenths of the patients are tested on."""
    path = folder / "manifest.parquet"
    if not path.exists():
        generate(
            folder, kind="biometry", patients=size.patients, images_per_patient=size.images,
            seed=seed, size=128 if size.input_px < 128 else 256, workers=2,
        )  # fmt: skip
    manifest = Manifest.read(path, check_files=False)
    rows = [
        {**row, "split": "train" if row["split"] == "train" else "test", "keypoints": row["keypoints"]}
        for row in manifest.rows if row.get("points_set") and row["keypoints"] is not None
    ]  # fmt: skip
    used = manifest.with_rows(rows).write(folder / "used.parquet")
    sets = sorted({row["points_set"] for row in rows})
    task = {"name": "biometry", "points": sets, "heads": "shared", "head_width": 64}
    return Problem(
        name="phantom", manifest=used, column="keypoints", task=task, steps=size.steps, synthetic=True,
        view="points_set",
    )  # fmt: skip


def real_problems(data: Path, out: Path, size: Size) -> list[Problem]:
    """Heads (HC18), left ventricles (CAMUS, points derived from masks) and tongues, each alone.

    Raises:
        InsonateError: a data set is missing.
    """
    tasks: dict[str, tuple[str, dict[str, Any]]] = {
        "hc18_landmarks": ("keypoints_hc", {"points": "HC"}),
        "camus_4ch": (
            "keypoints_lv",
            {"names": ["apex", "annulus_left", "annulus_right"], "hflip": [0, 2, 1]},
        ),
        "tongue_keypoints": ("keypoints_tongue", {"names": [f"tongue_{i}" for i in range(14)]}),
    }
    problems = []
    for name, (column, points) in tasks.items():
        if not (data / name).is_dir():
            raise InsonateError(data, f"holds no folder {name!r}", f"It needs {', '.join(tasks)}")
        path = out / name / "manifest.parquet"
        if not path.exists():
            ADAPTERS[name](data / name, path.parent)
        manifest = Manifest.read(path, check_files=False)
        rows = [
            {**row, "split": "test" if row["split"] in HELD_OUT else "train"}
            for row in manifest.rows if row[column] is not None
        ]  # fmt: skip
        problems.append(
            Problem(
                name=name,
                manifest=manifest.with_rows(rows).write(path.with_name("used.parquet")),
                column=column,
                task={"name": "keypoints", "head_width": 64, **points},
                steps=size.real_steps,
                synthetic=False,
                regimes=("r1", "r2", "r3"),
            )
        )
    return problems


def run_problem(problem: Problem, size: Size, out: Path, seed: int, start_s: float) -> Iterator[list[Arm]]:
    """All arms of one problem, part by part."""
    run = _Run(problem, size, out, seed, start_s)
    yield run.initialisations()
    yield run.teachers()
    yield run.together()
    yield run.students()
    yield run.splits()
    if problem.column == "keypoints":
        yield run.orders()


class _Run:
    """The steps of one problem, each going on where the last was cut."""

    def __init__(self, problem: Problem, size: Size, out: Path, seed: int, start_s: float) -> None:
        self.problem, self.size, self.out, self.seed, self.start_s = problem, size, out, seed, start_s
        self.whole = Manifest.read(problem.manifest, check_files=False)
        self.labelled = self._few_labels()
        side, width = size.input_px, size.width
        self.backbone: dict[str, Any] = {
            "name": "vit", "width": width, "depth": size.depth, "heads": max(1, width // 32),
            "input_size": [side, side], "patch": 8 if side < 256 else 16, "conventions": "standardised",
        }  # fmt: skip
        self.models: dict[str, Path] = {}

    def initialisations(self) -> list[Arm]:
        """The few labels from three starts; that from I-JEPA is regime 0."""
        starts: dict[str, Path | None] = {"random": None, "ijepa": self._pretrained()}
        if self.problem.view is not None:
            starts["supervised"] = self._supervised()
        arms = []
        for name, weights in starts.items():
            key = "r0" if name == "ijepa" else name
            self.models[key] = self._trained(key, self.labelled, weights=weights)
            arms.append(self._arm("init", key, [key], items=training_items_of(self.labelled, self.problem)))
        guess = centre_guess(load(self.models["r0"]), Manifest.read(self.labelled, check_files=False))
        arms.append(self._line("init", "mean shape", guess))
        everything = self._trained("all-labels", self.problem.manifest, weights=starts["ijepa"])
        self.models["all labels"] = everything
        count = training_items_of(self.problem.manifest, self.problem)
        return [*arms, self._arm("init", "all labels", ["all labels"], items=count)]

    def teachers(self) -> list[Arm]:
        """A model for each regime, from I-JEPA's weights again, on labels and pseudo-labels."""
        arms = []
        for name in self.problem.regimes:
            path = self._pseudo_labelled(name, self.models[TEACHERS[name]])
            self.models[name] = self._trained(name, path, weights=self._pretrained())
            arms.append(self._arm("teacher", name, [name], items=training_items_of(path, self.problem)))
        return arms

    def together(self) -> list[Arm]:
        """Medians of the teachers, and their soup."""
        names = list(self.problem.regimes)
        arms = [self._arm("together", f"median of {len(names)}", names)]
        if len(names) > 4:
            arms.insert(0, self._arm("together", "median of 4", names[:4]))
        arms.append(self._arm("together", "geometric median", names, fuse="geometric"))
        return [*arms, self._arm("together", "soup", names, fuse="soup")]

    def students(self) -> list[Arm]:
        """Distilled from all teachers, whose points are remembered or asked for at every step."""
        path, arms = self._beside("r3"), []
        for name, cache in (("student", str(self.out / "teachers.parquet")), ("student, asked online", None)):
            method = {
                "name": "median_distill", "column": self.problem.column, "student": dict(self.problem.task),
                "teachers": [str(self.models[one]) for one in self.problem.regimes], "cache": cache,
                "check_items": 64, "largest_gap_px": 256.0,
            }  # fmt: skip
            key = name.replace(", ", "-").replace(" ", "-")
            self.models[name] = self._trained(key, path, weights=self._pretrained(), method=method)
            arms.append(self._arm("together", name, [name], items=training_items_of(path, self.problem)))
        return arms

    def splits(self) -> list[Arm]:
        """The same number of training images, split by patient and by image."""
        arms = []
        for name, key, path in (
            ("by patient", "all-labels", self.problem.manifest), ("by image", "by-image", self._by_image())
        ):  # fmt: skip
            model = self._trained(key, path, weights=self._pretrained())
            manifest = Manifest.read(path, check_files=False)
            arms.append(
                self._line(
                    "split", name, scored(load(model), manifest, tta=False),
                    mirrored=scored(load(model), manifest, tta=True),
                    items=training_items_of(path, self.problem),
                )
            )  # fmt: skip
        return arms

    def orders(self) -> list[Arm]:
        """Sets whose official order is not the internal one, learned in either, scored in the official."""
        arms = []
        for name in ORDERED_SETS:
            rows = [row for row in self.whole.rows if row.get("points_set") == name]
            for order in ("internal", "official"):
                path = self._ordered(rows, name, order)
                count = len(rows[0]["keypoints"]) // 2
                task = (
                    {"points": name} if order == "internal"
                    else {"names": [f"{name}_{i}" for i in range(count)]}  # a mirror keeps who is upper
                )  # fmt: skip
                method = {"name": "keypoints", "column": "keypoints", "head_width": 64, **task}
                model = self._trained(
                    f"order-{name}-{order}", path, weights=self._pretrained(), method=method
                )
                found = scored(load(model), Manifest.read(path, check_files=False), tta=False)
                if order == "internal":
                    found = replace(found, errors=found.official)
                arms.append(self._line("order", f"{name}, {order}", found, items=len(rows)))
        return arms

    def _few_labels(self) -> Path:
        """The manifest with the labels of some training patients; the others' are taken away."""
        column, few = self.problem.column, self._some_patients()
        rows = [
            row if row["split"] == "test" or row["patient_id"] in few else {**row, column: None, "split": ""}
            for row in self.whole.rows
        ]
        return self.whole.with_rows(rows).write(self._beside("few"))

    def _some_patients(self) -> set[str]:
        """The same share of the training patients of each task, by a hash."""
        of_tasks: dict[str, set[str]] = {}
        for row in self.whole.rows:
            if row["split"] == "train":
                of_tasks.setdefault(str(row.get("points_set") or ""), set()).add(row["patient_id"])
        return {
            patient
            for patients in of_tasks.values()
            for patient in sorted(patients, key=lambda one: patient_place(one, self.seed))[
                : math.ceil(LABELLED * len(patients))
            ]
        }

    def _pretrained(self) -> Path:
        say(self.start_s, f"{self.problem.name}: I-JEPA")
        method = {
            "name": "ijepa",
            "predictor_depth": 2,
            "predictor_width": self.size.width,
            "ema": [0.99, 1.0],
        }
        if self.size.input_px < 96:
            method |= {"min_keep": 4}
        recipe = recipe_of(
            self.problem.manifest, self.backbone, method, steps=self.size.pretrain_steps,
            items=training_items(self.whole, None), seed=self.seed, lr=2.0e-3,
            augment={"crop_scale": [0.4, 1.0], "hflip": 0.5},
        )  # fmt: skip
        return trained(recipe, self.out / "ijepa")

    def _supervised(self) -> Path:
        column = self.problem.view or ""
        classes = sorted({str(row[column]) for row in self.whole.rows})
        method = {"name": "classification", "column": column, "classes": classes}
        return self._trained(
            "views", self.problem.manifest, weights=None, method=method, steps=self.size.pretrain_steps
        )

    def _trained(
        self, key: str, manifest: Path, *, weights: Path | None, method: Mapping[str, Any] | None = None,
        steps: int | None = None,
    ) -> Path:  # fmt: skip
        say(self.start_s, f"{self.problem.name}: {key}")
        task = {"column": self.problem.column, **self.problem.task} if method is None else method
        table = Manifest.read(manifest, check_files=False)
        backbone = {**self.backbone, "weights": None if weights is None else str(weights)}
        recipe = recipe_of(
            manifest, backbone, task, steps=steps or self.problem.steps,
            items=training_items(table, task["column"]), seed=self.seed,
        )  # fmt: skip
        return trained(recipe, self.out / key)

    def _pseudo_labelled(self, name: str, teacher: Path) -> Path:
        path = self._beside(name)
        told = self.out / f"{name}.json"
        if not (path.exists() and told.exists()):
            manifest = Manifest.read(self.labelled, check_files=False)
            found = pseudo_label(load(teacher), manifest, self._scaled(REGIMES[name], manifest))
            found.manifest.write(path)
            atomic_write(told, json.dumps({"kept": found.kept, "dropped": found.dropped}, indent=1))
        return path

    def _scaled(self, regime: Regime, manifest: Manifest) -> Regime:
        """Caps for our pool: the same share of it as of the pool that they were made for."""
        column = self.problem.column
        pool = sum(row[column] is None for row in manifest.rows)
        tasks = len({str(row.get("points_set") or "") for row in manifest.rows})
        share = pool / tasks / WHOLE_POOL
        most = None if regime.most is None else max(1, round(regime.most * share))
        return replace(regime, most=most, repeat_to=round(regime.repeat_to * share))

    def _by_image(self) -> Path:
        """As many images tested, whosever they are: each counts as a patient, or a manifest would refuse."""
        rows = self.whole.rows
        tested = sum(row["split"] == "test" for row in rows)
        order = sorted(range(len(rows)), key=lambda i: patient_place(f"image {i}", self.seed))
        return split_by_image(self.whole, set(order[:tested]), "test").write(self._beside("by-image"))

    def _beside(self, name: str) -> Path:
        """A manifest of ours in the folder of the media."""
        return self.problem.manifest.with_name(f"{name}-{self.seed}.parquet")

    def _ordered(self, rows: Sequence[Row], name: str, order: str) -> Path:
        moved = rows
        if order == "official":  # points of no named set: a loader would put those into the internal order
            moved = [{**row, "points_set": "", "keypoints": _official_label(row, name)} for row in rows]
        return self.whole.with_rows(list(moved)).write(self._beside(f"{name}-{order}"))

    def _arm(
        self, part: str, name: str, models: Sequence[str], *, fuse: str = "median", items: int = 0
    ) -> Arm:
        manifest = Manifest.read(self.labelled, check_files=False)
        model = self._together([load(self.models[one]) for one in models], fuse)
        return self._line(
            part, name, scored(model, manifest, tta=False), mirrored=scored(model, manifest, tta=True),
            passes=1 if fuse == "soup" else len(models), ms=milliseconds(model, tta=False), items=items,
        )  # fmt: skip

    def _together(self, models: Sequence[Model], fuse: str) -> Model:
        if len(models) == 1:
            return models[0]
        if fuse == "soup":
            shown = Manifest.read(self._beside("r3"), check_files=False)
            return soup_of(models, training_batches(models[0], shown))
        return ensemble(models, "geometric" if fuse == "geometric" else "median")

    def _line(
        self, part: str, name: str, plain: Scored, *, mirrored: Scored | None = None, passes: int = 1,
        ms: float | None = None, items: int = 0,
    ) -> Arm:  # fmt: skip
        return Arm(
            problem=self.problem.name, synthetic=self.problem.synthetic, part=part, name=name, passes=passes,
            plain=plain, mirrored=mirrored, ms=ms, items=items,
        )  # fmt: skip


def training_items_of(path: Path, problem: Problem) -> int:
    """Labelled training rows of a manifest."""
    return training_items(Manifest.read(path, check_files=False), problem.column)


def _official_label(row: Row, name: str) -> list[float]:
    points = np.asarray(row["keypoints"], dtype=np.float64).reshape(-1, 2)
    return [float(value) for value in to_official(points, name).ravel()]
