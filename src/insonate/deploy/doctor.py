"""Checks of this machine: what works, what does not, and the line that mends it. No network is used.

Each check is a function that returns a `Check`; one that breaks is reported as FAIL and the rest go on.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

from insonate.errors import InsonateError, one_line
from insonate.files import atomic_write

Status = Literal["PASS", "WARN", "FAIL"]
FREE_GB = 5.0
"""below this the disk is reported: a run keeps two checkpoints and a model"""
EXTRAS = {
    "dicom": ("imagecodecs", "lossless and 12-bit JPEG and JPEG XL in DICOM"),
    "ray": ("ray", "data scan, deidentify and shard on a Ray cluster"),
    "slurm": ("submitit", "runs on SLURM"),
    "export": ("openvino", "models as graphs that run without torch"),
    "sr": ("highdicom", "DICOM structured reports"),
}
"""extra → module that it brings, and what it is for"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding."""

    name: str
    status: Status
    detail: str
    mend: str = ""
    """what to do; empty where all is well"""

    def to_dict(self) -> dict[str, str]:
        """JSON-ready."""
        return asdict(self)


def examine(folder: Path | None = None) -> list[Check]:
    """All checks; disk and writing are tried in `folder` (the current one)."""
    folder = folder or Path.cwd()
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("python", _python),
        ("packages", _packages),
        ("torch", _torch),
        ("device", _device),
        ("dicom", _dicom),
        ("video", _video),
        *((f"extra {name}", _extra(name)) for name in EXTRAS),
        ("disk", lambda: _disk(folder)),
        ("write", lambda: _write(folder)),
        ("hub token", _hub_token),
    ]
    return [_guarded(name, check) for name, check in checks]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # noqa: BLE001  a broken library is a finding, whatever it raises
        detail = one_line(f"{type(error).__name__}: {error}")
        return Check(name=name, status="FAIL", detail=detail, mend="pip install --force-reinstall insonate")


def _python() -> Check:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check(name="python", status="PASS", detail=text)


def _packages() -> Check:
    """The required distributions are there (their versions are pip's business)."""
    try:
        own = version("insonate")
    except PackageNotFoundError:
        detail = "insonate runs from its source folder; its requirements are not known"
        return Check(name="packages", status="WARN", detail=detail, mend="pip install -e .")
    missing = []
    for line in requires("insonate") or []:
        if "extra ==" in line:
            continue
        name = line.split(";")[0].split(">")[0].split("=")[0].split("<")[0].strip()
        try:
            version(name)
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        mend = f"pip install {' '.join(missing)}"
        return Check(name="packages", status="FAIL", detail=f"missing: {', '.join(missing)}", mend=mend)
    return Check(name="packages", status="PASS", detail=f"insonate {own} and all that it requires")


def _torch() -> Check:
    import torch

    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "for CPU"
    return Check(name="torch", status="PASS", detail=f"{torch.__version__} built {built}")


def _device() -> Check:
    import torch

    from insonate.models.precision import fast_precision

    fast = fast_precision()
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        shown = ", ".join(f"{p.name} ({p.total_memory / 2**30:.0f} GiB)" for p in names)
        return Check(name="device", status="PASS", detail=f"{shown}; fast at precision {fast.precision}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    unit = f" ({fast.unit})" if fast.unit else ""
    detail = f"CPU, {cores} cores; fast at precision {fast.precision}{unit}"
    if shutil.which("nvidia-smi"):
        mend = "Install the CUDA build of torch: https://pytorch.org/get-started/locally"
        return Check(
            name="device", status="WARN", detail=f"{detail}; a GPU driver is there, unused", mend=mend
        )
    return Check(name="device", status="PASS", detail=detail)


def _dicom() -> Check:
    from insonate.data.capabilities import dicom_syntaxes

    return _decoders("dicom", dicom_syntaxes(), "transfer syntaxes", 'pip install "insonate[dicom]"')


def _video() -> Check:
    from insonate.data.capabilities import video_codecs

    return _decoders("video", video_codecs(), "codecs", "pip install --force-reinstall av")


def _decoders(name: str, able: dict[str, bool], what: str, mend: str) -> Check:
    missing = [one for one, there in able.items() if not there]
    detail = f"{len(able) - len(missing)} of {len(able)} {what} decodable"
    if missing:
        return Check(name=name, status="WARN", detail=f"{detail}; not: {', '.join(missing)}", mend=mend)
    return Check(name=name, status="PASS", detail=f"{detail}: {', '.join(able)}")


def _extra(name: str) -> Callable[[], Check]:
    module, purpose = EXTRAS[name]

    def check() -> Check:
        if importlib.util.find_spec(module):
            return Check(name=f"extra {name}", status="PASS", detail=f"installed ({purpose})")
        mend = f'Only if needed: pip install "insonate[{name}]"'
        return Check(name=f"extra {name}", status="WARN", detail=f"not installed ({purpose})", mend=mend)

    return check


def _disk(folder: Path) -> Check:
    free_gb = shutil.disk_usage(folder).free / 1e9
    detail = f"{free_gb:.1f} GB free in {folder}"
    if free_gb < FREE_GB:
        return Check(
            name="disk", status="WARN", detail=detail, mend=f"Free some: a run may need {FREE_GB:.0f} GB"
        )
    return Check(name="disk", status="PASS", detail=detail)


def _write(folder: Path) -> Check:
    mend = "Go to a folder that you may write in, or mend its permissions"
    try:
        with tempfile.TemporaryDirectory(prefix=".insonate-doctor-", dir=folder) as scratch:
            read_back = atomic_write(Path(scratch) / "probe", b"probe" * 1000).read_bytes()
    except (OSError, InsonateError) as error:
        return Check(name="write", status="FAIL", detail=one_line(error), mend=mend)
    if read_back != b"probe" * 1000:
        return Check(name="write", status="FAIL", detail="what was written reads back differently", mend=mend)
    return Check(name="write", status="PASS", detail=f"files can be written in {folder}")


def _hub_token() -> Check:
    """Only whether a token is there: it is neither read nor sent."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    token = Path(os.environ.get("HF_TOKEN_PATH") or home / "token")
    there = bool(os.environ.get("HF_TOKEN")) or token.is_file()
    detail = "present" if there else "none (needed only to push models or to read private ones)"
    return Check(name="hub token", status="PASS", detail=detail)


def summary(checks: list[Check]) -> dict[str, Any]:
    """JSON-ready: the worst status, and each check."""
    order = ("PASS", "WARN", "FAIL")
    worst = max((check.status for check in checks), key=order.index)
    return {"status": worst, "checks": [check.to_dict() for check in checks]}
