"""What a run tells: metrics.jsonl, TensorBoard, and progress on standard error.

metrics.jsonl has one JSON object a line: `{"event": "train" | "eval", "step": n, "epoch": e, ...}`. On
resume, a cut last line and the rows after the checkpoint are dropped, also the validation of an epoch that
the checkpoint does not count as closed: no step and no validation is missing or twice.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from insonate import files

Row = dict[str, Any]
PLAIN_SECONDS = 10.0
"""shortest time between two progress lines where standard error is no terminal"""


def read_rows(path: Path) -> list[Row]:
    """Rows of a metrics.jsonl; a line that was cut by a kill is left out."""
    rows = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


class Log:
    """Writer of one run's rows from `step` on, on the first rank only (`shown`).

    Args:
        run_dir: where metrics.jsonl and tensorboard/ lie.
        step: steps that the checkpoint holds; later rows are dropped.
        closed_epochs: epochs whose validation it holds.
        total: steps of the whole run.
        shown: whether this rank writes at all.
    """

    def __init__(
        self, run_dir: Path, *, step: int, closed_epochs: int, total: int, shown: bool = True
    ) -> None:
        self.path, self.total, self.shown = run_dir / "metrics.jsonl", total, shown
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._board: SummaryWriter | None = None
        self._next_line = 0.0
        if shown:
            kept = [
                row
                for row in read_rows(self.path)
                if row["step"] <= step and (row.get("event") == "train" or row["epoch"] < closed_epochs)
            ]
            files.atomic_write(self.path, "".join(_line(row) for row in kept))
            with files.told(run_dir / "tensorboard"):
                self._board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=step + 1)

    def __enter__(self) -> Self:
        if self.shown and self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                console=self._console, transient=True,
            )  # fmt: skip
            self._progress.add_task("training", total=self.total)
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._draw(lambda board: board.close())

    def train(self, row: Row, *, seconds_left: float) -> None:
        """A row of training, with what to show of it."""
        if not self.shown:
            return
        self._write({"event": "train", **row})
        text = (
            f"loss {row['loss']:.4g}  lr {row['lr']:.3g}  {row['items_per_s']:.1f} items/s"
            f"  {row['memory_mb']:.0f} MB  data wait {row['data_wait_percent']:.0f} %"
        )
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=row["step"], description=text)
        elif time.monotonic() >= self._next_line or row["step"] == self.total:
            self._next_line = time.monotonic() + PLAIN_SECONDS
            self.note(f"step {row['step']}/{self.total}  {text}  {clock(seconds_left)} left")

    def eval(self, row: Row) -> None:
        """A row of validation."""
        if not self.shown:
            return
        self._write({"event": "eval", **row})
        values = "  ".join(f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, float))
        self.note(f"epoch {row['epoch']}  {values}")

    def note(self, text: str) -> None:
        """A line on standard error."""
        if not self.shown:
            return
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False)
        else:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def flush(self) -> None:
        """Bring all rows to the disk; before each checkpoint, so that none is missing after it."""
        if self.shown and self.path.exists():
            files.append(self.path, b"", flush=True)

    def _write(self, row: Row) -> None:
        files.append(self.path, _line(row).encode())

        def draw(board: SummaryWriter) -> None:
            for name, value in row.items():
                if isinstance(value, float):
                    board.add_scalar(f"{row['event']}/{name}", value, row["step"])

        self._draw(draw)

    def _draw(self, action: Callable[[SummaryWriter], None]) -> None:
        """TensorBoard's copy may fail (its thread meets a full disk): the run goes on without it."""
        if self._board is None:
            return
        try:
            action(self._board)
        except (OSError, ValueError) as error:  # ValueError: its file is closed after a failure
            self._board = None
            self.note(f"TensorBoard's file cannot be written and is left as it is: {error}")


def clock(seconds: float) -> str:
    """`1:02:03`, or `?` where it is unknown."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _line(row: Row) -> str:
    return json.dumps({k: _number(v) for k, v in row.items()}) + "\n"


def _number(value: Any) -> Any:
    """JSON has no NaN or infinity: null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
