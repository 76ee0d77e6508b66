"""The only writer: old or new, never a part; names that cannot lead out; one owner of a folder."""

from __future__ import annotations

import ast
import errno
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from faults import FaultDisk, standing_in

import insonate
from insonate import files
from insonate.errors import InsonateError, RunError

ERRORS = [errno.ENOSPC, errno.EIO, errno.EACCES]


def test_content_may_be_bytes_text_or_a_function(tmp_path):
    assert files.atomic_write(tmp_path / "new" / "a", b"bytes").read_bytes() == b"bytes"
    assert files.atomic_write(tmp_path / "b", "tëxt").read_text("utf-8") == "tëxt"
    assert (
        files.atomic_write(tmp_path / "c", lambda file: file.write(b"function")).read_bytes() == b"function"
    )
    assert files.atomic_write(tmp_path / "c", b"again").read_bytes() == b"again"


def test_function_that_fails_leaves_the_old_content(tmp_path):
    path = files.atomic_write(tmp_path / "a", b"old")

    def half(file):
        file.write(b"half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        files.atomic_write(path, half)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("error", ERRORS)
def test_each_failing_call_of_a_write_leaves_old_or_new(tmp_path, error, lasting):
    path = tmp_path / "file"
    for call in range(1, 50):
        files.atomic_write(path, b"old" * 100)
        with standing_in(FaultDisk(call, error=error, lasting=lasting)) as disk:
            told = attempt(lambda: files.atomic_write(path, b"new" * 100))
        assert told is None or told.where == str(path)
        assert told is None or ("disk is full" in told.what) == (error == errno.ENOSPC)
        assert path.read_bytes() in {b"old" * 100, b"new" * 100}
        if not disk.failed:
            break
    assert call > 5
    assert files.atomic_write(path, b"next").read_bytes() == b"next"


@pytest.mark.parametrize("lasting", [False, True])
def test_each_failing_call_of_a_folder_leaves_none_or_all(tmp_path, lasting):
    for call in range(1, 80):
        folder = tmp_path / f"folder-{call}"
        with standing_in(FaultDisk(call, error=errno.EIO, lasting=lasting)) as disk:
            told = attempt(lambda: publish(folder))  # noqa: B023 - called at once
        assert told is None or told.what == os.strerror(errno.EIO)
        if folder.exists():
            assert {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == {
                "a": b"1",
                "b": b"2",
            }
        if not disk.failed:
            break
    assert call > 12
    assert not list(tmp_path.glob(".tmp-*"))


def attempt(action: Callable[[], object]) -> InsonateError | None:
    """The error that `action` raises, if it does."""
    try:
        action()
    except InsonateError as error:
        return error
    return None


def publish(folder: Path) -> None:
    with files.publish_dir(folder) as inner:
        files.atomic_write(inner / "a", b"1")
        files.atomic_write(inner / "sub" / "b", b"2")


OLD, NEW = {"a": b"1" * 99, "b": b"2" * 99}, {"a": b"3" * 99, "b": b"4" * 99}


def held_by(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("error", ERRORS)
def test_each_failing_call_of_a_folder_s_files_leaves_all_old_or_all_new(tmp_path, error, lasting):
    folder = tmp_path / "folder"
    files.write_folder(folder, OLD)
    (folder / "note").write_bytes(b"mine")
    for call in range(1, 50):
        files.write_folder(folder, OLD)
        with standing_in(FaultDisk(call, error=error, lasting=lasting)) as disk:
            told = attempt(lambda: files.write_folder(folder, NEW))
        assert told is None or told.where.startswith(str(folder))
        assert held_by(folder) in ({"note": b"mine", **OLD}, {"note": b"mine", **NEW})
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]
        if not disk.failed:
            break
    assert ("exchange", "folder") in disk.calls
    assert call == len(disk.calls) + 1 > 9


def change_and_die(folder: Path, call: int) -> None:
    files.disk = FaultDisk(call, die=True)
    files.write_folder(folder, NEW)


def test_kill_at_each_call_of_a_folder_s_files_leaves_all_old_or_all_new(tmp_path, forked):
    folder, killed = tmp_path / "folder", 0
    for call in range(1, 20):
        files.write_folder(folder, OLD)
        child = forked.Process(target=change_and_die, args=(folder, call))
        child.start()
        child.join()
        assert held_by(folder) in (OLD, NEW)
        if child.exitcode == 0:
            break
        killed += 1
    assert killed > 8
    files.write_folder(folder, NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]  # what the killed ones began is swept


def test_a_folder_s_files_are_put_one_by_one_where_it_cannot_be_exchanged(tmp_path, monkeypatch):
    class Refusing(FaultDisk):
        def exchange(self, first: Path, second: Path) -> None:
            raise OSError(errno.EINVAL, "this file system has no such call")

    files.write_folder(tmp_path / "network", OLD)
    with standing_in(Refusing()):
        files.write_folder(tmp_path / "network", NEW)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)  # somebody may be writing in there
    (tmp_path / "current").mkdir()
    monkeypatch.chdir(tmp_path / "current")
    for name in ("run", "current"):
        before = (tmp_path / name).stat().st_ino
        files.write_folder(tmp_path / name, OLD)
        files.write_folder(tmp_path / name, NEW)
        assert (tmp_path / name).stat().st_ino == before
    assert (tmp_path / "run" / "checkpoints").is_dir()
    for name in ("network", "run", "current"):
        assert {path: (tmp_path / name / path).read_bytes() for path in NEW} == NEW
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_folder_keeps_its_mode_and_a_link_to_it_stays_one(tmp_path):
    files.write_folder(tmp_path / "folder", OLD).chmod(0o750)
    (tmp_path / "link").symlink_to("folder")
    files.write_folder(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert held_by(tmp_path / "folder") == NEW
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750
    (tmp_path / "file").write_text("")
    with pytest.raises(InsonateError, match="not a folder"):
        files.write_folder(tmp_path / "file", NEW)


def write_and_die(path: Path, call: int) -> None:
    files.disk = FaultDisk(call, die=True)
    files.atomic_write(path, b"new" * 100)


def test_kill_at_each_call_leaves_old_or_new(tmp_path, forked):
    path = tmp_path / "file"
    killed = 0
    for call in range(1, 20):
        files.atomic_write(path, b"old" * 100)
        child = forked.Process(target=write_and_die, args=(path, call))
        child.start()
        child.join()
        assert path.read_bytes() in {b"old" * 100, b"new" * 100}
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        killed += 1
    assert killed >= 5
    assert files.atomic_write(path, b"next").read_bytes() == b"next"


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_return(tmp_path):
    with standing_in(FaultDisk()) as disk:
        files.atomic_write(tmp_path / "a", b"1")
    assert [name for name, _ in disk.calls] == ["unlink", "open", "write", "fsync", "replace", "fsync_dir"]
    with standing_in(FaultDisk()) as disk:
        publish(tmp_path / "folder")
    last = [name for name, _ in disk.calls][-2:]
    assert last == ["replace", "fsync_dir"]
    flushed = {path for name, path in disk.calls if name in {"fsync", "fsync_dir"}}
    assert {"a", "b", "sub"} <= flushed


def test_file_size_limit_of_the_system_leaves_the_old_file(tmp_path):
    """A real refusal by the kernel in the middle of a write (EFBIG), in a process of its own."""
    path = files.atomic_write(tmp_path / "file", b"old")
    script = (
        "import resource, signal, sys; from pathlib import Path; from insonate import files\n"
        "from insonate.errors import InsonateError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try:\n    files.atomic_write(sys.argv[1], b'n' * 100_000)\n"
        "except InsonateError as error:\n    print(error.what)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == os.strerror(errno.EFBIG)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 10_000


def test_truly_full_disk_leaves_the_old_file(tmp_path):
    """A tmpfs of 300 kB, where the system lets us mount one."""
    script = (
        "import sys; from insonate import files; from insonate.errors import InsonateError\n"
        "files.atomic_write('disk/file', b'old')\n"
        "try:\n    files.atomic_write('disk/file', b'n' * 1_000_000)\n"
        "except InsonateError as error:\n    print(error)\n"
        "print(open('disk/file').read())\n"
    )
    (tmp_path / "disk").mkdir()
    (tmp_path / "script.py").write_text(script)
    command = f"mount -t tmpfs -o size=300k tmpfs disk && exec {sys.executable} script.py"
    try:
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if done.returncode != 0 and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    assert done.stdout.splitlines() == [
        "disk/file: the disk is full. Free some space and run the same command again.",
        "old",
    ]


def test_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InsonateError, match=r"file.*not a folder"):
        files.atomic_write(tmp_path / "file" / "inner", b"")
    with pytest.raises(InsonateError, match="folder"):
        files.atomic_write(tmp_path, b"")


def test_folder_is_never_published_onto_an_existing_one(tmp_path):
    publish(tmp_path / "folder")
    with pytest.raises(InsonateError, match="there already"):
        publish(tmp_path / "folder")
    (tmp_path / "empty").mkdir()
    publish(tmp_path / "empty")
    assert (tmp_path / "empty" / "a").read_bytes() == b"1"


def test_published_folder_is_gone_when_its_block_fails(tmp_path):
    def fail() -> None:
        with files.publish_dir(tmp_path / "folder") as inner:
            files.atomic_write(inner / "a", b"1")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert list(tmp_path.iterdir()) == []


def write_in_vain(path: Path) -> None:
    """Dies with a file and a folder half written."""
    with files.publish_dir(path / "folder") as inner:
        files.atomic_write(inner / "a", b"1")
        files.disk = FaultDisk(3, die=True)  # unlink, open, write
        files.atomic_write(path / "file", b"2")


def test_what_a_dead_process_left_is_swept_and_nothing_else(tmp_path, forked):
    child = forked.Process(target=write_in_vain, args=(tmp_path,))
    child.start()
    child.join()
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == 2
    dead = str(child.pid)
    others = {
        f".tmp-{os.getpid()}-mine",
        f".tmp-00000000-{dead}-of-another-machine",
        next(iter(left)).replace(dead, str(os.getpid())),  # alive
        ".tmp-thesis",
        "file",
    }
    for name in others:
        (tmp_path / name).write_text("mine")
    files.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == others
    files.sweep(tmp_path / "nowhere")


def test_publishing_sweeps_what_a_dead_process_left(tmp_path, forked):
    child = forked.Process(target=write_in_vain, args=(tmp_path,))
    child.start()
    child.join()
    publish(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_appended_lines_follow_each_other(tmp_path):
    for line in (b"one\n", b"two\n"):
        files.append(tmp_path / "log", line, flush=True)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../../b", "out/secret", "bad\0name"])
def test_names_that_lead_out_or_are_none_are_refused(tmp_path, name):
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(InsonateError):
        files.inside(root, name)


@pytest.mark.parametrize("name", ["a", "sub/a.png", "a/../b", ".", "..a"])
def test_names_inside_are_resolved(tmp_path, name):
    assert files.inside(tmp_path, name).is_relative_to(tmp_path.resolve())


def test_safe_names_are_short_readable_and_different():
    ids = ["../../etc/passwd", "a/b", "a-b", "A-B", "", "\ud800", "…", "x" * 5000, "CON", "study 7: Größe"]
    names = [files.safe_name(item) for item in ids]
    assert len(set(names)) == len(ids)
    assert all(
        len(name) <= 57 and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in names
    )
    assert names[1].startswith("a-b-")


def hold(path: Path, held: Event) -> None:
    with files.lock(path):
        held.set()
        signal.pause()


def test_lock_refuses_a_second_owner_and_dies_with_its_process(tmp_path, forked):
    held = forked.Event()
    child = forked.Process(target=hold, args=(tmp_path / "run.lock", held))
    child.start()
    assert held.wait(20)
    with pytest.raises(RunError, match="another process"), files.lock(tmp_path / "run.lock"):
        pass
    child.kill()
    child.join()
    for _ in range(2):
        with files.lock(tmp_path / "run.lock"):
            pass


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 on, where threads are about
def test_lock_is_not_kept_by_a_forked_child_that_outlives_its_owner(tmp_path):
    ours, theirs = socket.socketpair()
    with files.lock(tmp_path / "run.lock"):
        child = os.fork()
        if child == 0:
            theirs.send(b"started")
            theirs.recv(1)
            os._exit(0)
        assert ours.recv(7) == b"started"
    with files.lock(tmp_path / "run.lock"):
        pass
    ours.send(b".")
    assert os.waitpid(child, 0)[1] == 0
    ours.close()
    theirs.close()


def test_nobody_else_opens_files_for_writing():
    package = Path(insonate.__file__).parent
    found = [
        f"{path.relative_to(package)}:{node.lineno} {call}"
        for path in package.rglob("*.py")
        if path.name != "files.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (call := writing_call(node))
    ]
    assert found == []


def writing_call(node: ast.AST) -> str | None:
    """The name of a call that writes a file past `files`."""
    if not isinstance(node, ast.Call):
        return None
    name = ast.unparse(node.func)
    if name == "torch.save" and ast.unparse(node.args[1]) == "buffer":
        return None  # into memory, see hub.official
    if name in {"torch.save", "np.save", "np.savez", "numpy.save", "save_file"} or name.endswith(
        (".write_text", ".write_bytes")
    ):
        return name
    if name == "open" or (
        name.endswith(".open") and name != "av.open"
    ):  # av: into memory, see data.media.writing
        texts = [
            a.value for a in [*node.args, *(k.value for k in node.keywords)] if isinstance(a, ast.Constant)
        ]
        if any(isinstance(t, str) and set(t) <= set("rwxabt+") and set(t) & set("wxa+") for t in texts):
            return name
    return None


def test_a_folder_is_asked_whether_it_can_be_written_and_nothing_is_made(tmp_path, monkeypatch):
    assert files.writable(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not any(tmp_path.iterdir())

    def closed(dir):  # also for root, who may write everywhere
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", closed)
    with pytest.raises(InsonateError, match=r"Permission denied.*Choose a folder that you may write to"):
        files.writable(tmp_path / "a" / "b")
