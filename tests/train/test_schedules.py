"""Learning rate and weight decay, against the original I-JEPA's and by hand."""

from __future__ import annotations

import pytest
import torch

from insonate.train.schedules import Schedule
from insonate.train.settings import Settings

CASES = [
    "published_300ep", "ipe_scale_1.25", "fractional_warmup", "no_warmup", "wd_decreasing", "past_the_end",
    "ipe_scale_0.5",
]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rates_equal_the_original_until_the_schedule_ends(parity, name):
    case = torch.load(parity / "ijepa_schedules.pt", weights_only=True)["cases"][name]  # noqa: TID251 - holds NaN
    config = case["config"]
    schedule = Schedule(
        settings=Settings(
            epochs=config["epochs"],
            lr=config["lr"],
            start_lr=config["start_lr"],
            final_lr=config["final_lr"],
            warmup_epochs=config["warmup"],
            stretch=config["ipe_scale"],
            weight_decay=(config["weight_decay"], config["final_weight_decay"]),
        ),
        steps_per_epoch=config["iterations_per_epoch"],
    )
    first, last = config["ema"]
    steps = range(1, min(schedule.total, len(case["lr"])) + 1)
    for n in steps:
        assert schedule.lr(n) == pytest.approx(case["lr"][n - 1].item(), abs=1e-12)
        assert schedule.weight_decay(n) == pytest.approx(case["wd"][n - 1].item(), abs=1e-12)
        momentum = first + (last - first) * schedule.progress(n)
        assert momentum == pytest.approx(case["momentum"][n - 1].item(), abs=1e-12)


def test_cosine_stays_at_the_end_when_called_past_it():
    schedule = Schedule(settings=Settings(epochs=2, lr=1.0, final_lr=0.1), steps_per_epoch=5)
    assert schedule.lr(10) == schedule.lr(25) == pytest.approx(0.1)
    assert schedule.progress(99) == 1.0


def test_wsd_warms_up_holds_and_decays_linearly():
    settings = Settings(epochs=10, lr=1.0, warmup_epochs=1, schedule="wsd", decay_fraction=0.2)
    schedule = Schedule(settings=settings, steps_per_epoch=10)
    assert [schedule.lr(n) for n in (1, 5, 10)] == pytest.approx([0.1, 0.5, 1.0])
    assert {schedule.lr(n) for n in range(10, 81)} == {1.0}
    assert [schedule.lr(n) for n in (85, 90, 100)] == pytest.approx([0.75, 0.5, 0.0])


def test_constant_weight_decay_stays():
    schedule = Schedule(settings=Settings(weight_decay=0.3), steps_per_epoch=4)
    assert {schedule.weight_decay(n) for n in range(1, 41)} == {0.3}
