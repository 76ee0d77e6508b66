"""From file and overrides to a checked recipe: names, keys, types and the one-line errors."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from insonate.errors import InsonateError, RecipeError
from insonate.recipes import catalogue, plain_yaml
from insonate.recipes.load import check, load_recipe, resolved, shipped

TEXT = """
data: {manifest: manifest.csv, batch: 4}
backbone: {name: vit_tiny}
task: {name: classification, column: label, classes: [a, b]}
optim: {lr: 1e-3, epochs: 2}
"""


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipe_is_valid_and_its_resolved_text_gives_the_same_recipe(name):
    plain = resolved(load_recipe(name))
    again = check(plain_yaml.parse(plain_yaml.write(plain), name), name)
    assert resolved(again) == plain
    assert (shipped()[name]).read_text("utf-8").startswith("# ")


def test_the_five_recipes_are_shipped():
    assert set(shipped()) >= {
        "ijepa_vits", "ijepa_tiny_demo", "keypoints_hc", "classify_lesion", "segment_lesion"
    }  # fmt: skip


def test_loading_a_recipe_imports_no_torch():
    code = (
        "import sys; from insonate.recipes import load_recipe; load_recipe('ijepa_vits', ['optim.lr=2e-4']);"
        "assert not {'torch', 'timm', 'torchvision', 'lightning_fabric'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_overrides_edit_the_plain_values_before_they_are_checked(recipe_file):
    overrides = [
        "optim.lr=2e-4",
        "backbone.input_size=[96, 128]",
        "data.augment.hflip=0.5",
        "data.val_split=null",
    ]
    recipe = load_recipe(recipe_file, overrides)
    assert recipe.optim.lr == 2e-4
    assert recipe.backbone.options()["input_size"] == [96, 128]
    assert recipe.data.augment.hflip == 0.5
    assert recipe.data.val_split is None


def test_defaults_of_the_method_are_written_out_in_the_resolved_recipe():
    plain = resolved(load_recipe("ijepa_tiny_demo"))
    assert plain["objective"]["predictor_depth"] == 3
    assert plain["objective"]["min_keep"] == 10
    assert "seed" not in plain["optim"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.lrr=1", ["optim.lrr", "no known key", "lr"]),
        ("optimm.lr=1", ["optimm", "no known key", "optim"]),
        ("backbone.name=vit_tinny", ["backbone.name", "vit_tinny", "Did you mean vit_tiny"]),
        ("backbone.name=os:system", ["backbone.name", "os:system"]),
        ("backbone.patchh=8", ["backbone.patchh", "patch"]),
        ("task.clases=[a, b]", ["task.clases", "Did you mean classes"]),
        ("task.classes=null", ["task.classes"]),
        ("data.batch=0", ["data.batch"]),
        ("data.batch=true", ["data.batch", "whole number"]),
        ("data.batch='4'", ["data.batch", "whole number"]),
        ("optim.compile=yes", ["optim.compile", "true or false"]),
        ("optim.lr=-1", ["optim.lr"]),
        ("optim.lr=.inf", ["optim.lr"]),
        ("optim.precision=yes", ["optim.precision"]),
        ("optim.seed=1", ["optim.seed", "top"]),
        ("seed=010", ["seed"]),
        ("seed=null", ["seed"]),
        ("backbone.train=some", ["backbone.train"]),
        ("data.augment.hflip=2", ["data.augment.hflip"]),
        ("data.augment.flip=0.5", ["data.augment.flip", "hflip"]),
        ("objective.name=ijepa", ["objective", "task"]),
        ("data.split=val", ["data.val_split", "is data.split too"]),
        ("optim.warmup_epochs=2", ["optim.warmup_epochs", "all 2 epochs"]),
        ("data.batch.x=1", ["data.batch.x", "holds no keys"]),
        ("nonsense", ["key=value"]),
        ("a..b=1", ["key=value"]),
        ("__class__=1", ["__class__"]),
    ],
)
def test_a_wrong_override_is_one_line_that_names_the_key(recipe_file, override, words):
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file, [override])
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_a_monitor_without_validation_is_refused(recipe_file):
    load_recipe(recipe_file, ["optim.monitor=accuracy", "optim.mode=max"])
    with pytest.raises(RecipeError, match="mode=min or mode=max"):
        load_recipe(recipe_file, ["optim.monitor=accuracy"])
    with pytest.raises(RecipeError, match=r"optim\.monitor needs a data\.val_split"):
        load_recipe(recipe_file, ["optim.monitor=accuracy", "optim.mode=max", "data.val_split=null"])


def test_a_missing_option_of_the_method_is_named(recipe_file):
    recipe_file.write_text(TEXT.replace(", classes: [a, b]", ""))
    with pytest.raises(RecipeError, match=r"task\.classes: classification needs this key"):
        load_recipe(recipe_file)


def test_an_unknown_shipped_name_gives_the_nearest():
    with pytest.raises(RecipeError, match="Did you mean ijepa_vits"):
        load_recipe("ijepa_vit")


def test_the_value_that_was_put_in_is_not_printed(recipe_file):
    recipe_file.write_text(TEXT.replace("batch: 4", "batch: [SECRET]"))
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file)
    assert "SECRET" not in str(caught.value)


def test_the_catalogue_is_that_of_the_registries():
    kept = catalogue.PATH.read_text("utf-8")
    assert kept == catalogue.as_text(catalogue.generate()), "run `make catalogue`"
    assert all(entry["doc"] for kind in json.loads(kept).values() for entry in kind.values())


# ------------------------------------------------------------------------------------------- hostile recipes

LATER = {
    "missing manifest",
    "manifest is /dev/zero",
    "manifest is a URL",
    "missing column",
    "size 10^6",
    "negative size",
}
"""refused when the run is built, since the registry or the manifest must be asked"""


@pytest.fixture(scope="module")
def hostile_module(tools):
    spec = importlib.util.spec_from_file_location("hostile", tools / "hostile.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["hostile"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["hostile"]


def ours(data: bytes) -> bytes:
    """The generic keys of hostile.py in the words of our schema."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data
    text = text.replace("batch_size:", "batch:").replace("  steps:", "  epochs:")
    text = text.replace("  name: classification\n", "  name: classification\n  classes: [a, b]\n", 1)
    if size := re.search(r"^  image_size: (.*)\n", text, re.M):
        text = text.replace(size[0], "").replace(
            "backbone:\n", f"backbone:\n  input_size: [{size[1]}, {size[1]}]\n"
        )
    if precision := re.search(r"^precision: (.*)\n", text, re.M):
        value = precision[1]
        text = text.replace(precision[0], "").replace("optim:\n", f"optim:\n  precision: {value}\n")
    return text.encode()


def attempt(path, data: bytes) -> str:
    """The error of a recipe's text, or an empty text."""
    path.write_bytes(data)
    try:
        load_recipe(path)
    except InsonateError as error:
        return str(error)
    return ""


def test_hostile_recipes_are_refused_and_the_control_is_not(hostile_module, tmp_path):
    marker = tmp_path / "MARKER"
    marker.mkdir()
    context = SimpleNamespace(marker=lambda name: str(marker / name))
    path, cases = tmp_path / "case.yaml", list(hostile_module.recipe_cases(context))
    assert len(cases) > 60
    assert attempt(path, ours(hostile_module.RECIPE.encode())) == ""
    for case in cases:
        answer = attempt(path, ours(case.data))
        if case.expected == "error" and case.done not in LATER:
            assert answer.startswith(str(path)), case.done
        assert answer.isprintable(), case.done
    assert not any(marker.iterdir())


def test_damaged_recipes_end_in_a_recipe_or_an_error(hostile_module, tmp_path):
    rng = random.Random(0)
    for _ in range(150):
        assert attempt(
            tmp_path / "case.yaml", ours(hostile_module.recipe_random(rng, None).data)
        ).isprintable()
