# ruff: noqa: PTH108, PTH109, PTH118, PTH123
"""Attempts on the process's own memory and on code that it can import."""

import array
import contextlib
import ctypes
import gc
import importlib
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import torch
from hunter_attempts import KNOWN, attempts, digest


def strings_of(thing):
    """The texts in a container, one level deep."""
    things = [*thing.keys(), *thing.values()] if isinstance(thing, dict) else thing
    return [t for t in things if isinstance(t, str) and 3 < len(t) < 200]


def numbers_of(thing):
    """Whole numbers in a container or an array of one dimension, if that is what it holds."""
    kind = type(thing)
    if kind is torch.Tensor:
        whole = thing.dim() == 1 and not thing.is_floating_point() and not thing.is_complex()
        return thing.tolist() if whole else None
    if kind is np.ndarray:
        return thing.tolist() if thing.ndim == 1 and thing.dtype.kind in "iu" else None
    if kind in (bytes, bytearray, array.array, list, tuple) and len(thing) == KNOWN["count"]:
        return list(thing) if all(type(t) is int for t in thing) else None
    return None


def memory(stage):
    """Search all objects of Python, the frames below, and the heap."""
    ids, labels, pixels = (set(KNOWN[name]) for name in ("ids", "labels", "missing"))
    if stage != "forward":
        pixels.update(KNOWN["test"])
    findings = {"ids": set(), "labels": 0, "pixels": 0}
    frames, frame = [], sys._getframe()
    while frame is not None:
        frames.append(dict(frame.f_locals))
        frame = frame.f_back
    known = {id(thing) for thing in (ids, labels, pixels, KNOWN, *KNOWN.values())}
    for thing in [*gc.get_objects(), *frames]:
        if id(thing) in known:
            continue
        with contextlib.suppress(Exception):
            kind = type(thing)
            inner = thing.values() if kind is dict else thing if kind in (list, tuple) else ()
            for each in [thing, *inner]:
                look(each, findings, labels, pixels)
            if kind in (dict, list, tuple, set, frozenset):
                texts = strings_of(thing)
                findings["ids"].update(t for t in texts if "/" in t and digest(t.encode()) in ids)
    attempts(stage, "memory", *((name, lambda n=name: findings[n]) for name in findings))
    if stage in ("adapt", "control"):  # at import it is what it will be then
        attempts(stage, "memory", ("heap", lambda: in_the_heap(ids)))


def look(each, findings, labels, pixels):
    if type(each) is torch.Tensor and each.dtype == torch.uint8 and each.dim() == 4:
        findings["pixels"] += sum(digest(image.numpy().tobytes()) in pixels for image in each)
    numbers = numbers_of(each)
    if numbers and len(numbers) == KNOWN["count"]:
        findings["labels"] += digest(json.dumps(numbers).encode()) in labels


def in_the_heap(ids):
    """Image ids in the C heap and around everything that Python knows of."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sbrk.restype = ctypes.c_void_p
    libc.write.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    arenas = {id(thing) >> 20 << 20 for thing in gc.get_objects()}  # 1 MiB each
    path = os.path.join(os.getcwd(), "heap")
    with open(path, "wb") as file:
        end = libc.sbrk(0) & ~4095
        heap = range(end - (1 << 29), end)
        places = [(a, a + (1 << 20)) for a in sorted(arenas) if a not in heap]
        # Let the kernel read: for an address that is not mapped it answers EFAULT. It writes
        # what comes before such a place; the page there is passed over.
        for start, stop in [(heap.start, heap.stop), *places]:
            while start < stop:
                written = libc.write(file.fileno(), start, min(stop - start, 1 << 20))
                start += max(written, 4096)
    data = Path(path).read_bytes()
    os.unlink(path)
    findings = set()
    for slash in re.finditer(rb"/[a-z0-9-]{2,60}", data):
        before = re.search(rb"[a-z0-9-]{2,40}$", data[max(0, slash.start() - 40) : slash.start()])
        if before and digest(word := before[0] + slash[0]) in ids:
            findings.add(word.decode())
    return sorted(findings)


def code(stage):
    def packaged():
        import importlib.resources

        root = importlib.resources.files("data_manifests")
        return [p.name for p in (root / "icons" / "2.0").iterdir()]

    def manifest():
        from benchmark.manifest.catalogue import load_manifest

        return load_manifest("icons@2.0").digest

    def store():
        from benchmark.images.store.store import DomainStore

        root = Path(KNOWN["files"]["index of the store"]).parent
        return json.loads((root / "index.json").read_text()) and DomainStore

    attempts(
        stage,
        "import",
        *(
            (name, lambda n=name: importlib.import_module(n).__file__)
            for name in ("leaderboard", "leaderboard.scoring", "data_manifests")
        ),
        ("packaged files", packaged),
        ("manifest", manifest),
        ("store", store),
    )
