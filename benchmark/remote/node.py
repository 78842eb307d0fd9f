"""One machine of a cluster, as a driver on another machine uses it: files and a worker process.

:class:`Node` knows nothing of how its methods are called from afar; ``ray_cluster.py`` does that.
It forks and locks nothing in its own process. Loads no torch.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import platform
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmark.errors import UsageError
from benchmark.files import digest_file, open_inside
from benchmark.folders import PACKAGE, data_folder
from benchmark.keys import compute_digest
from benchmark.remote.worker import MAX_LINE
from benchmark.temporary import locked_folder

# Packages that the bytes of predictions, and of the files that hold them, depend on.
PACKAGES = ("holistic-transfer-bench", "torch", "torchvision", "numpy", "pillow", "pyarrow")
PART = 32 << 20  # bytes of a file that are sent at a time
LAST_WORDS = 2000  # characters of what a worker printed that are shown when it has died


def versions() -> dict[str, str]:
    """What must be the same on all machines, so that equal runs have equal keys and bytes."""
    return {
        "Python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "code of the benchmark": compute_digest()[:12],
        "machine": platform.machine(),
    }


class Node:
    """What a driver asks of a machine. Every method may be called from several threads."""

    def __init__(self) -> None:
        self._folder, self._lock_of_folder = locked_folder("node")  # Ray may kill this process
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._listener: threading.Thread | None = None

    # --- what it is ----------------------------------------------------------------------------

    def versions(self) -> dict[str, str]:
        """See :func:`versions`."""
        return versions()

    def has(self, name: str, sha256: str) -> bool:
        """Whether a file of the data folder is here with this digest."""
        path = _inside(data_folder(), name)
        return path.is_file() and digest_file(path) == sha256

    # --- files that are sent to it -------------------------------------------------------------

    def write(self, place: str, name: str, offset: int, content: bytes) -> None:
        """Write a part of a file of the data folder (``data``) or of its workspace; see `seal`."""
        path = self._unsealed(place, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(content)

    def seal(self, place: str, name: str, sha256: str) -> bool:
        """Give a file that was written its name if it has this digest; whether it has."""
        path = self._unsealed(place, name)
        if digest_file(path) != sha256:
            path.unlink()
            return False
        path.replace(_inside(self._root(place), name))
        return True

    # --- runs ----------------------------------------------------------------------------------

    def start(self, options: Mapping[str, Any], keys: Sequence[str], slots: int) -> dict[str, Any]:
        """Start the worker.

        Args:
            options: arguments of ``plan_suite``, and ``suite``.
            keys: of the runs of the plan that it may be asked for.
            slots: how many requests it carries out at a time.

        Returns:
            Those of the ``keys`` that its plan has, or why the worker was ``refused``.
        """
        (self._folder / "workspace").mkdir(exist_ok=True)
        with (self._folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(PACKAGE / "start.py"), "benchmark.remote.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
            )
        every = {
            **options,
            "keys": list(keys),
            "slots": slots,
            "workspace": str(self._folder / "workspace"),
        }
        self._tell(every)
        assert self._process.stdout is not None
        line = self._process.stdout.readline(MAX_LINE)
        if not line:
            return {"refused": f"its worker has ended: {self._last_words()}"}
        answer: dict[str, Any] = json.loads(line)
        if "keys" in answer:
            self._listener = threading.Thread(target=self._listen, daemon=True)
            self._listener.start()
        return answer

    def run(self, keys: Sequence[str]) -> dict[str, Any]:
        """Carry out runs.

        Returns:
            Their ``statuses`` by key, or an ``error`` of the machine, or why its worker has
            ``ended``, which then carries out nothing more.
        """
        number, answers = next(self._numbers), queue.SimpleQueue[dict[str, Any]]()
        self._answers[number] = answers
        self._tell({"id": number, "keys": list(keys)})
        answer = answers.get()
        del self._answers[number]
        return answer

    def read(self, key: str, name: str, offset: int, size: int) -> bytes | None:
        """A part of a file of a run; None if it does not exist."""
        try:
            with open_inside(self._run_folder(key), name) as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError:
            return None

    def forget(self, keys: Sequence[str]) -> None:
        """Remove runs, to save space."""
        for key in keys:
            shutil.rmtree(self._run_folder(key), ignore_errors=True)

    def stop(self) -> None:
        """End the worker and remove what is here of its runs."""
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            with contextlib.suppress(OSError):  # the worker has ended
                self._process.stdin.close()
            self._process.wait()
            if self._listener is not None:
                self._listener.join()
            self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock_of_folder)

    # -------------------------------------------------------------------------------------------

    def _unsealed(self, place: str, name: str) -> Path:
        final = _inside(self._root(place), name)
        return final.with_name(f"{final.name}.{self._folder.name}")

    def _root(self, place: str) -> Path:
        return data_folder() if place == "data" else self._folder / "workspace"

    def _run_folder(self, key: str) -> Path:
        return _inside(self._folder / "workspace" / "runs", key)

    def _tell(self, request: Mapping[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with self._lock:
            try:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
            except OSError:
                self._say_that_it_ended()

    def _listen(self) -> None:
        """Pass on the worker's answers, until it ends."""
        assert self._process is not None
        assert self._process.stdout is not None
        while line := self._process.stdout.readline(MAX_LINE):
            answer = json.loads(line)
            if (waiting := self._answers.get(answer.get("id"))) is not None:
                waiting.put(answer)
        self._say_that_it_ended()

    def _say_that_it_ended(self) -> None:
        for waiting in list(self._answers.values()):
            waiting.put({"ended": f"its worker has ended: {self._last_words()}"})

    def _last_words(self) -> str:
        text = (self._folder / "output").read_text("utf-8", "replace")
        return text[-LAST_WORDS:].strip() or "it printed nothing"


def _inside(folder: Path, name: str) -> Path:
    """A path in a folder.

    Raises:
        UsageError: the name leads out of it.
    """
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UsageError(f"{name!r} is not a path inside {folder}")
    return folder / path
