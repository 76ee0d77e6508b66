"""`insonate data …`: parse, call, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from insonate.cli_parts import PLAIN, AsJson, say, warn
from insonate.errors import InsonateError, ManifestError, nearest, one_line

AnyWorkers = Annotated[int | None, typer.Option(min=1, max=1024, help="processes; one a core unless given")]
AnyEngine = Annotated[
    Literal["processes", "ray"], typer.Option(help="processes of this machine, or a Ray cluster")
]
AnyPrivate = Annotated[
    Path | None, typer.Option(help="for what leads back to the originals; else OUT.private")
]
AnyKey = Annotated[
    Path | None, typer.Option(help="secret key file of the pseudonyms, made if absent; else in PRIVATE")
]
AnyTemplates = Annotated[
    Path | None, typer.Option(help="file that remembers sectors by scanner; made if absent")
]

data_app = typer.Typer(help="Make manifests: the tables that training reads.", **PLAIN)


@data_app.command("scan", epilog="Example: insonate data scan archive --out archive/manifest.parquet")
def data_scan(
    folder: Annotated[Path, typer.Argument(help="folder with DICOM, video or image files")],
    out: Annotated[Path, typer.Option("--out", "-o", help="manifest to write (.parquet or .csv)")],
    workers: AnyWorkers = None,
    engine: AnyEngine = "processes",
    card: Annotated[Path | None, typer.Option(help="HTML data card to write too, see `data card`")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="exit 1 where anything is told on stderr or found")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List a folder's media in a manifest.

    Files that cannot be read are named on stderr. A manifest that is there is brought up to date: only new
    and changed files are read, labels stay. A scan that was cut off goes on where it was.
    """
    from insonate.data.scan import scan
    from insonate.progress import tracked

    if card is not None:
        _page(card)
    result = scan(folder, out, workers=workers, engine=engine, track=tracked)
    for unread in result.errors:
        warn(f"{one_line(folder / unread.path)}: {one_line(unread.reason)}")
    for note in result.manifest.notes:
        warn(one_line(note))
    shown: dict[str, Any] = {
        "manifest": str(out), "items": len(result.manifest), "unchanged": result.kept,
        "errors": [{"path": unread.path, "reason": unread.reason} for unread in result.errors],
        "notes": list(result.manifest.notes),
    }  # fmt: skip
    if card is not None:
        from insonate.data.card import write_card

        title = f"Data card: {folder.resolve().name}"
        shown["findings"] = write_card(
            result.manifest, card, title=title, workers=workers, track=tracked
        ).findings
    kept = f", {result.kept} unchanged files" if result.kept else ""
    items = f"{out}: {len(result.manifest)} items{kept}, {len(result.errors)} unreadable files"
    told = [shown[name] for name in ("errors", "notes", "findings") if shown.get(name)]
    say(json.dumps(shown) if as_json else "\n".join([items, *shown.get("findings", [])]))
    raise typer.Exit(1 if strict and told else 0)


@data_app.command("deidentify", epilog="Example: insonate data deidentify archive clean --key secret.key")
def data_deidentify(
    folder: Annotated[Path, typer.Argument(help="folder with the originals")],
    out: Annotated[Path, typer.Argument(help="folder for the clean archive")],
    private: AnyPrivate = None,
    key: AnyKey = None,
    templates: AnyTemplates = None,
    workers: AnyWorkers = None,
    engine: AnyEngine = "processes",
    strict: Annotated[bool, typer.Option("--strict", help="exit 1 where anything is told on stderr")] = False,
    as_json: AsJson = False,
) -> None:
    """Write an archive without identity: keyed names, clean headers, only echoes.

    What could not be cleaned is listed in PRIVATE/errors.jsonl, since its name may name a person. The same
    command again goes on where it was cut off.
    """
    from insonate.data.deidentify import deidentify
    from insonate.progress import tracked

    result = deidentify(
        folder,
        out,
        private=private,
        key=key,
        templates=templates,
        workers=workers,
        engine=engine,
        track=tracked,
    )
    if result.errors:
        warn(f"{len(result.errors)} files were left out: see {result.private / 'errors.jsonl'}")
    for note in result.notes:
        warn(one_line(note))
    shown = {
        "manifest": str(out / "manifest.parquet"), "private": str(result.private),
        "items": len(result.manifest), "unchanged": result.kept, "errors": len(result.errors),
        "notes": list(result.notes),
    }  # fmt: skip
    kept = f", {result.kept} made earlier" if result.kept else ""
    line = f"{out / 'manifest.parquet'}: {len(result.manifest)} items{kept}, {len(result.errors)} left out"
    look = f"Look at {result.private / 'before_after_001.png'}; never hand that folder on"
    say(json.dumps(shown) if as_json else f"{line}\n{look}")
    raise typer.Exit(1 if strict and (result.errors or result.notes) else 0)


@data_app.command(
    "split", epilog="Example: insonate data split manifest.parquet --out split.parquet --val 0.1 --test 0.2"
)
def data_split(
    manifest: Annotated[Path, typer.Argument(help="manifest to read")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="manifest to write; else the same one")
    ] = None,
    val: Annotated[float, typer.Option(min=0, max=1, help="share of the patients")] = 0.15,
    test: Annotated[float, typer.Option(min=0, max=1, help="share of the patients")] = 0.15,
    seed: Annotated[int, typer.Option(help="another seed gives another split")] = 0,
    key: Annotated[
        Path | None, typer.Option(help="of `data deidentify`: split as the de-identified copy is split")
    ] = None,
    fair: Annotated[
        bool, typer.Option("--fair", help="of each task of points, whole patients to val; no test part")
    ] = False,
    by_image: Annotated[
        bool, typer.Option("--by-image", help="with --fair: the leaking split instead, to measure the leak")
    ] = False,
) -> None:
    """Put each patient in one of train, val and test.

    Which one depends on the patient and the seed alone; splits that were there are replaced. --fair counts
    by task, and tells how many validation images a split by images would have known from training.
    """
    from insonate.data import Manifest, split_by_patient

    if by_image and not fair:
        raise InsonateError("--by-image", "is of use with --fair only", "Add that, or leave it out")
    if fair and key is not None:
        raise InsonateError("--key", "is of no use with --fair", "Leave one of them out")
    if fair:
        say(_split_fairly(Manifest.read(manifest), out or manifest, val, seed=seed, by_image=by_image))
        return

    if val + test >= 1:
        raise InsonateError(
            "--val and --test", f"{val} + {test} leaves nothing to train on", "Make them smaller"
        )
    fractions = {"train": 1 - val - test, "val": val, "test": test}
    split = split_by_patient(Manifest.read(manifest), fractions, seed, names=_names(key))
    out = split.write(out or manifest)
    splits = split.column("split")
    counts = {name: splits.count(name) for name in fractions}
    empty = [name for name, count in counts.items() if fractions[name] and not count]
    if empty:
        warn(f"{one_line(out)}: no patient came to {', '.join(empty)}: there are few; try another --seed")
    say(f"{out}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))


def _names(key: Path | None) -> Any:
    """The pseudonyms under a key that is there."""
    from insonate.data.pseudonyms import Pseudonyms, read_key

    if key is None:
        return None
    if not key.exists():
        raise InsonateError(key, "is not there", "Give the key that `insonate data deidentify` has made")
    return Pseudonyms(read_key(key))


def _split_fairly(manifest: Any, out: Path, val: float, *, seed: int, by_image: bool) -> str:
    """What was split, and how large the leak of the other way is."""
    from insonate.data.fairsplit import fair_split, leak, random_split_like_card, split_by_image, tasks_of
    from insonate.data.manifest import patient_key

    held = random_split_like_card(len(manifest), fraction=val, seed=seed)
    found = leak([patient_key(row["patient_id"]) for row in manifest.rows], held)
    made = (
        split_by_image(manifest, {int(i) for i in held}) if by_image
        else fair_split(manifest, tasks_of(manifest), fraction=val, seed=seed)
    )  # fmt: skip
    made.write(out)
    splits = made.column("split")
    counts = f"{splits.count('train')} train, {splits.count('val')} val"
    told = (
        f"{found.known_items} of {found.items} validation images of a split by images have their patient in"
    )
    return f"{out}: {counts}\n{told} the training"


@data_app.command("card", epilog="Example: insonate data card archive/manifest.parquet --out card.html")
def data_card(
    manifest: Annotated[Path, typer.Argument(help="manifest of files or of shards")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write")],
    workers: AnyWorkers = None,
    strict: Annotated[bool, typer.Option("--strict", help="exit 1 where something is found")] = False,
    as_json: AsJson = False,
) -> None:
    """Describe a data set on one HTML page, and find what is wrong with it.

    Nearly equal pictures of two patients or in two splits, missing calibration, writing in pictures, media
    that cannot be read.
    """
    from insonate.data.card import write_card
    from insonate.data.manifest import Manifest
    from insonate.progress import tracked

    _page(out)
    title = f"Data card: {manifest.resolve().parent.name}"
    card = write_card(Manifest.read(manifest), out, title=title, workers=workers, track=tracked)
    for name, reason in card.errors:
        warn(f"{one_line(name)}: {one_line(reason)}")
    shown = {
        "card": str(out), "findings": card.findings, "near_pairs": len(card.near),
        "errors": [{"path": name, "reason": reason} for name, reason in card.errors],
    }  # fmt: skip
    say(
        json.dumps(shown) if as_json else "\n".join([f"{out}: {len(card.findings)} findings", *card.findings])
    )
    raise typer.Exit(1 if strict and card.findings else 0)


def _page(out: Path) -> None:
    """Refuse, before all that takes time, what no page can be written to.

    Raises:
        InsonateError: it does not end in .html, or lies in no folder that can be written.
    """
    from insonate.files import writable

    if out.suffix.lower() not in {".html", ".htm"} or out.is_dir():
        raise InsonateError(out, "is no name of an HTML page", "Let it end in .html")
    writable(out.parent)


@data_app.command(
    "shard", epilog="Example: insonate data shard archive/manifest.parquet --out shards --size 256"
)
def data_shard(
    manifest: Annotated[Path, typer.Argument(help="manifest of the media")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the shards and their manifest")],
    size: Annotated[int, typer.Option(min=0, max=8192, help="longest side in pixels; 0 keeps all")] = 256,
    quality: Annotated[int, typer.Option(min=1, max=95, help="of the JPEG frames")] = 92,
    colour: Annotated[bool, typer.Option("--colour", help="keep colour; else grey")] = False,
    crop: Annotated[
        Literal["none", "sector"], typer.Option(help="sector: to the echoes, black outside them")
    ] = "none",
    loops: Annotated[
        bool, typer.Option("--loops", help="whole loops also where one frame is labelled; else that alone")
    ] = False,
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="pixels blanked, pseudonyms only: see `data deidentify`")
    ] = False,
    keep: Annotated[
        list[str] | None, typer.Option(help="with --deidentify: a label column that stays; may be repeated")
    ] = None,
    private: AnyPrivate = None,
    key: AnyKey = None,
    templates: AnyTemplates = None,
    items: Annotated[int, typer.Option(min=1, max=100_000, help="of the manifest in one shard")] = 512,
    workers: AnyWorkers = None,
    engine: AnyEngine = "processes",
    strict: Annotated[bool, typer.Option("--strict", help="exit 1 where anything is told on stderr")] = False,
    as_json: AsJson = False,
) -> None:
    """Pack media into tar files for training: cropped, resized, as JPEG frames, with an index.

    Train on OUT/manifest.parquet as on any other. Items that cannot be read are named on stderr. A second
    run packs only what has changed.
    """
    from insonate.data.manifest import Manifest
    from insonate.data.shards import Deidentify, PackOptions, shard
    from insonate.progress import tracked

    if not deidentify and (keep or private is not None or key is not None):
        mend = "Add that, or leave them out"
        raise InsonateError("--keep, --private and --key", "are of use with --deidentify only", mend)
    if templates is not None and crop == "none" and not deidentify:
        mend = "Add one, or leave it out"
        raise InsonateError("--templates", "is of use with --crop sector or --deidentify only", mend)
    options = PackOptions(size_px=size or None, quality=quality, colour=colour, crop=crop, loops=loops)
    try:
        rows = Manifest.read(manifest)
    except ManifestError:
        if not deidentify:
            raise
        mend = "`insonate data card` on it tells the reason"
        raise InsonateError(manifest, "cannot be used, for a reason that may name people", mend) from None
    result = shard(
        rows,
        out,
        options,
        deidentify=Deidentify(private=private, key=key, keep=keep or ()) if deidentify else None,
        templates=templates,
        items=items,
        workers=workers,
        engine=engine,
        track=tracked,
    )
    for name, reason in result.errors:
        warn(f"{one_line(name)}: {one_line(reason)}")
    for note in result.notes:
        warn(one_line(note))
    shown = {
        "manifest": str(out / "manifest.parquet"), "items": len(result.manifest), "shards": result.shards,
        "unchanged": result.kept, "private": str(result.private) if result.private else None,
        "errors": [{"path": name, "reason": reason} for name, reason in result.errors],
        "notes": list(result.notes),
    }  # fmt: skip
    told = f"{out}: {len(result.manifest)} items in {result.shards} shards, {result.kept} of them unchanged"
    look = (
        f"\nLook at {result.private / 'before_after_001.png'}; never hand that folder on"
        if result.private
        else ""
    )
    say(json.dumps(shown) if as_json else told + look)
    raise typer.Exit(1 if strict and (result.errors or result.notes) else 0)


@data_app.command(
    "phantom", epilog="Example: insonate data phantom phantom --patients 200 --formats png,dicom"
)
def data_phantom(
    out: Annotated[Path, typer.Argument(help="folder to make")],
    kind: Annotated[
        str,
        typer.Option(
            help="heart, fetal, lesion, lung, mixed, biometry (all nine keypoint tasks), or one scene: head, "
            "abdomen, femur, cervix, pelvis, cava, breast, thyroid, liver"
        ),
    ] = "mixed",
    patients: Annotated[int, typer.Option(min=1, max=1_000_000)] = 100,
    images_per_patient: Annotated[
        int | None, typer.Option(min=1, max=1000, help="2 unless given; of a heart or fetus, 1 of each view")
    ] = None,
    views: Annotated[
        str | None, typer.Option(help="of hearts, with commas between: A4C, PLAX, …; all ten unless given")
    ] = None,
    missing: Annotated[
        float, typer.Option(help="share of the views that a heart or fetal study lacks")
    ] = 0.0,
    ef_pct: Annotated[float | None, typer.Option(help="ejection fraction of all hearts; else drawn")] = None,
    ga_weeks: Annotated[float | None, typer.Option(help="age of all fetuses, 14 to 40; else drawn")] = None,
    degraded: Annotated[
        float, typer.Option(help="share of clips with lost contact and dropped frames")
    ] = 0.0,
    overlays: Annotated[
        float | None,
        typer.Option(
            help="share of studies with a machine's text and graphics in the picture; else 1 of hearts, 0 of "
            "others"
        ),
    ] = None,
    size: Annotated[int, typer.Option(min=32, max=4096, help="height and width in pixels")] = 256,
    formats: Annotated[str, typer.Option(help="png, mp4, dicom; with commas between")] = "png",
    workers: AnyWorkers = None,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Make synthetic labelled ultrasound with a manifest; after an end, the same command goes on."""
    from insonate.data.pool import num_cores
    from insonate.phantom import VIEWS, generate
    from insonate.progress import tracked

    kinds = tuple(part.strip() for part in formats.split(","))
    asked = VIEWS if views is None else tuple(part.strip() for part in views.split(","))
    manifest = generate(
        out,
        kind=kind,
        patients=patients,
        images_per_patient=images_per_patient,
        views=asked,
        missing=missing,
        ef_pct=ef_pct,
        ga_weeks=ga_weeks,
        degraded=degraded,
        overlays=overlays,
        seed=seed,
        size=size,
        formats=kinds,
        workers=workers or num_cores(),
        track=tracked,
    )
    say(f"{out / 'manifest.parquet'}: {len(manifest)} items")


@data_app.command("datasets", epilog="Example: insonate data datasets hc18_landmarks downloads/hc18 --out HC")
def data_datasets(
    name: Annotated[str | None, typer.Argument(help="data set; without it, all are listed")] = None,
    root: Annotated[Path | None, typer.Argument(help="folder as the data set is handed out")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="new folder for media and manifest")] = None,
) -> None:
    """List known data sets, or make a manifest of one."""
    from insonate.data.adapters import ADAPTERS

    if name is None:
        for known, adapter in ADAPTERS.items():
            say(f"{known:<18} {adapter.about}")
            if adapter.licence:
                say(f"{'':<19}licence: {adapter.licence}\n{'':<19}about {adapter.size}, {adapter.where}")
                say(f"{'':<19}cite: {adapter.citation}")
        return
    if name not in ADAPTERS:
        raise InsonateError("data datasets", f"no data set is called {name!r}", nearest(name, ADAPTERS))
    if root is None or out is None:
        raise InsonateError(f"data datasets {name}", "the folder or --out is missing", "Give ROOT and --out")
    manifest = ADAPTERS[name](root, out)
    for note in manifest.notes:
        warn(one_line(note))
    say(f"{out / 'manifest.parquet'}: {len(manifest)} items")
