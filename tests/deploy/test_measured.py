"""What is said about a medium, on points that are known: stills, loops, studies, reports and bad input."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydicom import dcmread

from insonate.cli import main
from insonate.data.media import probe, read_frames, write_dicom, write_png, write_video
from insonate.data.sample import Meta
from insonate.data.spacing import Region, Spacing, Step
from insonate.data.structured_report import Measurements, write_report
from insonate.deploy import predict_media
from insonate.deploy.measured import NO_ECHOES, NO_SCALE, Known, said_about, trace_of
from insonate.deploy.predict import FileResult
from insonate.deploy.reporting import calipers_of
from insonate.deploy.sources import media_below
from insonate.deploy.study import studies_of
from insonate.errors import InsonateError, ModelError
from insonate.hub import Model
from insonate.measure.points import MEASURED, measure
from insonate.measure.quantity import quantity
from insonate.measure.ventricle import bsa_mosteller
from insonate.models import build_backbone, build_part
from insonate.tasks import build_task
from insonate.tasks.base import Prediction

VIT = {"name": "vit", "input_size": [32, 32], "patch": 8, "width": 16, "depth": 1, "heads": 2}
SPACING = Spacing(row_mm=0.5, col_mm=0.5)
HEAD = np.array([[48.0, 10.0], [48.0, 70.0], [88.0, 40.0], [8.0, 40.0]])


def noise(frames=1, hw=(80, 96), seed=0):
    return np.random.default_rng(seed).integers(0, 255, (frames, *hw)).astype(np.uint8)


def found(task, points, frame=0, spacing=SPACING, sure=0.9, hw=(80, 96)):
    points = np.asarray(points, dtype=float)
    return Prediction(
        task=task, kind="keypoints", value=points, confidence=np.full(len(points), sure),
        meta=Meta(item_id="x", original_hw=hw, spacing=spacing, frame=frame),
        names=tuple(f"p{i}" for i in range(len(points))),
        measurements=measure(MEASURED[task], points, spacing),
    )  # fmt: skip


def vein(width, frame, **more):
    return found("IVC", [[40, 40 - width / 2], [40, 40 + width / 2]], frame, **more)


@pytest.fixture
def still(tmp_path):
    return write_png(tmp_path / "still.png", noise()[0])


@pytest.fixture
def loop(tmp_path):
    return write_video(tmp_path / "loop.mp4", noise(6), fps=10)


def test_a_still_has_its_measurements_and_centiles_where_the_age_is_known(still):
    plain = said_about(still, [found("HC", HEAD)], Known())
    assert plain.quantities["bpd_mm"].value == pytest.approx(30)
    assert not [name for name in plain.quantities if "centile" in name]
    aged = said_about(still, [found("HC", HEAD)], Known(ga_weeks=16.0))
    assert aged.quantities["hc_centile_percent"].value > 0
    assert aged.shown.measurements["hc_centile_percent"] == aged.quantities["hc_centile_percent"]
    assert aged.warnings == ()


def test_without_a_spacing_lengths_are_in_pixels_and_it_says_so(still):
    said = said_about(still, [found("HC", HEAD, spacing=None)], Known(ga_weeks=20.0))
    assert set(said.quantities) == {"hc_px", "bpd_px", "ofd_px"}
    assert said.warnings == (NO_SCALE,)
    told = said_about(still, [found("HC", HEAD, spacing=None)], Known(spacing=SPACING))
    assert told.quantities["bpd_mm"].value == pytest.approx(30)
    assert told.warnings == ()


def test_what_is_doubtful_is_told_once(tmp_path, still, loop):
    dark = write_png(tmp_path / "dark.png", np.zeros((80, 96), np.uint8))
    assert said_about(dark, [found("HC", HEAD)], Known()).warnings == (NO_ECHOES,)
    beyond = HEAD + np.array([0, 15])
    assert said_about(still, [found("HC", beyond)], Known()).warnings == ("outside the picture: p1",)
    step = Step(per_px=0.5, unit="mm")
    half = Region(name="2d", box=(0, 0, 60, 80), across=step, down=step)
    dual = found("HC", HEAD)
    dual = replace(dual, meta=replace(dual.meta, regions=(half,)))
    assert said_about(still, [dual], Known()).warnings == ("outside the region that the file calibrates: p2",)
    frames = [vein(10, i) for i in range(5)] + [replace(vein(10, 5), warnings=("no clear place for p0",))]
    assert said_about(loop, frames, Known()).warnings == ("no clear place for p0 (1 of 6 frames)",)


def test_a_loop_of_a_vein_gives_collapse_pressure_and_a_trace(loop):
    widths = [24, 30, 32, 24, 14, 20]
    said = said_about(loop, [vein(w, i) for i, w in enumerate(widths)], Known())
    assert said.frames == {"widest": 2, "narrowest": 4}
    assert said.shown.meta.frame == 2
    assert said.quantities["ivc_collapse_percent"].value == pytest.approx(100 * 18 / 32)
    assert said.quantities["rap_mmhg"].value == 3
    assert trace_of(loop, said, probe(loop)).width > 700
    assert trace_of(loop, said_about(loop, [vein(10, 0)], Known()), probe(loop)) is None


def test_a_beating_ventricle_gives_function_and_indices(loop):
    def heart(lv, frame):
        points = np.full((22, 2), 40.0)
        points[1] = points[0] + (0, lv)
        points[5], points[7] = points[4] + (0, 18), points[6] + (0, 18)
        return found("PLAX", points, frame, hw=(200, 200))

    frames = [heart(lv, i) for i, lv in enumerate((90, 96, 80, 64, 70, 88))]
    said = said_about(loop, frames, Known(bsa=bsa_mosteller(170, 65)))
    assert said.frames == {"diastole": 1, "systole": 3}
    assert said.quantities["lv_fs_percent"].value == pytest.approx(100 / 3)
    assert said.quantities["lv_mass_index_g_per_m2"].value > 0
    calipers = {one.name: one for one in calipers_of(said)}
    assert (calipers["lv_diastole_mm"].frame, calipers["lv_systole_mm"].frame) == (1, 3)
    assert calipers["ivs_diastole_mm"].value == pytest.approx(9)
    assert calipers["ef_percent"].points_xy is None
    assert "lv_mm" not in calipers


def test_smoothing_passes_over_a_frame_that_went_astray(loop):
    frames = [vein(20, i) for i in range(6)]
    frames[3] = found("IVC", [[40, 2], [40, 78]], 3)
    rough = said_about(loop, frames, Known()).quantities["ivc_widest_mm"].value
    smooth = said_about(loop, frames, Known(smooth=5)).quantities["ivc_widest_mm"].value
    assert (rough, smooth) == (38, pytest.approx(10, abs=0.2))


def test_a_dicom_still_becomes_a_report_with_its_ellipse(tmp_path):
    path = write_dicom(
        tmp_path / "a.dcm", noise(), spacing=SPACING, frame_time_ms=None, patient_id="p", study_id="s",
        series_id="1", vendor="v", item_id="a",
    )  # fmt: skip
    said = said_about(path, [found("HC", HEAD)], Known(ga_weeks=16.0))
    pytest.importorskip("highdicom", reason="needs the extra sr (highdicom)")
    group = Measurements(path=path, title="HC", calipers=calipers_of(said))
    assert len({one.name for one in group.calipers}) == len(said.quantities)
    report = str(dcmread(write_report(tmp_path / "sr.dcm", [group], model="m", version="1")))
    assert "Head Circumference" in report
    assert "ELLIPSE" in report


def result(task, name, value, folder, sure=0.9):
    size = {name: quantity(name, value)}
    points = np.zeros((2, 2))
    prediction = Prediction(
        task=task, kind="keypoints", value=points, confidence=np.full(2, sure),
        meta=Meta(item_id="x", original_hw=(8, 8)),
    )  # fmt: skip
    return FileResult(
        media=folder / f"{task}{value}.png", task=task, predictions=(prediction,), quantities=size
    )


def test_head_abdomen_and_femur_of_a_study_tell_age_and_weight(tmp_path):
    results = [
        result("HC", "hc_mm", 295.0, tmp_path / "a"), result("FA", "ac_mm", 280.0, tmp_path / "a"),
        result("fetal_femur", "fl_mm", 62.0, tmp_path / "a"),
        result("HC", "hc_mm", 200.0, tmp_path / "a", 0.1),
        result("HC", "hc_mm", 100.0, tmp_path / "b"), result("IVC", "ivc_mm", 10.0, tmp_path / "a"),
    ]  # fmt: skip
    (study,) = studies_of(results, 32.0)
    assert len(study.media) == 3
    assert study.quantities["efw_hadlock_g"].value == pytest.approx(1913.0, abs=0.1)
    assert study.quantities["ga_hadlock_weeks"].value == pytest.approx(31.823, abs=1e-3)
    assert study.quantities["ac_centile_percent"].value > 0
    json.dumps(study.to_dict(), allow_nan=False)


def test_a_folder_gives_its_media_but_not_the_results(tmp_path):
    out = tmp_path / "predictions"
    for path in (tmp_path / "b.png", tmp_path / "deep" / "a.png", out / "x.png", tmp_path / ".h" / "c.png"):
        write_png(path, noise()[0])
    (tmp_path / "notes.txt").write_text("no medium")
    assert media_below([tmp_path, tmp_path / "b.png"], but=out) == [
        tmp_path / "b.png", tmp_path / "deep" / "a.png",
    ]  # fmt: skip
    (tmp_path / "empty").mkdir()
    with pytest.raises(InsonateError, match="holds no media"):
        media_below([tmp_path / "empty"], but=out)


@pytest.fixture
def points_model():
    torch.manual_seed(0)
    backbone = build_backbone(VIT)
    options = {"name": "keypoints", "column": "HC", "points": "HC", "head_width": 8}
    return Model(backbone, build_task(backbone, options))


def with_views(model, bias, classes=("HC", "other")):
    options = {"name": "linear_probe", "width": 16, "outputs": len(classes), "classes": list(classes)}
    head = build_part(options)
    torch.nn.init.zeros_(head.final.weight)
    head.final.bias.data = torch.tensor(bias)
    model.parts["view"] = (options, head.eval())
    return model


def test_auto_takes_the_task_that_is_seen_and_says_how_sure_it_is(points_model, still, tmp_path):
    (chosen,) = predict_media([still], with_views(points_model, [2.0, 0.0]), tmp_path / "o", task="auto")
    assert (chosen.task, chosen.chance) == ("HC", pytest.approx(0.881, abs=1e-3))
    assert json.loads(chosen.json_path.read_text())["task_chance"] == pytest.approx(0.881, abs=1e-3)


def test_auto_abstains_where_it_is_unsure_or_sure_of_nothing(points_model, still, tmp_path):
    unsure, other = with_views(points_model, [0.2, 0.0]), [0.0, 3.0]
    (one,) = predict_media([still], unsure, tmp_path / "o", task="auto")
    assert "may be of HC 0.55, other 0.45" in one.error
    (one,) = predict_media([still], with_views(points_model, other), tmp_path / "o", task="auto")
    assert "is no view that a task fits (other 0.95" in one.error
    assert not list(tmp_path.glob("o/*"))


def test_auto_needs_a_classifier_of_views(points_model, still, tmp_path):
    with pytest.raises(ModelError, match="no classifier of views"):
        list(predict_media([still], points_model, tmp_path / "o", task="auto"))
    model = with_views(points_model, [0.0, 0.0], ("liver", "spleen"))
    with pytest.raises(ModelError, match="names none of its tasks"):
        list(predict_media([still], model, tmp_path / "o", task="auto"))


def test_a_folder_with_points_without_a_peak_gives_json_that_all_readers_take(points_model, still, tmp_path):
    (told,) = predict_media([still], points_model, tmp_path / "o")
    text = told.json_path.read_text()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert content["spacing_mm"] is None
    assert content["predictions"][0]["value_mm"] is None
    assert NO_SCALE in content["warnings"]
    assert read_frames(told.overlay_path).shape[2] >= 480


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ga", "99w"], "4 to 45 weeks"),
        (["--ga", "soon"], "4 to 45 weeks"),
        (["--spacing", "0"], "size of a pixel"),
        (["--spacing", "a,b"], "size of a pixel"),
        (["--body", "170"], "height and weight"),
        (["--smooth", "4"], "no middle"),
        (["--sr", "report.txt"], "does not end in .dcm"),
    ],
)
def test_options_that_cannot_be_are_one_line_before_any_work(still, monkeypatch, capsys, arguments, said):
    monkeypatch.setattr("sys.argv", ["insonate", "predict", str(still), "--model", "none", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_the_command_measures_with_age_and_scale(points_model, still, tmp_path, monkeypatch, capsys):
    head = points_model.task.head
    monkeypatch.setattr(type(head), "forward", lambda self, tokens: peaked(len(tokens.patch)))
    folder = points_model.save_pretrained(tmp_path / "model")
    options = ["--model", str(folder), "--out", str(tmp_path / "o"), "--ga", "20w3d", "--spacing", "1.5"]
    monkeypatch.setattr("sys.argv", ["insonate", "predict", str(tmp_path / "still.png"), *options])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    shown = capsys.readouterr()
    assert "HC centile" in shown.out
    assert "GA " in shown.out
    assert not shown.err


def test_the_command_reports_on_the_dicom_files_of_one_study(
    points_model, still, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("highdicom", reason="needs the extra sr (highdicom)")
    monkeypatch.setattr(
        type(points_model.task.head), "forward", lambda self, tokens: peaked(len(tokens.patch))
    )
    folder = points_model.save_pretrained(tmp_path / "model")
    facts = {"spacing": Spacing(row_mm=1.5, col_mm=1.5), "patient_id": "p", "study_id": "s", "series_id": "1"}
    for name, frames in (("a", 1), ("b", 3)):
        time = {"frame_time_ms": 40.0 if frames > 1 else None}
        write_dicom(still.parent / f"{name}.dcm", noise(frames), vendor="v", item_id=name, **facts, **time)

    def run(*media):
        words = [
            *map(str, media),
            "--model",
            str(folder),
            "--out",
            str(tmp_path / "o"),
            "--sr",
            str(tmp_path / "r.dcm"),
        ]
        monkeypatch.setattr("sys.argv", ["insonate", "predict", *words])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code, capsys.readouterr().err

    code, told = run(still, still.parent / "a.dcm", still.parent / "b.dcm")
    assert not code
    assert "still.png: is no DICOM file, and left out of the report" in told
    report = dcmread(tmp_path / "r.dcm")
    assert report.StudyInstanceUID == dcmread(still.parent / "a.dcm").StudyInstanceUID
    assert str(report).count("ELLIPSE") == 2
    code, told = run(still)
    assert code == 2
    assert "there is no measurement to report" in told


def peaked(count):
    """Maps with one clear cell each, as for the head of a fetus."""
    maps = torch.zeros(count, 4, 16, 16)
    for point, (row, column) in enumerate(((2, 8), (13, 8), (8, 14), (8, 1))):
        maps[:, point, row, column] = 20
    return maps
