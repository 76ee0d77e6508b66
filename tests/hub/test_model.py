from __future__ import annotations

import json
import re
from dataclasses import replace

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import insonate
from insonate.data import Spacing
from insonate.data.media import write_dicom, write_png
from insonate.errors import InsonateError, ModelError, WeightsError
from insonate.hub import Model, load
from insonate.hub.remote import find


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 56), dtype=np.uint8)


def change(folder, edit):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))


def test_a_saved_model_predicts_the_same_when_loaded(model, image, tmp_path):
    folder = model.save_pretrained(tmp_path / "m")
    again = insonate.load(str(folder))
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "preprocessor_config.json",
    ]  # fmt: skip
    np.testing.assert_array_equal(again.predict(image).value, model.predict(image).value)
    assert again.info == model.info
    assert again.config() == model.config()


def test_saving_again_replaces_the_folder(model, encoder, tmp_path):
    model.save_pretrained(tmp_path / "m")
    assert load(encoder.save_pretrained(tmp_path / "m")).task is None


def test_media_of_every_form_give_the_same_prediction(model, image, tmp_path):
    path = write_png(tmp_path / "a.png", image) or tmp_path / "a.png"
    values = [
        model.predict(media).value
        for media in (
            path,
            str(path),
            image,
            image[..., None],
            Image.fromarray(image),
            np.stack([image] * 3, -1),
        )
    ]
    for value in values[1:]:
        np.testing.assert_allclose(value, values[0], atol=1e-6)


def test_a_list_gives_a_list_and_a_cine_one_prediction_a_frame(model, image, tmp_path):
    frames = np.stack([np.roll(image, shift, 1) for shift in range(20)])  # more than a batch
    path = tmp_path / "a.dcm"
    write_dicom(
        path, frames, spacing=Spacing(row_mm=0.2, col_mm=0.3), frame_time_ms=40.0, patient_id="p1",
        study_id="s", series_id="r", vendor="v", item_id="i",
    )  # fmt: skip
    cine = model.predict(path)
    assert [prediction.meta.frame for prediction in cine] == list(range(20))
    assert cine[0].meta.spacing.col_mm == pytest.approx(0.3)
    np.testing.assert_allclose(cine[7].value, model.predict(frames[7]).value, atol=1e-5)
    both = model.predict([path, image])
    assert len(both) == 2
    assert len(both[0]) == 20
    assert both[1].kind == "classification"


def test_mirroring_is_averaged_away_with_tta(model, image):
    mirrored = np.ascontiguousarray(image[:, ::-1])
    np.testing.assert_allclose(model.predict(image).value, model.predict(mirrored).value, atol=1e-5)
    assert (
        np.abs(model.predict(image, tta=False).value - model.predict(mirrored, tta=False).value).max() > 1e-5
    )


def test_a_prediction_draws_itself_on_its_own_frame(model, image, tmp_path):
    frames = np.stack([image, 255 - image])[..., None]
    write_png(tmp_path / "still.png", image)
    drawn = model.predict(image).draw()
    assert drawn.size == (280, 200)  # enlarged five times
    assert model.predict(tmp_path / "still.png").draw() == drawn
    assert model.predict(Image.fromarray(image)).draw() == drawn
    first, second = model.predict(frames)
    assert first.draw() == drawn
    for one, frame in zip((first, second), frames, strict=True):
        assert np.array_equal(np.asarray(one.draw())[0, ::5, 0], frame[0, :, 0])  # above what is drawn
    assert "drawer" not in repr(first)
    with pytest.raises(ModelError, match="no frame"):
        replace(first, drawer=None).draw()


@pytest.mark.parametrize(
    "media", [np.zeros((4, 4), np.float32), np.zeros((5, 6, 7), np.uint8), np.zeros((0, 4), np.uint8), 7]
)
def test_media_that_cannot_be_taken_are_named(model, media):
    with pytest.raises(ModelError, match="predict"):
        model.predict(media)


def test_an_encoder_embeds_and_does_not_predict(encoder, image, tmp_path):
    again = load(encoder.save_pretrained(tmp_path / "e"))
    assert again.embed(image).shape == (1, 16)
    np.testing.assert_array_equal(again.embed(image), encoder.embed(image))
    with pytest.raises(ModelError, match="no task"):
        again.predict(image)


def test_an_encoder_and_a_task_name_the_backbone_alike(model, encoder, tmp_path):
    from insonate import weights

    names = [
        {
            n
            for n in weights.read(m.save_pretrained(tmp_path / d) / "model.safetensors")
            if n.startswith("backbone.")
        }
        for m, d in ((model, "m"), (encoder, "e"))
    ]
    assert names[0] == names[1] != set()


def test_the_card_says_what_the_model_is_and_is_not(model, tmp_path):
    card = (model.save_pretrained(tmp_path / "m") / "README.md").read_text()
    matter = yaml.safe_load(card.split("---")[1])
    assert matter["library_name"] == "insonate"
    assert "synthetic" in matter["tags"]
    assert matter["pipeline_tag"] == "image-classification"
    assert "Not for clinical use" in card
    assert "Synthetic data" in card
    assert "| auroc | 0.75 | 0.6 – 0.9 |" in card


def test_class_names_cannot_write_into_the_card(model, tmp_path):
    evil = "<script>x</script>|`![a](http://b)\n---\nlicense: mit"
    model.info["metrics"] = {evil: 0.5}
    model.info["data"]["sites"] = [evil]
    model.info["license"] = "mit\ntags: [x]"
    card = (model.save_pretrained(tmp_path / "m") / "README.md").read_text()
    assert "<script" not in re.sub(r"\\<", "", card)
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "mit tags: [x]"


def test_the_preprocessor_config_holds_the_input_format(model, tmp_path):
    content = json.loads((model.save_pretrained(tmp_path / "m") / "preprocessor_config.json").read_text())
    assert content["size"] == {"height": 32, "width": 32}
    assert content["image_mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert "antialias" in content["resize_rule"]


DAMAGE = {
    "not JSON": lambda path: path.write_text("{"),
    "nested too deep": lambda path: path.write_text("[" * 100_000),
    "not UTF-8": lambda path: path.write_bytes(b'{"a": "\xff\xfe"}'),
    "empty": lambda path: path.write_text(""),
    "a list": lambda path: path.write_text("[]"),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_config_is_named(encoder, tmp_path, name):
    folder = encoder.save_pretrained(tmp_path / "m")
    DAMAGE[name](folder / "config.json")
    with pytest.raises(ModelError, match=re.escape("config.json")):
        load(folder)


EDITS = {
    "field backbone": lambda c: c.update(backbone=3),
    "code": lambda c: c.update(auto_map={"AutoModel": "evil.Model"}),
    "module path": lambda c: c["backbone"].update(name="os.system"),
    "no name": lambda c: c["backbone"].pop("name"),
    "unknown option": lambda c: c["backbone"].update(wings=2),
    "unknown task": lambda c: c.update(task={"name": "telepathy", "column": "x"}),
    "no such format": lambda c: c.update(format=2),
    "std of zero": lambda c: c["input"].update(std=[0, 1, 1]),
    "two means": lambda c: c["input"].update(mean=[0, 1]),
    "giant input": lambda c: c["input"].update(height=10**9),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_config_that_does_not_fit_is_refused(encoder, tmp_path, name):
    folder = encoder.save_pretrained(tmp_path / "m")
    change(folder, EDITS[name])
    with pytest.raises(ModelError, match=re.escape("config.json")):
        load(folder)


def test_a_giant_model_is_refused_before_it_takes_memory(encoder, tmp_path):
    folder = encoder.save_pretrained(tmp_path / "m")
    change(folder, lambda c: c["backbone"].update(width=8192, heads=8, depth=40))
    with pytest.raises(WeightsError, match="numbers"):
        load(folder)


def test_a_giant_position_table_is_refused_before_it_takes_memory(encoder, tmp_path):
    folder = encoder.save_pretrained(tmp_path / "m")
    change(folder, lambda c: c["backbone"].update(input_size=[8192, 8192], patch=1, width=8192))
    with pytest.raises(InsonateError):
        load(folder)


def test_weights_of_another_model_name_the_tensors(encoder, tmp_path):
    folder = encoder.save_pretrained(tmp_path / "m")
    change(folder, lambda c: c["backbone"].update(depth=3))
    with pytest.raises(WeightsError, match=r"blocks\.2\."):
        load(folder)
    change(folder, lambda c: c["backbone"].update(depth=2, patch=16))
    with pytest.raises(WeightsError, match=r"patch_embed"):
        load(folder)


def test_truncated_weights_are_refused(encoder, tmp_path):
    path = encoder.save_pretrained(tmp_path / "m") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=re.escape("model.safetensors")):
        load(tmp_path / "m")
    path.unlink()
    with pytest.raises(ModelError, match="missing"):
        load(tmp_path / "m")


def test_a_pickle_named_safetensors_is_refused(encoder, tmp_path):
    path = encoder.save_pretrained(tmp_path / "m") / "model.safetensors"
    torch.save(encoder._whole().state_dict(), path)  # fits, and harmless, but no safetensors
    with pytest.raises(WeightsError, match="no safetensors"):
        load(tmp_path / "m")


def test_a_folder_wins_over_a_hub_id(encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder.save_pretrained("owner/name")
    assert isinstance(load("owner/name"), Model)


def test_a_hub_id_is_downloaded_without_code_and_predicts_the_same(model, image, tmp_path, monkeypatch):
    revision = "c0ffee" * 6 + "beef"
    snapshot = model.save_pretrained(tmp_path / "snapshots" / revision)
    asked = []

    def snapshot_download(repo_id, *, allow_patterns):
        asked.append((repo_id, sorted(allow_patterns)))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    again = load("a/b")
    names = ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]
    assert asked == [("a/b", names)]
    np.testing.assert_array_equal(again.predict(image).value, model.predict(image).value)
    assert again.info == model.info | {"revision": revision}


@pytest.mark.parametrize("source", ["no/such/folder", "./nothing", "/nowhere/x", "../x/y", "a\0b"])
def test_a_path_that_is_not_there_never_asks_the_hub(source):
    with pytest.raises(ModelError, match="no such model folder"):
        find(source)


def test_without_the_hub_an_id_gives_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="the hub cannot be reached") as caught:
        load("nobody/nothing")
    assert "\n" not in str(caught.value)
    assert "nobody/nothing" in str(caught.value)


def test_push_sends_exactly_the_model_folder(model, tmp_path):
    class Recorder:
        def create_repo(self, repo_id, *, private, exist_ok):
            self.repo = (repo_id, private, exist_ok)

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            import shutil

            shutil.copytree(folder_path, tmp_path / "sent")

    api = Recorder()
    assert model.push_to_hub("me/lesions", api=api) == "me/lesions"
    assert api.repo == ("me/lesions", True, True)
    assert load(tmp_path / "sent").config() == model.config()


def test_a_refused_push_is_one_clear_line(model):
    class Offline:
        def create_repo(self, repo_id, *, private, exist_ok):
            raise ConnectionError("no route")

    with pytest.raises(ModelError, match="me/lesions: the hub cannot be reached"):
        model.push_to_hub("me/lesions", api=Offline())
    with pytest.raises(ModelError, match="no hub id"):
        model.push_to_hub("../x")


def test_the_folder_of_a_run_is_no_model_but_its_model_is_named(model, tmp_path):
    model.save_pretrained(tmp_path / "run/model")
    with pytest.raises(ModelError, match=re.escape(f"Give the model in it: {tmp_path / 'run/model'}")):
        load(tmp_path / "run")
