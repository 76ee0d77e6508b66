"""The command line: parse, call, print. Results on stdout, progress and log on stderr.

Only typer is imported here; each command imports what it needs, so that help is instant.
Exit codes: 0 done (also for an interrupted training, which resumes), 1 a fault of ours or a failed check,
2 bad input (one line on stderr).
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from insonate.cli_data import data_app
from insonate.cli_export import export
from insonate.cli_parts import PLAIN, AsJson, say, warn
from insonate.cli_points import Members, claims, pseudo_label
from insonate.cli_predict import predict, view
from insonate.errors import InsonateError

if TYPE_CHECKING:
    from insonate.evaluate import Evaluation

app = typer.Typer(
    help="Pretrain, adapt, evaluate and use ultrasound foundation models. Not for clinical use.",
    epilog="Start here: insonate demo --quick. Everywhere: --debug shows tracebacks. insonate --version",
    pretty_exceptions_enable=False,
    **PLAIN,
)
recipes_app = typer.Typer(help="Look at the shipped recipes.", **PLAIN)
models_app = typer.Typer(help="Look at models, ours and official ones.", **PLAIN | {"no_args_is_help": False})
app.add_typer(data_app, name="data")
app.add_typer(models_app, name="models")
app.add_typer(recipes_app, name="recipes")
app.command(
    "predict", epilog="Example: insonate predict head.png --model runs/hc/model --task hc --ga 32w4d"
)(predict)
app.command(
    "export", epilog="Example: insonate export runs/hc/model --to openvino --int8 --data hc.parquet -o fast"
)(export)
models_app.command(
    "view", epilog="Example: insonate models view runs/nine/model nine/manifest.parquet --out runs/nine/model"
)(view)
app.command(
    "pseudo-label",
    epilog="Example: insonate pseudo-label runs/hc/model hc/manifest.parquet --regime r1 -o hc/r1.parquet",
)(pseudo_label)
app.command("claims", epilog="Example: insonate claims sonichu -o claims --size tiny")(claims)

Given = Annotated[
    list[str] | None,
    typer.Argument(help="what is known of an official file: heads=12 input_size=224,224 family=tinyusfm"),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="folder for the results")]


@app.command(epilog="Example: insonate demo --quick --out demo")
def demo(
    out: Out = Path("insonate-demo"),
    quick: Annotated[bool, typer.Option("--quick", help="a few steps of everything")] = False,
) -> None:
    """Do the whole job on synthetic data, offline, on a CPU.

    Pretrain, adapt, evaluate, predict, report.
    """
    from insonate.experiments.demo import run_demo
    from insonate.files import writable

    writable(out)
    say(run_demo(out, quick=quick))


@app.command(epilog="Example: insonate doctor --json")
def doctor(as_json: AsJson = False) -> None:
    """Check this machine, and say how to mend what is missing.

    Python, device, decoders, extras, disk.
    """
    from insonate.deploy.doctor import examine, summary

    report = summary(examine())
    if as_json:
        say(json.dumps(report, indent=1))
    else:
        for check in report["checks"]:
            mend = f"  → {check['mend']}" if check["mend"] else ""
            say(f"{check['status']}  {check['name']:<14} {check['detail']}{mend}")
    raise typer.Exit(1 if report["status"] == "FAIL" else 0)


@recipes_app.command("list", epilog="Example: insonate recipes list")
def recipes_list() -> None:
    """Name the shipped recipes, each with its first sentence."""
    from insonate.recipes.load import shipped

    for name, path in shipped().items():
        lines = path.read_text("utf-8").splitlines()
        comment = " ".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
        say(f"{name:<18} {comment.replace('#', '').strip().partition('. ')[0]}")


@recipes_app.command("show", epilog="Example: insonate recipes show keypoints_hc optim.lr=1e-4")
def recipes_show(
    recipe: Annotated[str, typer.Argument(help="shipped name or file")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, as for train")] = None,
    as_written: Annotated[bool, typer.Option("--as-written", help="the file, comments and all")] = False,
) -> None:
    """Print what a run would use, every default written out; or the file, to start your own from."""
    from insonate.recipes import load, plain_yaml

    if as_written:
        say(plain_yaml.read_text(load.find(recipe)).rstrip())
        return
    say(plain_yaml.write(load.resolved(load.load_recipe(recipe, overrides or []))).rstrip())


@app.command(
    epilog="Example: insonate train keypoints_hc data.manifest=phantom/manifest.parquet --out runs/hc"
)
def train(
    recipe: Annotated[str, typer.Argument(help="shipped name or file")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, for example optim.lr=2e-4")
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="run folder; the same command resumes")],
    as_json: AsJson = False,
) -> None:
    """Train what a recipe says. The same command goes on after an interruption."""
    from insonate.recipes.load import load_recipe

    checked = load_recipe(recipe, overrides or [])  # before torch is imported
    from insonate.hub.plain import plain
    from insonate.recipes.run import run_recipe

    result = run_recipe(checked, out)
    if result.rank:
        return
    if result.interrupted:
        warn(f"{out}: interrupted; the same command goes on from the last checkpoint")
        return
    if result.earlier:
        warn(f"{out}: was finished before, nothing is trained")
    if as_json:
        say(json.dumps(plain({"model": result.model_dir, "metrics": result.metrics})))
        return
    for name, value in result.metrics.items():
        say(f"{name:<20} {value:.4g}")
    say(result.model_dir)


@app.command(
    epilog="Example: insonate evaluate runs/hc/model phantom/manifest.parquet --out runs/hc/evaluation"
)
def evaluate(
    model: Annotated[str, typer.Argument(help="model folder or hub id")],
    manifest: Annotated[Path, typer.Argument(help="manifest with the labels")],
    out: Out,
    split: Annotated[str, typer.Option(help="value of the column split")] = "test",
    train_manifest: Annotated[
        Path | None, typer.Option(help="what it was trained on, to look for leaks")
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="average with the mirrored image, as predict does; twice the time")
    ] = False,
    member: Members = None,
    fuse: Annotated[
        Literal["median", "geometric", "soup"],
        typer.Option(help="with --member: median of points, geometric median, or mean of weights"),
    ] = "median",
    as_json: AsJson = False,
) -> None:
    """Score a model, or several as one, with intervals by patient.

    Writes report.html (also by site and vendor, with pictures) and evaluation.json.
    """
    from insonate.data import Manifest
    from insonate.evaluate import evaluate_model
    from insonate.evaluate.together import together
    from insonate.files import writable
    from insonate.hub.plain import plain
    from insonate.progress import tracked

    writable(out)  # before all that takes time
    tested = Manifest.read(manifest)
    trained_on = None if train_manifest is None else Manifest.read(train_manifest)
    evaluation = evaluate_model(
        together([model, *(member or [])], fuse, trained_on or tested),
        tested,
        split=split,
        out=out,
        train_manifest=trained_on,
        tta=tta,
        run_dir=run_of(model),
        track=tracked,
    )
    if as_json:
        say(json.dumps(plain(_metrics(evaluation))))
        return
    for title, one in {"": evaluation, **evaluation.sets}.items():
        for name, found in one.metrics.items():
            trivial = one.trivial.get(name)
            beside = "" if trivial is None else f"without looking {trivial.value:.4g}"
            say(f"{f'{title} {name}'.strip():<24} {found.text('{:.4g}'.format):<28} {beside}".rstrip())
    say(out / "report.html")


def _metrics(evaluation: Evaluation) -> dict[str, Any]:
    """The metrics by name; with `sets`, those of each task, where it has several."""
    told: dict[str, Any] = {name: found.to_dict() for name, found in evaluation.metrics.items()}
    if evaluation.sets:
        told["sets"] = {name: _metrics(one) for name, one in evaluation.sets.items()}
    return told


@models_app.callback(invoke_without_command=True, epilog="Example: insonate models --json")
def models(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Name backbones, objectives and tasks, with their options; `show` tells what a file is."""
    if ctx.invoked_subcommand is not None:
        return
    from insonate.recipes import catalogue

    entries = catalogue.read()
    published = catalogue.read_published()
    if as_json:
        say(json.dumps(entries | {"published": published}, indent=1, ensure_ascii=False))
        return
    say("published encoders (params M, GFLOPs of all products, GMACs of layers, licence, weights):")
    for name, entry in published.items():
        size = f"{entry['params'] / 1e6:8.1f} {entry['gflops']:9.1f} {entry['gmacs']:8.1f}"
        say(f"  {name:<24} {entry['family']:<11} {size}  {entry['license']}; {entry['weights']}")
    for kind in catalogue.KINDS:
        say(f"{kind}:")
        for name, entry in entries[kind].items():
            options = sorted(set(entry["options"].get("properties", {})) - {"name"})
            say(f"  {name:<16} {entry['doc']}")
            if options:
                say(f"  {'':<16} options: {', '.join(options)}")


@models_app.command("show", epilog="Example: insonate models show USFM_latest.pth")
def models_show(
    source: Annotated[Path, typer.Argument(help="official weights file, or a folder with one")],
    given: Given = None,
    as_json: AsJson = False,
) -> None:
    """Tell what an official weights file is, and what becomes of its tensors; nothing is written."""
    from insonate.models.official import inspect_official

    converted, report = inspect_official(source, facts(given))
    if as_json:
        shown: dict[str, Any] = {"family": report.family, "layout": report.layout}
        shown["backbone"] = converted.backbone
        shown |= {
            "task": converted.task,
            "parts": {name: part.options for name, part in converted.parts.items()},
        }
        shown |= {"matched": len(report.matched), "converted": len(report.converted)}
        shown |= {"ignored": report.ignored, "assumed": report.assumed, "info": converted.info}
        say(json.dumps(shown, default=str))
        return
    say(report)
    for kind, options in (("backbone", converted.backbone), ("task", converted.task)):
        if options is not None:
            say(f"{kind}: " + ", ".join(f"{name}={value}" for name, value in options.items()))
    for name, part in converted.parts.items():
        say(f"part {name}: " + ", ".join(f"{key}={value}" for key, value in part.options.items()))


@app.command(epilog="Example: insonate convert USFM_latest.pth -o usfm")
def convert(
    source: Annotated[
        str, typer.Argument(help="official weights file or folder, or a model folder or hub id")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="model folder to write; with --layout a file")],
    given: Given = None,
    layout: Annotated[
        str | None, typer.Option(help="write the authors' layout of this name, `same` for that it came in")
    ] = None,
) -> None:
    """Turn an official checkpoint into a model folder, or a model back into the authors' layout."""
    from insonate.hub import load, write_card_folder, write_official

    model = load(source, **facts(given))
    for report in (model.report, model.probe_report):
        if report is not None:
            warn(report)
    if layout is None:
        say(model.save_pretrained(out))
        return
    if layout == "sonichu" and not out.suffix:
        say(write_card_folder(model, out))
        return
    say(f"{out}: layout {write_official(model, out, None if layout == 'same' else layout)}")


def facts(given: list[str] | None) -> dict[str, Any]:
    """What the user says of an official checkpoint: numbers, lists with commas, true and false, text."""
    words: dict[str, Any] = {"true": True, "false": False}
    said: dict[str, Any] = {}
    for word in given or []:
        name, equals, text = word.partition("=")
        if not equals:
            raise InsonateError(word, "is no key=value", "For example heads=12")
        parts = [
            int(part) if part.lstrip("-").isdigit() else words.get(part.lower(), part)
            for part in text.split(",")
        ]
        said[name] = parts[0] if len(parts) == 1 else parts
    return said


def run_of(model: str) -> Path | None:
    """The run folder that a model folder lies in; None for any other model."""
    parent = Path(model).resolve().parent
    return parent if Path(model).is_dir() and (parent / "metrics.jsonl").is_file() else None


def main() -> None:
    """Entry point; the only place that catches InsonateError.

    `--debug` (anywhere in the line) and `--version` are taken here.
    """
    debug = "--debug" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    if sys.argv[1:] == ["--version"]:
        from insonate import __version__

        print(__version__)
        return
    try:
        app()
    except InsonateError as error:
        if debug:
            raise
        warn(error)
        raise SystemExit(2) from None
