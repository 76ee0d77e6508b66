"""Heads that came with an encoder are tasks: a probe on clips and on studies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import insonate
from insonate.errors import ModelError, WeightsError
from insonate.hub import Model, write_official
from insonate.models import build_backbone
from insonate.models.probes import ECHOJEPA_VIEWS
from insonate.tasks import build_task

VIT = {"name": "vit", "input_size": [64, 64], "width": 48, "depth": 1, "heads": 3}
LOOP = np.random.default_rng(0).integers(0, 255, (16, 70, 90, 1), dtype=np.uint8)


@pytest.fixture
def encoder(parity):
    return parity / "vjepa_encoder_rope.pt"


def test_a_probe_with_its_encoder_is_a_model(encoder, parity, tmp_path) -> None:
    path = parity / "vjepa_attentive_classifier_d4.pt"
    count = len(insonate.weights.read(path)["state_dict"]["linear.bias"])
    names = [f"class {number}" for number in range(count)]
    model = insonate.load(encoder, probe=path, probe_classes=names)
    assert model.tasks == ("probe",)
    found = model.predict(LOOP, tta=False)
    with torch.no_grad():
        tokens = model.backbone(_clip(model, LOOP)).patch
        wanted = model.parts["probe"][1](tokens).softmax(-1)[0].numpy()
    np.testing.assert_allclose(found.value, wanted, rtol=1e-4)
    assert found.names == tuple(names)
    saved = insonate.load(model.save_pretrained(tmp_path / "m"))
    assert np.array_equal(saved.predict(LOOP, tta=False).value, found.value)
    again = insonate.load(tmp_path / "m", probe=path)  # an encoder that is a model folder
    assert again.predict(LOOP).names == tuple(map(str, range(count)))


def test_a_probe_of_studies_takes_its_clips_and_missing_ones(encoder, parity) -> None:
    model = insonate.load(encoder, probe=parity / "vjepa_mv_classifier_d4_fact.pt")
    config = model.parts["probe"][1].config
    places = config.views * config.clips
    loops = [LOOP, None, *[LOOP[::-1]] * (places - 2)]
    found = model.predict_study(loops)
    with torch.no_grad():
        tokens = [
            torch.full((1, 64, 48), 7.0) if loop is None else model.backbone(_clip(model, loop)).patch
            for loop in loops
        ]
        size = tokens[0].shape[1]
        tokens[1] = torch.full((1, size, 48), 7.0)
        ignore = torch.tensor([loop is None for loop in loops]).repeat_interleave(size)[None]
        wanted = model.parts["probe"][1](torch.cat(tokens, 1), ignore).softmax(-1)[0]
    np.testing.assert_allclose(found.value, wanted, rtol=1e-4, atol=1e-6)
    with pytest.raises(ModelError, match="predict_study"):
        model.predict(LOOP)
    with pytest.raises(ModelError, match=f"1 clips, the probe has {places} places"):
        model.predict_study([LOOP])
    with pytest.raises(ModelError, match="has no clip"):
        model.predict_study([None] * places)


def _clip(model: Model, loop: np.ndarray) -> torch.Tensor:
    frames = loop[:: model.input.stride][: model.input.frames]
    frames = [*frames, *[frames[-1]] * (model.input.frames - len(frames))]
    return torch.stack([model.preprocess(frame)[0] for frame in frames])[None]


def test_a_regressor_says_values_in_their_unit(encoder, parity, tmp_path) -> None:
    content, path = insonate.weights.read(parity / "vjepa_mv_regressor_d1_fact.pt"), tmp_path / "one.pt"
    state = content["state_dict"]
    torch.save(
        state | {f"regressor.{end}": state[f"regressor.{end}"][:1] for end in ("weight", "bias")}, path
    )
    plain = insonate.load(encoder, probe=path, probe_heads=3)
    places = plain.parts["probe"][1].config.views * plain.parts["probe"][1].config.clips
    scaled = insonate.load(encoder, probe=path, probe_heads=3, probe_target_mean=55, probe_target_std=12)
    one, other = (model.predict_study([LOOP] * places).value for model in (plain, scaled))
    np.testing.assert_allclose(other, 55 + 12 * one, rtol=1e-5)
    assert any("standardised" in sentence for sentence in plain.info["probe"]["assumed"])


def test_several_values_are_as_many_tasks(encoder, parity, tmp_path) -> None:
    path = parity / "vjepa_mv_regressor_d1_fact.pt"
    plain = insonate.load(encoder, probe=path)
    assert plain.tasks == ("probe_0", "probe_1")
    config = plain.parts["probe"][1].config
    loops = [LOOP] * (config.views * config.clips)
    known = {
        "probe_values": ["lvef_percent", "rvsp_mmhg"],
        "probe_target_mean": [55, 30],
        "probe_target_std": [12, 9],
    }
    named = insonate.load(encoder, probe=path, **known)
    named = insonate.load(named.save_pretrained(tmp_path / "m"))
    for number, (name, mean, std) in enumerate([("lvef_percent", 55, 12), ("rvsp_mmhg", 30, 9)]):
        bare = plain.predict_study(loops, task=f"probe_{number}").value
        found = named.predict_study(loops, task=name)
        np.testing.assert_allclose(found.value, mean + std * bare, rtol=1e-5)
        assert found.measurements[name].unit in {"percent", "mmHg"}
    for wrong, words in [
        ({"probe_values": ["one"]}, r"it gives 2 values, values is \['one'\]"),
        ({"probe_values": ["one", "one"]}, "names that differ"),
        ({"probe_target_mean": ["a", 1], "probe_target_std": [1, 1]}, "is no number"),
    ]:
        with pytest.raises(WeightsError, match=words):
            insonate.load(encoder, probe=path, **wrong)


def test_a_probe_of_several_levels_reads_them_one_after_the_other(encoder, parity, tmp_path) -> None:
    path = parity / "vjepa_attentive_classifier_d1.pt"
    model = insonate.load(encoder, probe=path, probe_taps=[0, 2])
    model = insonate.load(model.save_pretrained(tmp_path / "m"))
    with torch.no_grad():
        levels = model.backbone.intermediate(_clip(model, LOOP), [0, 2])
        wanted = model.parts["probe"][1](torch.cat([level.patch for level in levels], 1)).softmax(-1)[0]
    np.testing.assert_allclose(model.predict(LOOP, tta=False).value, wanted, rtol=1e-4)
    np.testing.assert_allclose(model.predict_study([LOOP]).value, wanted, rtol=1e-4)
    with pytest.raises(WeightsError, match="reads block 9, the encoder has 3"):
        insonate.load(encoder, probe=path, probe_taps=[0, 9])
    with pytest.raises(WeightsError, match="taps is 'last'"):
        insonate.load(encoder, probe=path, probe_taps="last")


def test_what_is_no_probe_of_this_encoder_is_told_in_a_line(encoder, parity, tmp_path) -> None:
    probe = parity / "vjepa_attentive_classifier_d1.pt"
    with pytest.raises(ModelError, match=r"without an encoder. Load it with its encoder: insonate.load"):
        insonate.load(probe)
    with pytest.raises(WeightsError, match="no probe"):
        insonate.load(encoder, probe=encoder)
    with pytest.raises(ModelError, match="probe_heads without a probe"):
        insonate.load(encoder, probe_heads=3)
    narrow = Model(build_backbone(VIT | {"width": 24})).save_pretrained(tmp_path / "narrow")
    with pytest.raises(WeightsError, match="reads tokens of 48 channels, the encoder has 24"):
        insonate.load(narrow, probe=probe)
    with pytest.raises(WeightsError, match="classes is"):
        insonate.load(encoder, probe=probe, probe_classes=["a"])
    with pytest.raises(WeightsError, match="one of target_mean and target_std is lacking"):
        insonate.load(encoder, probe=parity / "vjepa_mv_regressor_d1_fact.pt", probe_target_mean=[1.0, 2.0])
    backbone = build_backbone(VIT)
    weeks = Model(backbone, build_task(backbone, {"name": "regression", "column": "weeks"}))
    with pytest.raises(ModelError, match="only a probe reads several clips"):
        weeks.predict_study([LOOP[0, ..., 0]], task="weeks")


@pytest.mark.parametrize(
    "name",
    [
        "attentive_classifier_d4", "mv_classifier_d1_fact", "mv_regressor_d4_joint", "probe_LinearRegressor",
        "probe_MLPClassifier",
    ],
)  # fmt: skip
def test_a_probe_goes_back_to_the_authors_layout(encoder, parity, tmp_path, name) -> None:
    path = parity / f"vjepa_{name}.pt"
    state = insonate.weights.read(path)["state_dict"]
    model = insonate.load(insonate.load(encoder, probe=path).save_pretrained(tmp_path / "m"))
    layout = "attentive_probe" if any(key.startswith("pooler") for key in state) else "pooled_probe"
    write_official(model, tmp_path / "probe.safetensors", layout)
    written = insonate.weights.read(tmp_path / "probe.safetensors")
    assert written.keys() == state.keys()
    assert all(torch.equal(written[key], state[key]) for key in state)
    write_official(model, tmp_path / "sweep.pt", "probe_sweep")
    hints = {"probe_heads": 3, **({"probe_views": 2} if "joint" in name else {})}
    again = insonate.load(encoder, probe=tmp_path / "sweep.pt", **hints)
    ours, theirs = (one.parts["probe"][1].state_dict() for one in (model, again))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    with pytest.raises(WeightsError, match="has no probe"):
        write_official(insonate.load(encoder), tmp_path / "x.pt", layout)


def test_views_of_echojepa_are_named_where_it_is_said_to_be_one(encoder, parity, tmp_path) -> None:
    state = insonate.weights.read(parity / "vjepa_attentive_classifier_d1.pt")["state_dict"]
    state |= {"linear.weight": torch.zeros(13, 48), "linear.bias": torch.zeros(13)}
    torch.save(state, tmp_path / "x.pt")
    for family, names in [("echojepa", ECHOJEPA_VIEWS), ("vjepa", tuple(map(str, range(13))))]:
        model = insonate.load(encoder, probe=tmp_path / "x.pt", probe_heads=3, probe_family=family)
        assert model.predict(LOOP).names == names
