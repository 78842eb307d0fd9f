"""Runs and trainings on this machine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from benchmark.errors import RunError
from benchmark.executors import local as module
from benchmark.executors.local import LocalExecutor
from benchmark.isolation import client
from benchmark.progress import Silent
from benchmark.runs.workspace import Workspace


class Spec:
    name, key, checkpoints_folder = "a source model", "", Path()


MODEL = SimpleNamespace(record={"test_accuracy": 50.0})


class TestTheTrainingOfAnotherDriver:
    @pytest.fixture
    def server(self) -> Any:
        return SimpleNamespace(alive=True, close=lambda: None)

    @pytest.fixture
    def lock(self, tmp_path: Path) -> FileLock:
        """Held by the other driver."""
        lock = FileLock(tmp_path / "model.lock")
        lock.acquire()
        return lock

    @pytest.fixture
    def train(self, server: Any, lock: FileLock, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr(client, "LOCK_SECONDS", 0.05)
        monkeypatch.setattr(module, "source_lock", lambda spec: FileLock(lock.lock_file))
        monkeypatch.setattr(module, "find_source", lambda spec: MODEL)

        def run(workspace: Workspace) -> list[Any]:
            return list(LocalExecutor(server, workspace, 1, Silent()).train_sources([Spec()], {}))

        return run

    def test_is_waited_for(
        self, tmp_path: Path, lock: FileLock, train: Callable[[Workspace], list[Any]]
    ) -> None:
        with Workspace(tmp_path) as workspace, ThreadPoolExecutor(1) as pool:
            training: Future[list[Any]] = pool.submit(train, workspace)
            with pytest.raises(TimeoutError):
                training.result(timeout=0.3)
            lock.release()
            assert len(training.result(timeout=10)) == 1
            lock.acquire(timeout=0)  # it was released
            lock.release()

    def test_is_not_waited_for_after_an_interruption(
        self, tmp_path: Path, lock: FileLock, server: Any, train: Callable[[Workspace], list[Any]]
    ) -> None:
        """Ctrl-C ends the server, and then the threads: not hours later."""
        with Workspace(tmp_path) as workspace, ThreadPoolExecutor(1) as pool:
            training = pool.submit(train, workspace)
            server.alive = False
            try:
                with pytest.raises(RunError, match="exited before"):
                    training.result(timeout=10)
            finally:
                lock.release()
