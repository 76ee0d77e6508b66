"""The study on real ultrasound, on a few items of each data set, from the command to its report."""

from __future__ import annotations

import json
import re
import sys

import pytest

from insonate.data import Manifest
from insonate.experiments import real_data

EACH = {"hc18_landmarks": 24, "camus_4ch": 200, "pocus_lung_videos": 12}
"""rows of a split; of CAMUS a tenth of the patients must fill a batch"""
LISTS = {"hc18_landmarks": "landmarks.csv", "camus_4ch": "metadata.csv", "pocus_lung_videos": "videos.csv"}


def few(data, out):
    """Links to the data sets, with some of the rows of their lists: the first of each split that is named."""
    for name, listed in LISTS.items():
        (out / name).mkdir(parents=True)
        for path in (data / name).iterdir():
            if path.name != listed:
                (out / name / path.name).symlink_to(path)
        head, *rows = (data / name / listed).read_text("utf-8-sig").splitlines()
        splits = [next(iter(re.findall(r",(train|Train|val|test|Test),", row)), "") for row in rows]
        kept = [row for i, row in enumerate(rows) if splits[:i].count(splits[i]) < EACH[name]]
        (out / name / listed).write_text("\n".join([head, *kept]) + "\n")
    return out


@pytest.mark.slow
def test_real_ultrasound_goes_the_whole_way_to_the_report(shared_data, tmp_path, monkeypatch, capsys):
    data = few(shared_data, tmp_path / "few")
    monkeypatch.setattr(sys, "argv", ["real_data", str(data), str(tmp_path / "out"), "--quick"])
    real_data.main()
    report = tmp_path / "out/report.html"
    assert capsys.readouterr().out.strip() == str(report)
    html = report.read_text("utf-8")
    titles = re.findall("<h2>(.*?)</h2>", html)
    assert titles[:3] == ["Data", "Does pretraining help?", "Pretraining"]
    assert [title.partition(":")[0] for title in titles[3:]] == [
        "HC18 keypoints", "CAMUS segmentation", "CAMUS phase",
    ]  # fmt: skip
    assert "Synthetic data" not in html
    assert html.count("data:image/png") >= 12  # best, median and worst of each
    arms = json.loads((tmp_path / "out/study.json").read_text())
    assert len(arms) == 12
    assert all(arm["low"] <= arm["value"] <= arm["high"] for arm in arms)
    assert {row["site"] for row in Manifest.read(tmp_path / "out/data/unlabelled.parquet").rows} == {
        "HC18", "CAMUS", "POCUS",
    }  # fmt: skip


def test_a_missing_data_set_is_named_with_all_that_are_needed(tmp_path, monkeypatch, capsys):
    (tmp_path / "data/camus_4ch").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["real_data", str(tmp_path / "data"), str(tmp_path / "out")])
    with pytest.raises(SystemExit) as left:
        real_data.main()
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "hc18_landmarks" in told
    assert not (tmp_path / "out").exists()
