"""`PhantomSet`: what a set of phantom pictures is to have, and the orders of its items.

An order is a pure function of the set, patient and item number; no item depends on how many others there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from insonate.errors import InsonateError, nearest
from insonate.measure.growth import SIZE_WEEKS
from insonate.phantom.cast import HEARTS, KINDS, ROLES
from insonate.phantom.heart import EF_RANGE, VIEWS, HeartOrder, known_view, views_of_study
from insonate.phantom.items import Order

HEART = "heart"
FORMATS = {"png": ".png", "mp4": ".mp4", "dicom": ".dcm"}
MOST_PICTURES = 2_000_000
"""of one set: their list is held in memory"""
CLIP_SIZE = 1024
"""largest of a clip: a beat at 120 frames a second stays below 300 MB"""
SPLITS = ("train", "train", "val", "train", "test", "train", "train")
"""of patient after patient (of one scene), so that five already fill all three splits"""
AnyOrder = Order | HeartOrder


@dataclass(frozen=True, kw_only=True)
class PhantomSet:
    """What a set of phantom pictures is to have; made only if all of it can be.

    Raises:
        InsonateError: an option is out of range, or of another kind of set.
    """

    kind: str
    """"heart", a scene of `cast.ROLES` or a kind of `cast.KINDS`"""
    patients: int
    images_per_patient: int | None = None
    """None: 2, or 1 of each view where a patient has several"""
    views: tuple[str, ...] = VIEWS
    """of hearts"""
    missing: float = 0.0
    """share of its views that a study of a heart or a fetus lacks"""
    ef_pct: float | None = None
    """of all hearts; None draws one for each"""
    ga_weeks: float | None = None
    """of all fetuses; None draws one for each"""
    degraded: float = 0.0
    """share of clips with lost contact and dropped frames"""
    overlays: float | None = None
    """share of studies with a machine's graphics in the picture; None: all of hearts, none of others"""
    seed: int = 0
    size: int = 256
    formats: Sequence[str] = ("png",)
    """items take turns; "mp4" and "dicom" are clips"""

    def __post_init__(self) -> None:
        where = "phantom"
        if self.kind not in {HEART, *KINDS}:
            raise InsonateError(where, f"there is no kind {self.kind!r}", nearest(self.kind, [HEART, *KINDS]))
        if self.patients < 1 or (self.images_per_patient is not None and self.images_per_patient < 1):
            what = f"{self.patients} patients with {self.images_per_patient or 2} pictures each"
            raise InsonateError(where, what, "Ask for at least one of each")
        pictures = self.patients * self._pictures_of_one()
        if pictures > MOST_PICTURES:
            what = f"{pictures} pictures in one set are more than memory holds the list of"
            raise InsonateError(where, what, f"Ask for at most {MOST_PICTURES}, or for several sets")
        self._check_media(where)
        self._check_scenes(where)
        self._check_hearts("phantom heart")

    def _pictures_of_one(self) -> int:
        """Of a patient with nothing missing."""
        several = len(self.views) if self.kind == HEART else len(KINDS[self.kind].scenes)
        if self.kind == HEART or KINDS[self.kind].whole:
            return several * (self.images_per_patient or 1)
        return self.images_per_patient or 2

    def _check_media(self, where: str) -> None:
        size, formats = self.size, self.formats
        if not 32 <= size <= 4096:
            raise InsonateError(where, f"a size of {size} px", "Choose 32 to 4096")
        if not formats or not set(formats) <= set(FORMATS):
            raise InsonateError(where, f"formats {list(formats)}", f"Choose among {', '.join(FORMATS)}")
        if "mp4" in formats and size % 2:
            raise InsonateError(where, f"an odd size of {size} px in mp4", "Choose an even size")
        if size > CLIP_SIZE and set(formats) != {"png"}:
            raise InsonateError(where, f"clips of {size} px", f"Choose at most {CLIP_SIZE}, or png alone")

    def _check_scenes(self, where: str) -> None:
        if self.kind != HEART and self.views != VIEWS:
            what = f"views to choose are of hearts, not of kind {self.kind!r}"
            raise InsonateError(where, what, "Give --kind heart, or leave them out")
        if not 0 <= self.missing < 1:
            raise InsonateError(where, f"{self.missing:g} of the views missing", "Choose 0 up to less than 1")
        if self.missing and self.kind != HEART and not KINDS[self.kind].whole:
            what = f"patients of kind {self.kind!r} have one view, which cannot be missing"
            raise InsonateError(where, what, "Give --kind heart or fetal, or leave it out")
        if not self._has(HEART, *HEARTS) and self.ef_pct is not None:
            what = f"an ejection fraction is of hearts, not of kind {self.kind!r}"
            raise InsonateError(where, what, "Give --kind heart, or leave it out")
        for name, share in (("degraded", self.degraded), ("with overlays", self.overlays)):
            if share is not None and not 0 <= share <= 1:
                raise InsonateError(where, f"{share:g} of the items {name}", "Choose 0 to 1")
        if self.ga_weeks is None:
            return
        if not self._has("head", "abdomen", "femur"):
            what = f"a gestational age is of fetuses, not of kind {self.kind!r}"
            raise InsonateError(where, what, "Give --kind fetal, or leave it out")
        first, last = SIZE_WEEKS
        if not first <= self.ga_weeks <= last:
            what = f"a fetus of {self.ga_weeks:g} weeks is outside the growth charts"
            raise InsonateError(where, what, f"Ask for {first:g} to {last:g} weeks")

    def _has(self, *scenes: str) -> bool:
        own = (HEART,) if self.kind == HEART else KINDS[self.kind].scenes
        return not set(scenes).isdisjoint(own)

    def _check_hearts(self, where: str) -> None:
        views = self.views
        if not views:
            raise InsonateError(where, "no views", f"Choose among {', '.join(VIEWS)}")
        for view in views:
            known_view(view)
        if len(set(views)) < len(views):
            raise InsonateError(where, f"a view twice in {', '.join(views)}", "Name each once")
        low, high = EF_RANGE
        if self.ef_pct is not None and not low <= self.ef_pct <= high:
            what = f"an ejection fraction of {self.ef_pct:g} % is not modelled"
            raise InsonateError(where, what, f"Ask for {low:g} to {high:g} %")

    def format(self, number: int) -> str:
        """Of the item of this number."""
        return self.formats[number % len(self.formats)]

    def split(self, patient: int) -> str:
        """Train, val or test."""
        turns = 1 if self.kind == HEART or KINDS[self.kind].whole else len(KINDS[self.kind].scenes)
        return SPLITS[patient // turns % len(SPLITS)]

    def orders(self) -> dict[int, AnyOrder]:
        """By the item's number, which counts missing views too."""
        return self._of_hearts() if self.kind == HEART else self._of_scenes()

    def _of_hearts(self) -> dict[int, AnyOrder]:
        orders: dict[int, AnyOrder] = {}
        repeats = self.images_per_patient or 1
        for patient in range(self.patients):
            shown = views_of_study(self.seed, patient, self.views, self.missing)
            for item, view in enumerate(self.views * repeats):
                number = patient * len(self.views) * repeats + item
                if view in shown:
                    orders[number] = self._heart(number, patient, item, view)
        return orders

    def _of_scenes(self) -> dict[int, AnyOrder]:
        cast = KINDS[self.kind]
        orders: dict[int, AnyOrder] = {}
        repeats = self.images_per_patient or (1 if cast.whole else 2)
        for patient in range(self.patients):
            scenes = cast.scenes if cast.whole else (cast.scenes[patient % len(cast.scenes)],)
            shown = views_of_study(self.seed, patient, scenes, self.missing)
            shots = [(scene, item) for scene in scenes for item in range(repeats)]
            for place, (scene, item) in enumerate(shots):
                number = patient * len(shots) + place
                make = self._scene if scene in ROLES else self._heart
                if scene in shown:
                    orders[number] = make(number, patient, item, scene)
        return orders

    def _heart(self, number: int, patient: int, item: int, view: str) -> AnyOrder:
        return HeartOrder(
            seed=self.seed, patient=patient, item=item, view=view, size=self.size,
            clip=self.format(number) != "png", ef_pct=self.ef_pct, degraded=self.degraded,
            overlays=1.0 if self.overlays is None else self.overlays, timed=self.format(number) == "dicom",
        )  # fmt: skip

    def _scene(self, number: int, patient: int, item: int, scene: str) -> AnyOrder:
        return Order(
            scene=scene, seed=self.seed, patient=patient, item=item, size=self.size,
            frames=1 if self.format(number) == "png" else None, ga_weeks=self.ga_weeks,
            degraded=self.degraded, overlays=self.overlays or 0.0,
        )  # fmt: skip
