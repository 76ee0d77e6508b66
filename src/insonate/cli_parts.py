"""What the files of the command line share: the group, printing, common options."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from insonate.errors import escaped


class Group(TyperGroup):
    """Group whose help loads no pydantic: typer needs it for flags that have no default."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, each flag with a default."""
        params = super().get_params(ctx)
        for param in params:
            if param.default is None and getattr(param, "is_flag", False):
                param.default = False
        return params


PLAIN: dict[str, Any] = {
    "cls": Group,
    "no_args_is_help": True,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout")]


def say(text: object) -> None:
    """Result lines on stdout, control characters as codes: a class name may be a stranger's.

    A reader that went away (`| head`) ends the command quietly.
    """
    try:
        print("\n".join(map(escaped, str(text).split("\n"))), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None


def warn(text: object) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr, flush=True)
