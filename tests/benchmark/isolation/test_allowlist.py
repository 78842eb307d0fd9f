"""What of the interpreter and its packages a locked process may read."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark.folders import ROOT
from benchmark.isolation import allowlist
from benchmark.isolation.allowlist import cuda_libraries, interpreter_paths
from benchmark.isolation.sandbox import available
from tests.benchmark.isolation.places import offer


class TestPaths:
    def test_no_path_covers_a_folder_that_holds_more_than_code(self) -> None:
        paths = interpreter_paths()
        checkout = ROOT
        forbidden = [Path("/"), Path.home(), Path("/tmp"), Path("/proc"), Path("/etc"), checkout]
        forbidden += [
            Path(sys.prefix),
            Path(sys.base_prefix),
            Path("/usr"),
            *allowlist._site_folders(),
        ]
        for folder in forbidden:
            assert not [path for path in paths if folder.is_relative_to(path)], folder

    def test_a_closed_folder_is_left_out_and_its_neighbours_are_not(self) -> None:
        import json

        package = Path(json.__file__).parent.resolve()
        paths = interpreter_paths(never=[package])
        assert not [path for path in paths if package.is_relative_to(path)]
        assert package.parent / "decimal.py" in paths

    def test_asking_changes_nothing(self) -> None:
        assert available() == offer
        assert bool(offer.missing) == (offer.landlock == 0 or not offer.seccomp)


def test_the_drivers_libraries_where_only_the_search_path_names_them(tmp_path, monkeypatch):
    for name in ("libcuda.so.550.1", "libnvidia-ptxjitcompiler.so.1", "labels.txt", "libother.so"):
        (tmp_path / name).touch()
    (tmp_path / "libcuda.so.1").symlink_to("libcuda.so.550.1")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}:/nonexistent:")
    libraries = ["libcuda.so.550.1", "libnvidia-ptxjitcompiler.so.1"]
    assert cuda_libraries() == [tmp_path / name for name in libraries]
    monkeypatch.delenv("LD_LIBRARY_PATH")
    assert cuda_libraries() == []
