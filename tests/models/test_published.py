"""The listing of published encoders is current, and agrees with what is known of them."""

from __future__ import annotations

import pytest

from insonate.models.layouts import LAYOUTS
from insonate.recipes import catalogue


def test_listing_is_current_and_names_known_families() -> None:
    kept = catalogue.PUBLISHED_PATH.read_text("utf-8")
    assert kept == catalogue.as_text(catalogue.generate_published()), "run `make catalogue`"
    families = {family for layout in LAYOUTS.values() for family in layout.families}
    assert {entry["family"] for entry in catalogue.read_published().values()} <= families


def test_sizes_and_costs_are_the_known_ones() -> None:
    known = catalogue.read_published()
    assert known["V-JEPA 2 ViT-L"]["params"] == 303_885_312
    assert known["V-JEPA 2 ViT-g/384"]["params"] == 1_012_173_952
    assert known["TinyUSFM"]["params"] == 5_524_416
    assert known["TinyUSFM"]["gflops"] == pytest.approx(2.51, abs=0.01)
    assert 2 * known["TinyUSFM"]["gmacs"] == pytest.approx(2.149, abs=0.02)
    assert known["USFM"]["gflops"] == pytest.approx(35.13, abs=0.02)
    assert known["BiomedCLIP image tower"]["params"] == 85_798_656
