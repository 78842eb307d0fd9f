"""Seeds, named random streams and the switches that make a run's bytes depend on its key alone.

torch is imported by what needs it: the driver reads the switches and loads none.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

STREAMS = ("order", "augmentation", "method")
SOURCE_SEED = 0  # of source models, whatever the seeds of the runs

# In the environment before torch is imported. One thread per run: several runs go side by side,
# and bytes do not depend on the number of cores. Spinning OpenMP threads would take the cores
# from each other.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "PYTHONHASHSEED": "0",
}

# What configure() sets, as part of a run's key.
SWITCHES = {"threads": 1, "deterministic": True, "tf32": False, "flush_denormal": True}


def configure() -> None:
    """Switch this process to ``SWITCHES``; call it once, before anything is computed."""
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # Off: it fills every new tensor, a tenth of the time of a step, to guard operations that read
    # what was never written; none here does.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    # Below 1e-38 a CPU multiplies a hundred times slower; late in training many gradients are.
    torch.set_flush_denormal(True)


def derive(seed: int, stream: str) -> int:
    """The seed of a stream: 63 bits of SHA-256 over the run's seed and the stream's name."""
    digest = hashlib.sha256(f"htbench stream {seed} {stream}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Streams:
    """The named random streams of one run; each is created once and drawn from in turn.

    Streams live on the CPU whatever the device: the same seed draws the same numbers everywhere.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._streams: dict[str, torch.Generator] = {}

    def __call__(self, name: str) -> torch.Generator:
        """The stream of that name.

        Raises:
            KeyError: there is no such stream; a misspelt name would else be a new, valid stream.
        """
        if name not in STREAMS:
            raise KeyError(f"no random stream {name!r}; a run has {', '.join(STREAMS)}")
        import torch

        if name not in self._streams:
            self._streams[name] = torch.Generator().manual_seed(derive(self.seed, name))
        return self._streams[name]


def seed_globals(seed: int) -> None:
    """Seed torch's own generators (dropout, a method's bare ``torch.rand``) from a stream."""
    import torch

    torch.manual_seed(derive(seed, "global"))


def driver_facts(device: torch.device) -> dict[str, str]:
    """Device name and, on CUDA, driver-side versions, for the record."""
    import torch

    if device.type != "cuda":
        return {"device": "cpu", "cpu": _cpu_name(), "cpu_capability": _cpu_capability()}
    return {
        "device": torch.cuda.get_device_name(device),
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
    }


def _cpu_capability() -> str:
    import torch

    return str(torch.backends.cpu.get_cpu_capability())


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return os.uname().machine
