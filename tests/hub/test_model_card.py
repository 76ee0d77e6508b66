"""The model card: what it says of the data."""

from __future__ import annotations

import pytest

from insonate.hub.card import model_card


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"synthetic": True, "sites": ["phantom"]}, "knows no patients"),
        ({"synthetic": False, "sites": ["phantom", "HC18"]}, "beside real data"),
    ],
)
def test_the_card_tells_a_phantom_from_a_mixture(data, words):
    config = {
        "info": {"data": data},
        "backbone": {"name": "vit"},
        "task": None,
        "input": {"height": 32, "width": 32, "channels": 1},
    }
    assert words in model_card(config, 10)
