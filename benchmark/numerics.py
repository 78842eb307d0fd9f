"""Seeds, named random streams and the settings that make runs reproducible to the byte.

The driver imports this module for its constants: only the functions need torch. Loads no torch.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

STREAMS = ("order", "augmentation", "method")

# Environment variables to set before torch is imported. A run uses one thread: several runs execute
# in parallel, and results do not depend on the number of cores. Threads of OpenMP that spin while
# they wait would slow down the other runs.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "PYTHONHASHSEED": "0",
}

# What environment() reports.
ENVIRONMENT_FACTS = ("python", "torch", "device", "cpu", "cpu_capability", "cuda", "cudnn")

# What configure() sets, unless the recipe asks for TF32; both are part of a run's key.
SWITCHES = {"threads": 1, "deterministic": True, "tf32": False, "flush_denormal": True}


def configure(*, tf32: bool = False) -> None:
    """Apply ``SWITCHES`` to this process; call it once, before any computation.

    Args:
        tf32: whether an NVIDIA GPU may round the factors of float32 products to 10 bits of
            mantissa, as a recipe with ``tf32 = true`` says. It has no effect on a CPU.
    """
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # Off: filling every new tensor takes a tenth of a step's time and only helps operations that
    # read uninitialized memory; there are none here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    # CPUs multiply denormals (below 1e-38) a hundred times slower, and late in training many
    # gradients are that small.
    torch.set_flush_denormal(True)


def derive(seed: int, stream: str) -> int:
    """Return the seed of a stream: 63 bits of a SHA-256 of the run's seed and the stream's name."""
    digest = hashlib.sha256(f"htbench stream {seed} {stream}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Streams:
    """The named random streams of one run; each is created on first use.

    All streams are on the CPU, so that a seed gives the same numbers on every device.

    Args:
        seed: the run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._streams: dict[str, torch.Generator] = {}

    def __call__(self, name: str) -> torch.Generator:
        """Return the stream of that name, one of ``STREAMS``.

        Raises:
            KeyError: unknown name.
        """
        if name not in STREAMS:
            raise KeyError(f"unknown random stream {name!r}; use one of {', '.join(STREAMS)}")
        import torch

        if name not in self._streams:
            self._streams[name] = torch.Generator().manual_seed(derive(self.seed, name))
        return self._streams[name]


def seed_globals(seed: int) -> None:
    """Seed the global generators of torch, NumPy and Python.

    Dropout and plain ``torch.rand`` calls use torch's, and libraries of augmentations the others.
    """
    import numpy as np
    import torch

    torch.manual_seed(derive(seed, "global"))
    np.random.seed(derive(seed, "numpy") % 2**32)
    random.seed(derive(seed, "random"))


def environment(device: torch.device) -> dict[str, str]:
    """Return versions, the name of the device and details that affect results, for the record."""
    import torch

    versions = {"python": platform.python_version(), "torch": torch.__version__}
    if device.type != "cuda":
        capability = torch.backends.cpu.get_cpu_capability()
        return {**versions, "device": "cpu", "cpu": _cpu_name(), "cpu_capability": str(capability)}
    return {
        **versions,
        "device": torch.cuda.get_device_name(device),
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return os.uname().machine


def one_number(name: str, value: Any) -> float:
    """A number, or a tensor or an array of one; a number beyond the range of floats is infinite.

    Raises:
        TypeError: it is something else; the message says so with ``name``.
    """
    try:
        plain = value.item() if hasattr(value, "item") else value
        if not isinstance(plain, str | bytes):  # float() would parse it
            return float(plain)
    except OverflowError:
        return math.inf if plain > 0 else -math.inf
    except (RuntimeError, TypeError, ValueError):  # of many numbers, or of none
        pass
    raise TypeError(
        f"{name} is {value!r:.100}; it must be a number, or a tensor or an array of one number"
    )
