"""Read a file of weights that may be damaged or hostile.

Three formats: safetensors, the zip archive of `torch.save`, and the pickles in a row that it wrote before.
Of an archive, names and sizes of its records, then the opcodes and globals of its pickle, then every tensor's
claim on its storage are checked before torch sees it; torch then reads it with `weights_only`. Nothing in a
file is ever executed.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from torch import Tensor

from insonate.errors import WeightsError

MAX_PICKLE_BYTES = 64 << 20
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
MAX_HEADER_BYTES = 100 << 20
MAX_RECORDS = 200_000
DAMAGED = "Copy or download it again"
RESAVE = "Save the state dict alone, best as safetensors"

STORAGE_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8,
    "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
    "UntypedStorage": 1,
}  # fmt: skip
OPCODES = frozenset({
    "PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1",
    "LONG4", "BINFLOAT", "BINUNICODE", "BINSTRING", "SHORT_BINSTRING", "EMPTY_TUPLE", "TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM",
    "SETITEMS", "EMPTY_SET", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "GLOBAL", "BINPERSID",
    "REDUCE", "BUILD",
})  # fmt: skip
"""what `torch.save` writes for tensors, numbers, text, lists and dicts"""


def read(path: Path | str) -> dict[str, Any]:
    """What a weights file holds: a state dict, or a dict with state dicts in it.

    Args:
        path: a .safetensors file or an archive of `torch.save`, told apart by their first bytes.

    Returns:
        Names to tensors (on the CPU), or to nested dicts, lists, numbers and text.

    Raises:
        WeightsError: the file is missing, damaged, unsafe, of another format, or not finite.
    """
    path = Path(path)
    try:
        content = _read(path)
        _check_finite(content, path)
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(path, error.strerror or error, "Check the path") from error
    except Exception as error:
        raise WeightsError(path, f"cannot be read ({type(error).__name__}: {error})", DAMAGED) from error
    return content


def _read(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise WeightsError(path, "is a folder", "Give the weights file in it")
    if not path.is_file():
        raise WeightsError(path, "is no file", "Check the path")
    with path.open("rb") as file:
        start = file.read(256)
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(path, "is a Git LFS pointer, not the weights", "Fetch them with `git lfs pull`")
    if start.startswith(b"PK\x03\x04"):
        return _read_archive(path)
    if start.startswith(LEGACY_START):
        return _read_legacy(path)
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return _read_safetensors(path, start)
    raise WeightsError(path, "is neither safetensors nor an archive of torch.save", RESAVE)


def _read_safetensors(path: Path, start: bytes) -> dict[str, Any]:
    size, length = path.stat().st_size, int.from_bytes(start[:8], "little")
    if len(start) < 8 or length > min(size - 8, MAX_HEADER_BYTES):
        raise WeightsError(path, f"is cut short, or damaged: {size} bytes", DAMAGED)
    return dict(safetensors.torch.load_file(path))


def _read_archive(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        sizes = _record_sizes(archive, path)
        roots = [
            name.removesuffix("data.pkl")
            for name in sizes
            if name.count("/") == 1 and name.endswith("/data.pkl")
        ]
        if len(roots) != 1:
            raise WeightsError(path, "is a zip file, but not of torch.save", RESAVE)
        if f"{roots[0]}constants.pkl" in sizes:
            raise WeightsError(path, "is a TorchScript program", RESAVE)
        if sizes[f"{roots[0]}data.pkl"] > MAX_PICKLE_BYTES:
            raise WeightsError(path, f"its pickle is larger than {MAX_PICKLE_BYTES >> 20} MiB", RESAVE)
        program = archive.read(f"{roots[0]}data.pkl")
    _check_opcodes(program, path)
    prefix = f"{roots[0]}data/"
    records = {name.removeprefix(prefix): size for name, size in sizes.items() if name.startswith(prefix)}
    _Rehearsal(program, records, path).load()
    return _load(path)


def _load(path: Path) -> dict[str, Any]:
    """Let torch read a checked file.

    Raises:
        WeightsError: it holds something else than names with tensors.
    """
    content = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 - the one place
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise WeightsError(path, f"holds a {type(content).__name__}, not names with tensors", RESAVE)
    return content


def _read_legacy(path: Path) -> dict[str, Any]:
    """Five pickles (a number, a version, the machine, the content, the storages' keys), then the storages.

    Raises:
        WeightsError: a pickle asks for more than tensors need, or a storage is not what it claims to be.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        programs = [_next_pickle(file, path) for _ in range(5)]
        rehearsal = _LegacyRehearsal(programs[3], {}, path)
        rehearsal.load()
        keys = _Rehearsal(programs[4], {}, path).load()
        if not isinstance(keys, list) or set(keys) != rehearsal.storages.keys() or len(set(keys)) < len(keys):
            raise WeightsError(path, "its storages are not those that its tensors name", DAMAGED)
        for key in keys:
            itemsize, numel = rehearsal.storages[key]
            if int.from_bytes(file.read(8), "little") != numel or file.tell() + numel * itemsize > size:
                raise WeightsError(path, f"its storage {key!r} is not of {numel} numbers", DAMAGED)
            file.seek(numel * itemsize, 1)
    return _load(path)


def _next_pickle(file: BinaryIO, path: Path) -> bytes:
    """The pickle that begins here, looked through; the file is left behind it.

    Raises:
        WeightsError: it is too large, or uses more of the language than tensors need.
    """
    start = file.tell()
    program = file.read(MAX_PICKLE_BYTES)
    end = _check_opcodes(program, path)
    file.seek(start + end)
    return program[:end]


def _record_sizes(archive: zipfile.ZipFile, path: Path) -> dict[str, int]:
    """Sizes of the archive's records, by name.

    Raises:
        WeightsError: a record is compressed, leaves the archive, comes twice or overlaps another.
    """
    entries, sizes = archive.infolist(), {}
    if len(entries) > MAX_RECORDS:
        raise WeightsError(path, f"has {len(entries)} records", RESAVE)
    for entry in entries:
        name = entry.filename
        if name.startswith("/") or ".." in name.split("/") or "\\" in name or name in sizes:
            raise WeightsError(path, f"has a record named {name!r}", RESAVE)
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise WeightsError(
                path, f"its record {name!r} is compressed, which torch.save never does", RESAVE
            )
        sizes[name] = entry.file_size
    if sum(sizes.values()) > path.stat().st_size:
        raise WeightsError(path, "its records overlap", RESAVE)
    return sizes


def _check_opcodes(program: bytes, path: Path) -> int:
    """Look through a pickle without running it.

    Returns:
        Where it ends.

    Raises:
        WeightsError: it uses more of the language than tensors need, or names another function.
    """
    end = 0
    for opcode, argument, place in pickletools.genops(program):
        end = 1 + (place or 0)
        if opcode.name not in OPCODES:
            raise WeightsError(path, f"its pickle uses the opcode {opcode.name}", RESAVE)
        if opcode.name == "GLOBAL" and str(argument) not in STAND_INS:
            raise WeightsError(
                path, f"wants to call {str(argument).replace(' ', '.')}, which is not allowed", RESAVE
            )
    return end


class _StandIn:
    """Takes the place of a tensor or a dtype in the rehearsal."""


class _Dict(dict[Any, Any]):
    """An ordered dict that may carry `_metadata`."""


class _StorageType:
    def __init__(self, itemsize: int) -> None:
        self.itemsize = itemsize


class _Storage:
    def __init__(self, numel: int) -> None:
        self.numel = numel


def _stand_in_tensor(storage: object, offset: object, shape: object, stride: object, *_: object) -> _StandIn:
    """Takes the place of the function that builds a tensor.

    Raises:
        ValueError: the tensor leaves its storage, or would need more memory than it when copied.
    """
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise ValueError("a tensor is described wrongly")
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
        raise ValueError(f"a tensor has offset {offset}, shape {shape}, stride {stride}")
    numel = math.prod(shape)
    if not numel:
        return _StandIn()
    last = sum((side - 1) * step for side, step in zip(shape, stride, strict=True))
    if not isinstance(offset, int) or offset + last >= storage.numel or numel > storage.numel:
        raise ValueError(f"a tensor of shape {shape} lies outside its storage of {storage.numel} numbers")
    return _StandIn()


def _stand_in_parameter(data: object, *_: object) -> object:
    return data


STAND_INS: dict[str, object] = {
    "collections OrderedDict": _Dict,
    "torch._utils _rebuild_tensor": _stand_in_tensor,
    "torch._utils _rebuild_tensor_v2": _stand_in_tensor,
    "torch._utils _rebuild_parameter": _stand_in_parameter,
    "torch Size": tuple,
    "torch.storage UntypedStorage": _StorageType(1),
    **{f"torch {name}": _StorageType(size) for name, size in STORAGE_BYTES.items()},
    **{
        f"torch {name}": _StandIn()
        for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32")
    },
}
"""globals that a pickle may name, each with what the rehearsal puts in its place"""


class _Rehearsal(pickle._Unpickler):  # pure Python: its memo is a dict
    """Runs a checked pickle with stand-ins for every global, to see what it asks of the storages."""

    def __init__(self, program: bytes, records: Mapping[str, int], path: Path) -> None:
        super().__init__(io.BytesIO(program))
        self._records, self._path = records, path

    def find_class(self, module: str, name: str) -> object:
        return STAND_INS[f"{module} {name}"]

    def persistent_load(self, pid: object) -> _Storage:
        if not (isinstance(pid, tuple) and len(pid) == 5 and isinstance(pid[1], _StorageType)):
            raise ValueError("a storage is described wrongly")
        _, kind, key, _, numel = pid
        if key not in self._records:
            raise WeightsError(self._path, f"its record {key!r} is missing", DAMAGED)
        if type(numel) is not int or not 0 <= numel * kind.itemsize <= self._records[key]:
            raise WeightsError(
                self._path,
                f"its record {key!r} has {self._records[key]} bytes, not {numel} × {kind.itemsize}",
                DAMAGED,
            )
        return _Storage(numel)


class _LegacyRehearsal(_Rehearsal):
    """The same for a file of pickles, whose storages come after: what they are said to be is kept."""

    def __init__(self, program: bytes, records: Mapping[str, int], path: Path) -> None:
        super().__init__(program, records, path)
        self.storages: dict[str, tuple[int, int]] = {}
        """key → bytes of a number, count of numbers"""

    def persistent_load(self, pid: object) -> _Storage:
        if not (isinstance(pid, tuple) and len(pid) == 6 and isinstance(pid[1], _StorageType)):
            raise ValueError("a storage is described wrongly")
        _, kind, key, _, numel, view = pid
        size = self._path.stat().st_size
        if type(key) is not str or type(numel) is not int or not 0 <= numel * kind.itemsize <= size or view:
            raise WeightsError(self._path, f"its storage {key!r} is described wrongly", DAMAGED)
        if self.storages.setdefault(key, (kind.itemsize, numel)) != (kind.itemsize, numel):
            raise WeightsError(self._path, f"its storage {key!r} is described twice", DAMAGED)
        return _Storage(numel)


def _check_finite(content: Mapping[str, Any], path: Path) -> None:
    for name, tensor in _tensors(content):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(path, f"{name} has values that are not finite", "Take an earlier checkpoint")


def _tensors(content: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """All tensors with their names; a container that is met again is not entered again."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = list(content.items())
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(f"{name}.{key}", part) for key, part in items]
