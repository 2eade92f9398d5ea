"""Description of the machine, and peak memory of this process."""

import os
import platform
import resource
import sys
from pathlib import Path

import jax
import jaxlib
import numpy as np


def machine() -> dict:
    """Processor, cores, device and versions, for the JSON."""
    device = jax.local_devices()[0]
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "device": device.device_kind,
        "platform": device.platform,
        "system": platform.platform(),
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            "numpy": np.__version__,
        },
    }


def cores() -> int:
    """Number of cores that this process may use."""
    return (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count()
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.split(":", 1)[1].strip()
            for line in lines
            if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class PeakMemory:
    """Peak memory of this process since `restart`.

    The device's count where it has one, else resident memory. Where the count cannot be
    reset (not Linux, or a GPU), earlier memory is included.
    """

    def __init__(self):
        self._device = jax.local_devices()[0]
        self.kind = "device" if self._device.memory_stats() else "resident"

    def now(self) -> float:
        """Bytes in use."""
        if self.kind == "device":
            return self._device.memory_stats()["bytes_in_use"]
        try:
            return 1024 * _status("VmRSS")
        except (OSError, StopIteration):
            return self.peak()

    def restart(self) -> None:
        """Start counting here."""
        if self.kind == "resident" and sys.platform == "linux":
            Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> float:
        """Largest number of bytes in use since `restart`."""
        if self.kind == "device":
            return self._device.memory_stats()["peak_bytes_in_use"]
        try:
            return 1024 * _status("VmHWM")
        except (OSError, StopIteration):
            unit = 1 if sys.platform == "darwin" else 1024
            return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
