"""Chips that programs are compiled for, and slices of them that are not there."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator
from typing import Any

import jax

from fr.errors import UserError
from fr.models import config as types
from fr.sampling.devices import Devices


@dataclasses.dataclass(frozen=True)
class Chip:
    """The memory and speed of one device.

    Attributes:
        memory: Bytes that programs may use.
        bandwidth: Bytes a second between memory and cores.
        peak: Operations a second by type of the operands.
    """

    memory: float
    bandwidth: float
    peak: dict[str, float]


# TPU: cloud.google.com/tpu/docs, pages "TPU v5e", "TPU v5p" and "TPU v6e": bf16
# FLOP/s and HBM bandwidth of a chip. At the default precision a float32 product is one
# bf16 pass, with the same peak. Memory is what the compiler lets a program use (its own
# message when one does not fit).
# H100 and H200: NVIDIA's data sheets, SXM, without sparsity; float32 as TF32.
_TPU = {
    "v5e": (15.75 * 2**30, 819e9, 197e12),
    "v5p": (95.74 * 2**30, 2765e9, 459e12),
    "v6e": (31.25 * 2**30, 1640e9, 918e12),
}
CHIPS = {
    name: Chip(memory, bandwidth, {"bfloat16": peak, "float32": peak})
    for name, (memory, bandwidth, peak) in _TPU.items()
} | {
    "h100": Chip(80e9, 3.35e12, {"bfloat16": 989e12, "float32": 494e12}),
    "h200": Chip(141e9, 4.8e12, {"bfloat16": 989e12, "float32": 494e12}),
}
# The compiler of NVIDIA's GPUs reads the chip from this text (XLA's
# GpuTargetConfigProto); numbers of the CUDA programming guide, compute capability 9.0.
_HOPPER = """
gpu_device_info {{
  cuda_compute_capability {{ major: 9 }}
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472 l2_cache_size: 52428800
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth:.0f} device_memory_size: {memory:.0f}
}}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 8 }}
device_description_str: "{name}"
"""


# Without them the TPU library looks for a machine of Google Cloud and for other
# processes that hold a TPU, and says on stderr that it finds none.
_QUIET = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5e-4",
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Devices of a slice, which need not exist.

    Attributes:
        name: As it was given, such as "v5e:4x4".
        chip: The kind of its devices.
        devices: All of them.
        host: Devices of its first host.
    """

    name: str
    chip: Chip
    devices: tuple[Any, ...]
    host: tuple[Any, ...]

    @property
    def platform(self) -> str:
        """cpu, tpu or gpu."""
        return self.devices[0].platform

    def sampler(self, kind: str, model: int) -> Devices:
        """The devices that one process of a run samples on.

        Args:
            kind: As `sampling.devices`.
            model: Devices of the model axis.

        Returns:
            The devices of the first host.
        """
        return Devices(kind, list(self.host), model)


def open_slice(name: str) -> Slice:
    """A slice by its name; its compiler is loaded, and no device is needed.

    Args:
        name: `CHIP:SHAPE` of a TPU (v5e:4x4, v5p:2x2x1), `h100` or `h200`, with `:N`
            for N of them in one machine, or `cpu`, this machine.

    Returns:
        The slice.

    Raises:
        UserError: The chip is unknown, the shape cannot be, or the compiler is not
            installed.
    """
    kind, _, shape = name.partition(":")
    if name == "cpu":
        found = tuple(jax.local_devices(backend="cpu"))
        return Slice(name, _this_machine(), found, found)
    if kind not in CHIPS:
        known = ", ".join(CHIPS)
        raise UserError(
            f"--topology={name}: there is no chip {kind!r}; name one of {known}, with "
            "its shape (v5e:4x4), or cpu"
        )
    devices = _tpu(name) if kind in _TPU else _gpu(kind, shape or "1")
    host = [device for device in devices if device.process_index == 0]
    if len(host) < len(devices):
        # Its own slice: the compiler takes no collective over a part of a larger one.
        host = _tpu(f"{kind}:{_bounds(host, shape.count('x') + 1)}")
    return Slice(name, CHIPS[kind], tuple(devices), tuple(host))


def _bounds(devices: list, axes: int) -> str:
    """Shape of the box that devices fill, such as 2x2."""
    places = list(zip(*(device.coords for device in devices)))[:axes]
    return "x".join(str(max(at) - min(at) + 1) for at in places)


def _tpu(name: str) -> list:
    try:
        import libtpu  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--topology={name}: the TPU compiler is not installed; "
            f"pip install 'jax[tpu]=={jax.__version__}'"
        ) from error
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(name, "tpu").devices)
    except Exception as error:
        raise UserError(
            f"--topology={name}: the TPU compiler does not know this slice "
            f"({str(error).splitlines()[0]}); shapes are such as v5e:2x4 or v5p:2x2x1"
        ) from error


def _gpu(kind: str, count: str) -> list:
    if not re.fullmatch(r"[1-8]", count):
        raise UserError(
            f"--topology={kind}:{count}: a machine has 1 to 8 of them, such as {kind}:8"
        )
    from jax.experimental import topologies

    chip = CHIPS[kind]
    text = _HOPPER.format(
        bandwidth=chip.bandwidth, memory=chip.memory, name=f"NVIDIA {kind.upper()}"
    )
    try:
        found = topologies.get_topology_desc(
            platform="cuda", topology=f"1x1x{count}", target_config=text
        )
    except NotImplementedError as error:
        raise UserError(
            f"--topology={kind}: the GPU compiler is not installed; "
            f"pip install 'jax[cuda12]=={jax.__version__}'"
        ) from error
    return list(found.devices)


def _this_machine() -> Chip:
    """This machine's memory; its speed is not known, so that it has no roofline."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Chip(
        memory, float("inf"), {"bfloat16": float("inf"), "float32": float("inf")}
    )


@contextlib.contextmanager
def types_of(platform: str) -> Iterator[None]:
    """Within it, models take the types of a platform, not of this machine.

    Args:
        platform: cpu, tpu or gpu.

    Yields:
        Nothing.
    """
    before = types.PLATFORM.set(platform)
    try:
        yield
    finally:
        types.PLATFORM.reset(before)
