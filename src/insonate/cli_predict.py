"""`insonate predict` and `models view`: parse, call, print."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from insonate.cli_parts import AsJson, say, warn
from insonate.errors import InsonateError, one_line

if TYPE_CHECKING:
    from insonate.data.spacing import Spacing
    from insonate.deploy.measured import Known
    from insonate.deploy.portable import Settings
    from insonate.deploy.predict import FileResult
    from insonate.measure.quantity import Quantity

AGE = re.compile(r"(\d{1,2})(?:\s*(?:w|\+|weeks?)\s*(?:([0-6])\s*d?)?|(\.\d+))?")
AGE_WEEKS = (4.0, 45.0)


def predict(
    media: Annotated[list[Path], typer.Argument(help="DICOM, video or image files, or folders of them")],
    model: Annotated[
        str | None, typer.Option(help="model folder, exported folder or hub id; else the one that came along")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the results")] = Path("predictions"),
    task: Annotated[
        str | None, typer.Option(help="where the model has several; auto: by the view that it sees")
    ] = None,
    least: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="chance of a view, below which auto chooses no task")
    ] = 0.6,
    ga: Annotated[
        str | None, typer.Option(help="known gestational age, 32w4d or 32.6: gives centiles")
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(help="mm per pixel of media that tell none: 0.12, or ROW,COLUMN")
    ] = None,
    smooth: Annotated[
        int, typer.Option(min=0, max=1001, help="frames over which points of a loop are smoothed; 0: not")
    ] = 0,
    body: Annotated[
        str | None, typer.Option(help="height in cm, weight in kg: 170,65; gives indices of the heart")
    ] = None,
    sr: Annotated[
        Path | None,
        typer.Option(help="also a DICOM structured report (TID 1500) here, of media of one study"),
    ] = None,
    no_tta: Annotated[bool, typer.Option("--no-tta", help="without the mirrored image; faster")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a file on stdout")] = False,
) -> None:
    """Measure media with a trained model; without torch, with its exported form.

    Writes JSON and an overlay picture for each file, masks where it segments, a trace of a loop of IVC, PLAX
    or A4C, and study.json where several pictures tell age and weight of a fetus.
    """
    from insonate.deploy.portable import Settings
    from insonate.deploy.serving import server_of

    model, exported = server_of(model)
    if exported:
        asked = {"--ga": ga, "--smooth": smooth, "--body": body, "--sr": sr}
        unserved = [name for name, value in asked.items() if value]
        scale = None if spacing is None else _spacing(spacing)
        settings = Settings(task=task, least=least, spacing=scale, tta=not no_tta)
        return _predict_exported(media, model, out, unserved, settings, as_json=as_json)
    known = _known(ga, spacing, smooth, body)
    if sr is not None and sr.suffix.lower() != ".dcm":
        raise InsonateError("--sr", f"{sr.name!r} does not end in .dcm", "Give a file name such as sr.dcm")
    from insonate.deploy import predict_media
    from insonate.deploy.sources import media_below
    from insonate.files import atomic_write
    from insonate.hub import to_json
    from insonate.progress import tracked

    results: list[FileResult] = []
    paths = media_below(media, but=out)
    for result in predict_media(
        paths, model, out, tta=not no_tta, task=task, known=known, least=least, track=tracked
    ):
        _show(result, as_json=as_json)
        results.append(replace(result, predictions=()) if result.mask_paths else result)  # masks are large
    good = [result for result in results if result.error is None]
    from insonate.deploy.study import studies_of

    studies = studies_of(good, known.ga_weeks)
    if studies:
        path = atomic_write(out / "study.json", to_json([study.to_dict() for study in studies]))
        for study in studies if not as_json else ():
            say(f"{len(study.media)} media together: {_told(study.quantities)} → {path}")
    if sr is not None:
        _report(good, sr, model)
    raise typer.Exit(2 if len(good) < len(results) else 0)


def _predict_exported(
    media: list[Path],
    model: str,
    out: Path,
    unserved: list[str],
    settings: Settings,
    *,
    as_json: bool,
) -> None:
    """The same with a folder of `insonate export`, without torch."""
    from insonate.deploy.portable import predict_exported
    from insonate.deploy.sources import media_below

    if unserved:
        raise InsonateError(
            model, f"an exported model serves no {', '.join(unserved)}", "Use the model folder, with torch"
        )
    failed = 0
    for result in predict_exported(media_below(media, but=out), model, out, settings):
        if result.error is not None:
            failed += 1
            warn(one_line(result.error))
        elif as_json and result.json_path is not None:
            say(json.dumps(json.loads(result.json_path.read_text("utf-8"))))
        else:
            say(f"{result.media}: {result.text} → {result.json_path}")
    raise typer.Exit(2 if failed else 0)


def view(
    model: Annotated[str, typer.Argument(help="model folder or hub id")],
    manifest: Annotated[Path, typer.Argument(help="manifest with points_set, split by patient")],
    out: Annotated[Path, typer.Option("--out", "-o", help="model folder to write; may be the same")],
    least: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="chance for which the share of answers is told")
    ] = 0.6,
    as_json: AsJson = False,
) -> None:
    """Give a model a classifier of views, for predict --task auto.

    A linear layer on the frozen encoder, fitted to the training rows; how sure it is, to those of val.
    """
    from insonate.data import Manifest
    from insonate.files import writable
    from insonate.hub import load
    from insonate.hub.plain import plain
    from insonate.hub.view_head import fit_view
    from insonate.progress import tracked

    writable(out)
    rows, loaded = Manifest.read(manifest), load(model)
    fit = fit_view(loaded, rows, least=least, track=tracked)
    loaded.save_pretrained(out)
    if as_json:
        say(json.dumps(plain(asdict(fit)), allow_nan=False))
        return
    say(f"{out}: {', '.join(fit.classes)}, fitted to {fit.rows} rows")
    say(f"of {fit.validated} rows of val {fit.accuracy:.1%} are right")
    if fit.answered > 0:
        say(f"and {fit.right:.1%} of the {fit.answered:.1%} that are at least {least:g} sure")


def _show(result: FileResult, *, as_json: bool) -> None:
    """What came of a file: on stdout, its error and warnings on stderr."""
    from insonate.hub.plain import plain

    if result.error is not None:
        warn(one_line(result.error))
        return
    for warning in result.warnings:
        warn(f"{one_line(result.media)}: {one_line(warning)}")
    if as_json:
        shown = {
            "media": result.media, "json": result.json_path, "overlay": result.overlay_path,
            "trace": result.trace_path, "masks": result.mask_paths, "task": result.task,
            "task_chance": result.chance, "warnings": result.warnings,
            "measurements": {name: one.to_dict() for name, one in result.quantities.items()},
            "predictions": [found.to_dict() for found in result.predictions],
        }  # fmt: skip
        say(json.dumps(plain(shown), allow_nan=False))
        return
    chosen = "" if result.chance is None else f"{result.task} ({result.chance:.2f}): "
    first, frames = result.predictions[0], len(result.predictions)
    several = f"{frames} frames: " if frames > 1 and result.quantities else ""
    several = f"{frames} frames, the first: " if frames > 1 and not result.quantities else several
    told = _told(result.quantities) if result.quantities else first.text()
    say(f"{result.media}: {chosen}{several}{told} → {result.json_path}")


def _told(quantities: dict[str, Quantity]) -> str:
    from insonate.measure.overlay import told

    return ", ".join(told(name, one) for name, one in quantities.items())


def _report(good: list[FileResult], sr: Path, model: str) -> None:
    """One structured report on all DICOM media of the command.

    Raises:
        InsonateError: nothing was measured, or the media cannot be reported on together.
    """
    from insonate import __version__
    from insonate.data.media import probe
    from insonate.data.structured_report import Measurements, write_report

    groups = []
    for one in good:
        if probe(one.media).kind != "dicom":
            warn(f"{one_line(one.media)}: is no DICOM file, and left out of the report")
            continue
        title = f"{one.task} {one.media.stem}"
        groups.append(Measurements(path=one.media, title=title, calipers=one.calipers))
    path = write_report(sr, groups, model=Path(model).name or model, version=__version__)
    warn(f"{path}: structured report")


def _known(ga: str | None, spacing: str | None, smooth: int, body: str | None) -> Known:
    """What the options tell, checked before anything is loaded.

    Raises:
        InsonateError: one of them cannot be.
    """
    if smooth and (smooth < 3 or smooth % 2 == 0):
        raise InsonateError(
            "--smooth", f"{smooth} frames have no middle", "Give an odd number from 3 on, or 0"
        )
    ga_weeks = None if ga is None else _age(ga)
    scale = None if spacing is None else _spacing(spacing)
    bsa = None if body is None else _surface(body)
    from insonate.deploy.measured import Known

    return Known(ga_weeks=ga_weeks, bsa=bsa, spacing=scale, smooth=smooth)


def _age(text: str) -> float:
    found = AGE.fullmatch(text.strip())
    weeks = float("nan") if found is None else float(f"{found[1]}{found[3] or ''}") + int(found[2] or 0) / 7
    if not AGE_WEEKS[0] <= weeks <= AGE_WEEKS[1]:
        raise InsonateError("--ga", f"{text[:40]!r} is no age of 4 to 45 weeks", "Give it as 32w4d or 32.6")
    return weeks


def _spacing(text: str) -> Spacing:
    from insonate.data.spacing import spacing_or_none

    numbers = _numbers(text)
    found = spacing_or_none(numbers[0], numbers[-1]) if 1 <= len(numbers) <= 2 else None
    if found is None:
        raise InsonateError("--spacing", f"{text[:40]!r} is no size of a pixel", "Give mm, such as 0.12")
    return found


def _surface(text: str) -> Quantity:
    from insonate.measure.ventricle import bsa_mosteller

    numbers = _numbers(text)
    if len(numbers) != 2 or min(numbers) <= 0:
        raise InsonateError(
            "--body", f"{text[:40]!r} is no height and weight", "Give cm and kg, such as 170,65"
        )
    return bsa_mosteller(*numbers)


def _numbers(text: str) -> list[float]:
    """Numbers with commas between; none where one of them is not finite."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        return []
    return found if all(math.isfinite(number) for number in found) else []
