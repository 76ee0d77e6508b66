"""Commands about models of points: parse, call, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from insonate.cli_parts import AsJson, say, warn
from insonate.errors import InsonateError, nearest, one_line

Members = Annotated[
    list[str] | None, typer.Option("--member", help="a further model: all give the median of their points")
]


def pseudo_label(
    model: Annotated[str, typer.Argument(help="keypoints model that labels: folder or hub id")],
    manifest: Annotated[Path, typer.Argument(help="manifest with labelled and unlabelled rows")],
    out: Annotated[Path, typer.Option("--out", "-o", help="manifest to write, beside the media")],
    regime: Annotated[str, typer.Option(help="r1, r2, r3, selective or balanced")] = "r1",
    member: Members = None,
    evaluation: Annotated[
        list[Path] | None, typer.Option(help="further manifest that is tested on; may be given again")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Label unlabelled pictures for training, by a regime.

    Keeps what is sure, agrees with its mirror and looks like a label; never what is of the evaluation, or
    nearly. Each row tells its teacher, regime, confidence and weight.
    """
    from insonate.data import Manifest
    from insonate.data.pseudo_labels import REGIMES
    from insonate.data.table import writer_of
    from insonate.files import writable

    if regime not in REGIMES:
        raise InsonateError("--regime", f"no regime is called {regime!r}", nearest(regime, REGIMES))
    writer_of(out)  # before all that takes time
    writable(out.parent)
    given, others = Manifest.read(manifest), [Manifest.read(path) for path in evaluation or []]
    from insonate.deploy.pseudo_label import pseudo_label as label
    from insonate.hub import ensemble, load
    from insonate.progress import tracked

    models = [load(one) for one in [model, *(member or [])]]
    teacher = models[0] if len(models) == 1 else ensemble(models)
    found = label(teacher, given, REGIMES[regime], evaluation=others, track=tracked)
    for name, reason in found.errors:
        warn(f"{one_line(name)}: {one_line(reason)}")
    found.manifest.write(out)
    shown = {
        "manifest": str(out), "kept": found.kept, "guarded": found.guarded, "dropped": found.dropped,
        "errors": [{"path": name, "reason": reason} for name, reason in found.errors],
    }  # fmt: skip
    if as_json:
        say(json.dumps(shown))
        return
    say(f"{out}: {sum(found.kept.values())} pseudo-labels")
    for task, count in found.kept.items():
        say(f"  {task}: {count}")
    say(f"  left out, of the evaluation: {found.guarded}")
    for reason, count in found.dropped.items():
        say(f"  left out, {reason}: {count}")


def claims(
    paper: Annotated[Literal["sonichu"], typer.Argument(help="whose claims")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for data, runs and results")],
    size: Annotated[
        Literal["tiny", "small", "large"],
        typer.Option(help="small: 40 minutes on two cores; large: for a GPU; tiny: to see it work"),
    ] = "small",
    data: Annotated[
        Path | None, typer.Option(help="folder of hc18_landmarks, camus_4ch, tongue_keypoints: real sets too")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the phantom and of every run")] = 0,
) -> None:
    """Measure again what a paper claims.

    Trains and compares all of its arms; the same command goes on after an interruption.
    """
    from insonate.experiments.sonichu import run_claims
    from insonate.files import writable

    writable(out)
    run_claims(out, size=size, data=data, seed=seed)
    say((out / "claims.md").read_text("utf-8"))
