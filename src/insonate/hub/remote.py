"""Where a model folder is: here, in the package, or on the hub, which only this file talks to."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, cast

from insonate.errors import ModelError
from insonate.hub.config import CONFIG, FILES
from insonate.shipped import shipped_folder, shipped_names

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class HubApi(Protocol):
    """The two calls of `huggingface_hub.HfApi` that a push needs."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any:
        """Make the repository where it is missing."""

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any:
        """Send the folder as one commit."""


def find(source: Path | str) -> Path:
    """The local folder of `source`: a path, the name of a shipped model, or what is downloaded for a hub id.

    A folder of the same name counts before a shipped model. Of the hub only JSON, the card and safetensors
    are taken.

    Raises:
        ModelError: neither a folder nor a hub id, or the hub cannot give it.
    """
    folder = Path(source)
    if (folder / "model" / CONFIG).is_file() and not (folder / CONFIG).exists():
        raise ModelError(source, "is the folder of a run", f"Give the model in it: {folder / 'model'}")
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelError(source, "is a file, not a model folder", "Give the folder that holds config.json")
    if source in shipped_names():
        return shipped_folder(str(source))
    if isinstance(source, Path) or not HUB_ID.fullmatch(source):
        raise ModelError(
            source, "there is no such model folder", "Check the path, or give a hub id owner/name"
        )
    with hub_errors(source):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(source, allow_patterns=list(FILES)))


@contextlib.contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Turn what the hub client raises in the block into one clear error.

    Raises:
        ModelError: the hub cannot be reached or refuses.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # The base errors of the client's HTTP library, whichever its version uses, and OSError.
    transport = cast("tuple[type[Exception], ...]", HfHubHTTPError.__bases__)
    try:
        yield
        return
    except HFValidationError as error:
        raise ModelError(repo_id, f"is no hub id ({error})", "Use owner/name") from None
    except LocalEntryNotFoundError as error:
        name = type(error).__name__
    except HfHubHTTPError as error:
        raise ModelError(
            repo_id,
            f"the hub refused ({type(error).__name__})",
            "Check the name, and log in with `hf auth login` where it is private",
        ) from None
    except transport as error:
        name = type(error).__name__
    raise ModelError(
        repo_id,
        f"the hub cannot be reached ({name})",
        "Check the connection, unset HF_HUB_OFFLINE, or give the path of a model folder",
    )


def default_api() -> HubApi:
    """The real one, with the user's own login."""
    from huggingface_hub import HfApi

    return HfApi()
