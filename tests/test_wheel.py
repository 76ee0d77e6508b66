"""The wheel holds all that a user needs, and works where there is no checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHECK = """
import insonate, pathlib, sys
where = pathlib.Path(insonate.__file__).resolve()
assert where.is_relative_to(pathlib.Path(sys.prefix).resolve()), where
assert (where.parent / "py.typed").is_file()
import insonate.evaluate, insonate.hub, insonate.deploy, insonate.experiments.demo
from insonate.evaluate import render_report
assert "not for clinical use" in render_report("t", [])
"""


def ran(*command, **options):
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=300, check=False, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    ran(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (wheel,) = folder.glob("insonate-*.whl")
    return wheel


@pytest.mark.slow  # builds
def test_a_wheel_works_in_an_environment_of_its_own(wheel, tmp_path):
    home = tmp_path / "venv"
    venv.create(home, with_pip=True, symlinks=True)
    python = home / "bin/python"
    ran(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    # what it requires is lent by this environment (torch alone is gigabytes); an editable install is not
    (site,) = (home / "lib").glob("python*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    ran(python, "-c", CHECK, cwd=tmp_path)
    insonate = home / "bin/insonate"
    listed = ran(insonate, "recipes", "list", cwd=tmp_path)
    assert "keypoints_hc" in listed
    assert "ijepa" in ran(insonate, "models", cwd=tmp_path)
    phantom = ["data", "phantom", "ph", "--patients", "2", "--images-per-patient", "1", "--size", "32"]
    ran(insonate, *phantom, cwd=tmp_path)
    assert "4 items" in ran(insonate, "data", "scan", "ph", "--out", "ph/m.csv", cwd=tmp_path)


@pytest.mark.slow  # builds
def test_a_wheel_says_what_it_requires_and_holds_no_tests(wheel):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        told = Parser().parsestr(archive.read(metadata).decode())
    required = [line for line in told.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(line.replace(" ", "") for line in required) == sorted(project["dependencies"])
    assert all(name.startswith(("insonate/", "insonate-")) for name in names)
    assert {"LICENSE", "NOTICE"} <= {Path(name).name for name in names}
    assert all(
        f"insonate/recipes/{path.name}" in names for path in (ROOT / "src/insonate/recipes").glob("*.yaml")
    )
    shipped = [path for path in (ROOT / "src/insonate/shipped_models").rglob("*") if path.is_file()]
    assert all(path.relative_to(ROOT / "src").as_posix() in names for path in shipped)
