"""The doctor: each finding has a mend, a broken library is a finding, nothing is left or sent."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from insonate.data import capabilities
from insonate.deploy import doctor
from insonate.models import precision


def by_name(checks):
    return {check.name: check for check in checks}


def test_every_finding_that_is_not_fine_says_what_to_do(tmp_path):
    checks = doctor.examine(tmp_path)
    assert all(check.mend for check in checks if check.status != "PASS")
    assert by_name(checks)["write"].status == "PASS"
    assert not any(tmp_path.iterdir())


def test_a_library_that_breaks_is_reported_and_the_rest_goes_on(tmp_path, monkeypatch):
    def broken():
        raise OSError("libavutil.so.60: cannot open shared object file")

    monkeypatch.setattr(capabilities, "video_codecs", broken)
    checks = by_name(doctor.examine(tmp_path))
    assert checks["video"].status == "FAIL"
    assert "libavutil" in checks["video"].detail
    assert checks["disk"].status in {"PASS", "WARN"}


def test_a_syntax_without_decoder_is_named_with_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr(capabilities, "dicom_syntaxes", lambda: {"RLE": True, "JPEG lossless": False})
    check = by_name(doctor.examine(tmp_path))["dicom"]
    assert check.status == "WARN"
    assert "not: JPEG lossless" in check.detail
    assert 'pip install "insonate[dicom]"' in check.mend


def test_a_folder_that_cannot_be_written_is_a_fail(tmp_path):
    checks = by_name(doctor.examine(tmp_path))
    assert checks["write"].status == "PASS"
    assert doctor._guarded("write", lambda: doctor._write(tmp_path / "missing")).status == "FAIL"


@pytest.mark.parametrize(("unit", "told"), [("amx_bf16", "bf16 (amx_bf16)"), ("", "fp32")])
def test_the_device_line_tells_what_auto_trains_in(tmp_path, monkeypatch, unit, told):
    monkeypatch.setattr(precision, "bf16_unit", lambda: unit)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert by_name(doctor.examine(tmp_path))["device"].detail.endswith(f"fast at precision {told}")


def test_little_free_disk_is_a_warning_with_what_is_free(tmp_path, monkeypatch):
    for free, status in ((4.9e9, "WARN"), (5.1e9, "PASS")):
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        check = doctor._disk(tmp_path)
        assert check.status == status
        assert f"{free / 1e9:.1f} GB free in {tmp_path}" in check.detail
        assert ("Free some" in check.mend) == (status == "WARN")


def test_the_device_is_told_with_the_precision_it_is_fast_at(tmp_path):
    check = by_name(doctor.examine(tmp_path))["device"]
    assert re.search(r"(cores|GiB\)); fast at \S", check.detail)


def test_the_hub_token_is_neither_read_nor_printed(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_SECRET")
    check = by_name(doctor.examine(tmp_path))["hub token"]
    assert check.detail == "present"


def test_uncompressed_and_rle_dicom_are_always_decodable():
    syntaxes = capabilities.dicom_syntaxes()
    assert syntaxes["explicit VR little endian"]
    assert syntaxes["RLE"]
