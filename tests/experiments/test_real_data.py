"""The study on real ultrasound, from its command."""

from __future__ import annotations

import sys

import pytest

from insonate.experiments import real_data


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
