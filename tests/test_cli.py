"""The command line: instant help, exit codes, one line for an error, results on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from commands import TRAIN, in_process, picture_folder

from insonate.cli import run_of, say
from insonate.data import Manifest
from insonate.deploy import doctor
from insonate.recipes import plain_yaml
from insonate.recipes.load import load_recipe, resolved, shipped

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pandas",
    "pydantic",
    "scipy",
    "matplotlib",
    "pyarrow",
    "av",
    "pydicom",
)


def insonate(*arguments, **options):
    command = [sys.executable, "-m", "insonate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def test_help_of_every_command_has_an_example_and_imports_nothing_heavy():
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise AssertionError("help imports " + name)
sys.meta_path.insert(0, Refuse())
import contextlib, io, json
import typer
from insonate.cli import app
def tree(command, path):
    yield command, path
    for name, inner in getattr(command, "commands", {{}}).items():
        yield from tree(inner, [*path, name])
shown = []
for command, path in tree(typer.main.get_command(app), []):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        try:
            app([*path, "--help"])
        except SystemExit as leave:
            assert not leave.code, path
    works = getattr(command, "invoke_without_command", True)  # no mere group
    shown.append((path, works, text.getvalue()))
print(json.dumps(shown))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    paths = [path for path, _, _ in told]
    assert len(paths) >= 20
    assert all(path in paths for path in ([], ["train"], ["models"], ["data", "scan"], ["models", "view"]))
    for path, works, text in told:
        if works:
            assert f"Example: insonate {' '.join(path)}" in " ".join(text.split()), path


def test_help_is_instant():
    """By the time of the processor, which other work on the machine does not lengthen much."""
    seconds = []
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-m", "insonate", "--help"], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        seconds.append(used.ru_utime + used.ru_stime)
    assert min(seconds) < 0.3  # 0.1 s


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "ijepa_vit", "--out", "run"], ["ijepa_vits"]),
        (["train", "keypoints_hc", "optim.lrr=1", "--out", "run"], ["optim.lrr", "lr"]),
        (["train", "missing.yaml", "--out", "run"], ["missing.yaml"]),
        (["recipes", "show", "keypoints_hc", "task.pointss=HC"], ["task.pointss", "points"]),
        (["data", "split", "missing.parquet"], ["missing.parquet"]),
        (["data", "split", "missing.parquet", "--val", "0.6", "--test", "0.6"], ["--val"]),
    ],
)
def test_bad_input_exits_with_2_and_one_line_that_names_it(tmp_path, arguments, words):
    done = insonate(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr
    assert "?." not in done.stderr
    assert not any(tmp_path.iterdir())


def test_debug_shows_the_traceback(tmp_path):
    assert "Traceback" in insonate("--debug", "recipes", "show", "nothing", cwd=tmp_path).stderr


def test_recipes_are_listed_and_shown():
    listed = insonate("recipes", "list").stdout
    assert all(name in listed for name in shipped())
    assert all("Page:" not in line and len(line) < 110 for line in listed.splitlines())
    shown = insonate("recipes", "show", "keypoints_hc", "optim.lr=2e-4").stdout
    assert plain_yaml.parse(shown, "x") == resolved(load_recipe("keypoints_hc", ["optim.lr=2e-4"]))
    written = insonate("recipes", "show", "keypoints_hc", "--as-written").stdout
    assert written == shipped()["keypoints_hc"].read_text("utf-8")


def test_models_are_listed_also_as_json():
    assert "vit_small" in insonate("models").stdout
    assert "ijepa" in json.loads(insonate("models", "--json").stdout)["objective"]


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m insonate models --json | head -c 10; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_small_phantom_fills_every_split(tmp_path, monkeypatch, capsys):
    arguments = ["--kind", "fetal", "--patients", "5", "--images-per-patient", "1", "--size", "32"]
    assert in_process(monkeypatch, tmp_path, "data", "phantom", "phantom", *arguments) == 0
    assert set(Manifest.read(tmp_path / "phantom/manifest.parquet").column("split")) == {
        "train",
        "val",
        "test",
    }
    assert "5 items" in capsys.readouterr().out


def test_a_stranger_s_class_name_moves_no_cursor(capsys):
    say("dice_\x1b[2J\u202e 0.9\nnext")
    assert capsys.readouterr().out == "dice_\\u001b[2J\\u202e 0.9\nnext\n"


def test_split_puts_each_patient_in_one_split(tmp_path):
    manifest = picture_folder(tmp_path / "data")
    done = insonate("data", "split", manifest)
    assert done.returncode == 0, done.stderr
    splits = {}
    for line in manifest.read_text().splitlines()[1:]:
        cells = line.split(",")
        splits.setdefault(cells[2], set()).add(cells[14])
    assert all(len(found) == 1 for found in splits.values())


def test_scan_writes_a_manifest_and_names_what_is_broken(tmp_path):
    picture_folder(tmp_path / "data")
    (tmp_path / "data/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (tmp_path / "data/manifest.csv").unlink()
    done = insonate("data", "scan", tmp_path / "data", "--out", tmp_path / "data/found.csv", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["items"] == 32
    assert "broken.png" in done.stderr


def held_out(manifest):
    """The first two patients validate."""
    lines = manifest.read_text().splitlines(keepends=True)
    kept = [line.replace(",train,", ",val,") if ",p0," in line or ",p1," in line else line for line in lines]
    manifest.write_text("".join(kept))
    return manifest


def strict(text):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_scores_that_are_undefined_are_null_in_json(tmp_path, monkeypatch, capsys):
    manifest = held_out(picture_folder(tmp_path / "data"))
    manifest.write_text(manifest.read_text().replace(",b\n", ",a\n"))  # no area under a curve of one class
    (tmp_path / "tiny.yaml").write_text(TRAIN.replace("val_split: null", "val_split: val"))
    assert in_process(monkeypatch, tmp_path, "train", "tiny.yaml", "--out", "run", "--json") == 0
    assert strict(capsys.readouterr().out)["metrics"]["auroc"] is None


def test_training_an_unreadable_medium_exits_with_2_and_names_it(tmp_path, monkeypatch, capsys):
    picture_folder(tmp_path / "data")
    (tmp_path / "data/5.png").write_bytes(b"no picture")
    (tmp_path / "tiny.yaml").write_text(TRAIN)
    assert in_process(monkeypatch, tmp_path, "train", "tiny.yaml", "--out", "run") == 2
    assert "5.png" in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_whole_training_prints_the_model_and_its_scores(tmp_path, monkeypatch, capsys):
    picture_folder(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(TRAIN)
    assert in_process(monkeypatch, tmp_path, "train", "tiny.yaml", "--out", "run", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (tmp_path / shown["model"] / "config.json").is_file()
    media = [f"data/{number}.png" for number in range(2)]
    (tmp_path / "data/none.png").write_bytes(b"")
    arguments = ["predict", *media, "data/none.png", "--model", shown["model"], "--out", "found", "--json"]
    assert in_process(monkeypatch, tmp_path, *arguments) == 2
    found = capsys.readouterr()
    assert [json.loads(line)["media"] for line in found.out.splitlines()] == media
    assert "none.png" in found.err


def test_the_learning_curve_is_reported_where_the_model_lies_in_its_run(tmp_path, monkeypatch, capsys):
    manifest = picture_folder(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(TRAIN)
    assert in_process(monkeypatch, tmp_path, "train", "tiny.yaml", "optim.log_every=1", "--out", "run") == 0
    manifest.write_text(manifest.read_text().replace(",train,", ",test,"))
    arguments = ["evaluate", "run/model", "data/manifest.csv", "--out", "found"]
    assert in_process(monkeypatch, tmp_path, *arguments) == 0, capsys.readouterr().err
    assert "Training loss over steps" in (tmp_path / "found/report.html").read_text("utf-8")
    (tmp_path / "run/model").rename(tmp_path / "moved")
    assert run_of("moved") is None
    assert run_of("owner/name") is None


def test_known_data_sets_are_listed_with_what_they_are(capsys, tmp_path, monkeypatch):
    assert in_process(monkeypatch, tmp_path, "data", "datasets") == 0
    lines = capsys.readouterr().out.splitlines()
    named = [line for line in lines if not line.startswith(" ")]
    assert len(named) >= 20
    assert all(len(line.split()) > 3 for line in named)
    assert sum("licence: " in line for line in lines) >= 18


@pytest.mark.slow
def test_torchrun_trains_what_one_process_does_with_twice_the_batch(tmp_path):
    picture_folder(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(TRAIN)
    alone = insonate("train", "tiny.yaml", "--out", "one", "--json", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [
        "-m",
        "insonate",
        "train",
        "tiny.yaml",
        "optim.devices=2",
        "data.batch=2",
        "--out",
        "two",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"] == pytest.approx(json.loads(alone.stdout)["metrics"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_train_what_one_does_with_twice_the_batch(tmp_path, strategy):
    manifest = picture_folder(tmp_path / "data")
    rows = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(r.replace(",train,", ",val,") if ",p7," in r else r for r in rows))
    (tmp_path / "tiny.yaml").write_text(TRAIN.replace("val_split: null", "val_split: val"))
    two = ["optim.devices=2", f"optim.strategy={strategy}", "data.batch=2"]
    shown = {}
    for name, overrides in {"one": [], "two": two}.items():
        done = insonate("train", "tiny.yaml", *overrides, "--out", name, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        shown[name] = json.loads(done.stdout)["metrics"]  # one line: only the first process reports
    assert shown["two"] == pytest.approx(shown["one"], abs=1e-4)


def test_doctor_reports_as_json(tmp_path, monkeypatch, capsys):
    code = in_process(monkeypatch, tmp_path, "doctor", "--json")
    report = json.loads(capsys.readouterr().out)
    assert {check["name"] for check in report["checks"]} >= {
        "python",
        "torch",
        "device",
        "dicom",
        "video",
        "disk",
    }
    assert code == (1 if report["status"] == "FAIL" else 0)


def test_doctor_writes_a_line_for_each_check_with_its_mend(tmp_path, monkeypatch, capsys):
    checks = [
        doctor.Check(name="device", status="PASS", detail="CPU, 2 cores; fast at 32"),
        doctor.Check(name="disk", status="WARN", detail="1.0 GB free in .", mend="Free some"),
        doctor.Check(name="write", status="FAIL", detail="read-only", mend="Go elsewhere"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda: checks)
    assert in_process(monkeypatch, tmp_path, "doctor") == 1
    assert capsys.readouterr().out.splitlines() == [
        "PASS  device         CPU, 2 cores; fast at 32",
        "WARN  disk           1.0 GB free in .  → Free some",
        "FAIL  write          read-only  → Go elsewhere",
    ]
    monkeypatch.setattr(doctor, "examine", lambda: checks[:2])
    assert in_process(monkeypatch, tmp_path, "doctor") == 0
