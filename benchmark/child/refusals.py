"""Say which rule of a run an exception comes from, and the way out, in one sentence."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

from benchmark.child.code import OwnModules
from benchmark.folders import PRIVATE_PACKAGES

MAX_NAME = 60  # characters of a file's name in a rule
COMPILER = "torch.compile starts a compiler, which a run cannot do: leave the model uncompiled"
WORKERS = "a run cannot start worker processes: use DataLoader(num_workers=0)"
NETWORK = 'a run has no network: download files beforehand, and declare files = ("words.json",)'
PROCESS = "a run cannot start processes: compute in its own process, where threads are allowed"
FILE = (
    "a run reads only its own files and writes only to run.scratch: declare the data files that it "
    'reads, as in files = ("prompts.json",)'
)
ELSEWHERE = (
    "a run reads only its own files and writes only to run.scratch: copy what it reads "
    'beside its own file and declare it, as in files = ("prompts.json",)'
)
SCRATCH = (
    "a run writes only to run.scratch, which is deleted after the run: write there, or keep what "
    "people should see with run.note"
)
CLOSED = (
    "data_manifests and leaderboard are closed to runs, because they lead to the labels: import "
    "names such as run_suite in another file, or where they are called"
)
CALL = "the sandbox of a run refuses this system call"

# Parts of the paths of modules whose code is on the stack, most telling first.
_FRAMES = (
    (COMPILER, ("/torch/_inductor/", "/torch/_dynamo/", "/torch/_functorch/")),
    (WORKERS, ("/torch/utils/data/dataloader.py",)),
    (NETWORK, ("/torch/hub.py", "/huggingface_hub/", "/urllib/request.py", "/urllib3/", "/http")),
    (NETWORK, ("/socket.py", "/ssl.py", "/asyncio/")),
    (PROCESS, ("/subprocess.py", "/multiprocessing/", "/concurrent/futures/process.py", "/pty.py")),
)
_STARTS = {"fork", "forkpty", "posix_spawn", "posix_spawnp", "spawnv", "spawnl", "execv", "execve"}


def explain(error: BaseException) -> str | None:
    """The rule that an exception comes from, with the way out; None if it comes from none.

    An exception comes from a rule if it, or one that caused it, is a refusal of the sandbox.
    """
    chain = list(_chain(error))
    refusals = [e for e in chain if _is_refusal(e)]
    if not refusals:
        return _import_rule(error)
    refusal = refusals[-1]
    frames = [frame for e in chain for frame, _ in traceback.walk_tb(e.__traceback__)]
    paths = [frame.f_code.co_filename for frame in frames]
    for rule, parts in _FRAMES:
        if any(part in path for path in paths for part in parts):
            return rule
    last = [frame for frame, _ in traceback.walk_tb(refusal.__traceback__)][-1:]
    if isinstance(refusal, OSError) and refusal.filename is not None:
        is_import = last and last[0].f_code.co_filename.startswith("<frozen importlib")
        path = Path(os.fsdecode(refusal.filename))
        return _module_rule(path) if is_import else _file_rule(path)
    if not isinstance(refusal, OSError) and _says(refusal, errno.EACCES):
        return FILE
    if any(_STARTS.intersection(frame.f_code.co_names) for frame in last):
        return PROCESS
    return CALL


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and those that it was raised from or while handling."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        context = None if error.__suppress_context__ else error.__context__
        inner = getattr(error, "inner_exception", None)  # where torch's compiler keeps the cause
        inner = inner if isinstance(inner, BaseException) else None
        error = error.__cause__ or inner or context


def _is_refusal(error: BaseException) -> bool:
    if isinstance(error, socket.gaierror | URLError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.EACCES, errno.EPERM)
    return _says(error, errno.EACCES) or _says(error, errno.EPERM)


def _says(error: BaseException, number: int) -> bool:
    """Whether an exception of native code has the words of an error number in its text."""
    try:
        return os.strerror(number) in str(error)
    except Exception:  # a method's own exception may fail to give any text
        return False


def _import_rule(error: BaseException) -> str | None:
    """The rule of a module that exists, but that no import statement names."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    folders = {folder for finder in _own_modules() for folder in finder.folders()}
    folders |= set(map(Path, sys.path))
    path = Path(*error.name.split("."))
    for folder in sorted(folders):
        for file in (folder / path.with_suffix(".py"), folder / path / "__init__.py"):
            if file.is_file():
                return _module_rule(file)
    return None


def _file_rule(path: Path) -> str:
    """The rule of a file that a run can neither read nor write, with the line that declares it."""
    path = path.absolute()
    if not path.exists():  # a run that reads it is told so
        return SCRATCH
    folders = (folder for finder in _own_modules() for folder in finder.folders())
    inside = [path.relative_to(folder) for folder in folders if path.is_relative_to(folder)]
    rule = FILE if inside or not path.is_file() else ELSEWHERE
    name = min(map(str, inside), key=len, default=path.name)
    if not path.is_file() or len(name) > MAX_NAME:
        return rule
    return rule.replace('"prompts.json"', json.dumps(name, ensure_ascii=False))


def _own_modules() -> list[OwnModules]:
    return [finder for finder in sys.meta_path if isinstance(finder, OwnModules)]


def _module_rule(file: Path) -> str:
    """The rule of a module that a run cannot import, by its file."""
    if not {file.parent.name, file.parent.parent.name}.isdisjoint(PRIVATE_PACKAGES):
        return CLOSED
    name = file.parent.name if file.name == "__init__.py" else file.stem
    return (
        f"a run imports only modules that an import statement names: write `import {name}` in the "
        f"method's file, or declare {name} in `files`"
    )
