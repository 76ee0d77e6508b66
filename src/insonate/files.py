"""The only writer: everything that the project leaves on disk goes through here.

A file is written beside its final name, flushed to the disk, renamed, and its folder flushed, so that a
kill, a crash or a full disk leaves either the old content or the new one, never a part. Imports nothing of
the project but `errors`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from insonate.errors import InsonateError, RunError

TEMPORARY = ".tmp-"
"""prefix of unfinished files and folders: never read, removed by the next writer of the same name, or by
`sweep` when their process is dead"""
_HOST = hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()
_OWNED = re.compile(rf"{re.escape(TEMPORARY)}{_HOST}-([1-9][0-9]{{0,9}})-.*", re.DOTALL)


class Disk:
    """The seven calls by which bytes reach the disk; a test puts failing ones in their place."""

    def open(self, path: Path) -> BinaryIO:
        """Open a new file for writing."""
        return path.open("xb")

    def write(self, file: BinaryIO, data: bytes) -> None:
        """Write all of `data`."""
        file.write(data)

    def fsync(self, file: BinaryIO) -> None:
        """Flush the file to the disk."""
        file.flush()
        os.fsync(file.fileno())

    def replace(self, source: Path, target: Path) -> None:
        """Rename, over an existing file."""
        source.replace(target)

    def exchange(self, first: Path, second: Path) -> None:
        """Let two folders change names in one step: no moment is between.

        Raises:
            OSError: one of `_IN_PLACE` where this system, its file system or these folders do not allow it.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        names = os.fsencode(first), os.fsencode(second)
        if hasattr(libc, "renameat2"):
            here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux
            failed = libc.renameat2(here, names[0], here, names[1], exchange)
        elif hasattr(libc, "renamex_np"):
            failed = libc.renamex_np(*names, 2)  # RENAME_SWAP of macOS
        else:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        if failed:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def fsync_dir(self, path: Path) -> None:
        """Flush a folder's entries to the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


disk = Disk()


class _Through:
    """The file object that a content function writes to: each write goes through `disk`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        disk.write(self._file, data)
        return len(data)

    def flush(self) -> None:
        self._file.flush()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        """Kept open: `atomic_write` closes it after the flush."""


Content = bytes | str | Callable[[BinaryIO], object]


def atomic_write(path: Path | str, content: Content) -> Path:
    """Put `content` at `path`, whole or not at all.

    Args:
        path: the final name; missing parent folders are made.
        content: bytes, text (written as UTF-8), or a function that writes to the open file it is given.

    Returns:
        The path.

    Raises:
        InsonateError: the disk is full, or the place cannot be written; what was there before is unharmed.
    """
    path = Path(path)
    atomic_write_all({path: content})
    return path


def atomic_write_all(contents: Mapping[Path, Content]) -> None:
    """Put several files in place: all are written before the first is renamed: a full disk changes none.

    Args:
        contents: path → content, as for `atomic_write`, in the order of renaming. A fault amid the renames
            leaves the first files new and the rest old: put that last by which a reader can tell.

    Raises:
        InsonateError: as `atomic_write`; it names the file.
    """
    temporaries: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            with told(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_name(f"{_owned()}{path.name}"[:200])
                _remove(temporary, passed_over=FileNotFoundError)
                temporaries[path] = temporary
                _fill(temporary, content)
        for path, temporary in temporaries.items():
            with told(path):
                disk.replace(temporary, path)
    except BaseException:
        for temporary in temporaries.values():
            _remove(temporary, passed_over=OSError)
        raise
    for path in {path.parent: path for path in temporaries}.values():
        with told(path):
            disk.fsync_dir(path.parent)


def write_folder(folder: Path | str, contents: Mapping[str, Content]) -> Path:
    """Put files into a folder that is read as one: it holds all of them new, or all as before.

    The folder is made anew beside its name, with links to the other files that it holds, and the two change
    names in one call, so that neither a fault that lasts nor a kill leaves a mixture. A folder that cannot
    be changed so (with folders in it, the current one, a mount, of another owner, in a place that is not
    ours to write, on a file system without such a call) gets its files one by one, by `atomic_write_all`.

    Args:
        folder: of an earlier write, or new; missing parents are made.
        contents: file name → content, as for `atomic_write`. That comes last by which a reader can tell.

    Returns:
        The folder.

    Raises:
        InsonateError: the disk is full, or the place cannot be written; what was there before is unharmed.
    """
    folder = Path(folder)
    with told(folder):
        target = folder.resolve()
        sweep(target)
        made = _sibling(target, contents)
    if made is None or not _changed(folder, target, made, contents):
        atomic_write_all({folder / name: content for name, content in contents.items()})
    return folder


_IN_PLACE = {
    errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EMLINK
}  # fmt: skip
"""reasons for which a folder, or a file in it, can be neither linked nor exchanged"""


def _sibling(target: Path, contents: Mapping[str, Content]) -> Path | None:
    """An empty folder to take the place of `target`; None where it could not."""
    if target.exists() and (
        target == Path.cwd() or not os.access(target, os.W_OK | os.X_OK) or _others(target, contents) is None
    ):
        return None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent)
        made = Path(tempfile.mkdtemp(prefix=_owned(), suffix=f"-{target.name}"[:100], dir=target.parent))
    except PermissionError:
        return None
    if not target.exists():
        made.chmod(0o777 & ~_umask())
        return made
    shutil.copystat(target, made)
    old, new = target.stat(), made.stat()
    if (old.st_uid, old.st_gid) == (new.st_uid, new.st_gid):
        return made
    made.rmdir()
    return None


def _others(target: Path, contents: Mapping[str, Content]) -> list[Path] | None:
    """Files of the folder that are not written now; None where it is no folder, or more than files."""
    if not target.is_dir():
        return None
    others = [path for path in target.iterdir() if path.name not in contents]
    odd = any(path.is_dir() or path.name.startswith(TEMPORARY) for path in others)
    return None if odd else others


def _changed(folder: Path, target: Path, made: Path, contents: Mapping[str, Content]) -> bool:
    """Fill `made` and put it in the place of `target`; False, and nothing changed, where that cannot be."""
    try:
        for name, content in contents.items():
            with told(folder / name):
                _fill(made / name, content)
        with told(folder):
            if not _put(made, target, contents):
                return False
            disk.fsync_dir(target.parent)
            return True
    finally:
        shutil.rmtree(made, ignore_errors=True)  # what was there before, or what could not be finished


def _put(made: Path, target: Path, contents: Mapping[str, Content]) -> bool:
    disk.fsync_dir(made)
    if not target.exists():
        disk.replace(made, target)
        return True
    others = _others(target, contents)
    if others is None:
        return False
    try:
        for path in others:
            os.link(path, made / path.name, follow_symlinks=False)
        disk.exchange(made, target)
    except OSError as error:
        if error.errno in _IN_PLACE:
            return False
        raise
    return True


def _owned() -> str:
    """Prefix of what this process is writing: machines may share a folder, so it names both."""
    return f"{TEMPORARY}{_HOST}-{os.getpid()}-"


def sweep(folder: Path | str) -> None:
    """Remove what processes of this machine that are dead by now have left unfinished in `folder`."""
    with contextlib.suppress(OSError):  # no folder, or not ours to clean: nothing is in the way then
        for path in Path(folder).iterdir():
            owner = _OWNED.fullmatch(path.name)
            if owner is None or _alive(int(owner[1])):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def _remove(path: Path, *, passed_over: type[OSError]) -> None:
    with contextlib.suppress(passed_over):
        disk.unlink(path)


def _fill(path: Path, content: Content) -> None:
    with disk.open(path) as file:
        if callable(content):
            content(_Through(file))  # type: ignore[arg-type]  # as much of a file as writers use
        else:
            disk.write(file, content.encode() if isinstance(content, str) else content)
        disk.fsync(file)


def writable(folder: Path | str) -> Path:
    """`folder`, if files may be put into it: to be asked before long work. Nothing is left there.

    Raises:
        InsonateError: it, or the folder that it would be made in, cannot be written, or is a file.
    """
    folder = Path(folder)
    place = folder.absolute()
    with told(folder):
        while not place.exists():
            place = place.parent
    if not place.is_dir():
        raise InsonateError(folder, f"{place} is no folder", _MENDS[errno.ENOTDIR])
    with told(folder), tempfile.TemporaryFile(dir=place):
        return folder


def append(path: Path | str, data: bytes, *, flush: bool = False) -> None:
    """Add `data` to the end of a log; a kill may cut its last line, which the log's reader leaves out.

    Args:
        path: the log; made if it is absent.
        data: whole lines.
        flush: also bring all that the log holds to the disk.

    Raises:
        InsonateError: the disk is full, or the place cannot be written.
    """
    with told(path), Path(path).open("ab") as file:
        if data:
            disk.write(file, data)
        if flush:
            disk.fsync(file)


@contextlib.contextmanager
def publish_dir(path: Path | str) -> Iterator[Path]:
    """Fill a folder under a temporary name and rename it to `path` when the block ends without an error.

    Yields:
        The temporary folder to fill.

    Raises:
        InsonateError: `path` exists already and is not empty, or cannot be written.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InsonateError(path, "is there already and not empty", "Choose another name or remove it first")
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        temporary = Path(tempfile.mkdtemp(prefix=_owned(), suffix=f"-{path.name}"[:100], dir=path.parent))
        try:
            temporary.chmod(0o777 & ~_umask())
            yield temporary
            _flush_tree(temporary)
            disk.replace(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        disk.fsync_dir(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush_tree(folder: Path) -> None:
    for entry in sorted(folder.rglob("*")):
        if entry.is_dir():
            disk.fsync_dir(entry)
        else:
            with entry.open("rb+") as file:
                disk.fsync(file)
    disk.fsync_dir(folder)


def inside(root: Path | str, name: Path | str) -> Path:
    """`root / name`, resolved, if it lies inside `root`.

    Raises:
        InsonateError: the name leads outside `root` (`..`, an absolute path, a link), or is no file name.
    """
    root = Path(root).resolve()
    try:
        path = (root / name).resolve()
    except (ValueError, OSError, RuntimeError) as error:
        raise InsonateError(root, f"{str(name)!r} is no usable file name ({error})", "Rename it") from None
    if not path.is_relative_to(root):
        raise InsonateError(root, f"{str(name)!r} leads outside this folder", "Use a path inside it")
    return path


def safe_name(item_id: str) -> str:
    """A file name for results about `item_id`: readable slug, then 16 hex digits of its SHA-256.

    Output names never come from file content itself, so that no identifier can choose a path.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", item_id.lower()).strip("-")[-40:].strip("-")
    digest = hashlib.sha256(item_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{slug}-{digest}" if slug else digest


@contextlib.contextmanager
def lock(path: Path | str) -> Iterator[None]:
    """Hold an exclusive lock file for the block; it is released when the process dies, however it dies.

    Raises:
        RunError: another process holds it.
    """
    path = Path(path)
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    _held.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                path.parent, "another process is using this folder", "Wait for it, or choose another one"
            ) from None
        yield
    finally:
        if descriptor in _held:
            _held.remove(descriptor)
            os.close(descriptor)


_held: set[int] = set()
"""open lock files of this process"""


def _let_go() -> None:
    """A forked child (a loader's worker) must not hold its parent's locks: it may live longer."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def told(path: Path | str) -> Iterator[None]:
    """Turn operating-system errors of the block into one clear `InsonateError` about `path`.

    Raises:
        InsonateError: for any `OSError` in the block.
    """
    try:
        yield
    except OSError as error:
        raise InsonateError(
            path, _reason(error), _MENDS.get(error.errno or 0, "Choose another place")
        ) from error


def _reason(error: OSError) -> str:
    return "the disk is full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else error.strerror or str(error)


_MENDS = {
    errno.ENOSPC: "Free some space and run the same command again",
    errno.EDQUOT: "Free some space and run the same command again",
    errno.EACCES: "Choose a folder that you may write to",
    errno.EROFS: "Choose a folder that you may write to",
    errno.EPERM: "Choose a folder that you may write to",
    errno.ENOTDIR: "A part of the path is a file, not a folder",
    errno.EEXIST: "A part of the path is a file, not a folder",
    errno.EISDIR: "It is a folder: give a file name",
    errno.ENOENT: "Check the path",
}
