"""Peaks and limits of known GPUs: what a datasheet promises, and what a block may use."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

KB = 1024
MB = 1024 * KB

# Bytes of shared memory that one block may opt in to, and warps that one multiprocessor holds,
# by compute capability (CUDA C++ Programming Guide 13, technical specifications per compute capability).
SHARED = {80: 163 * KB, 86: 99 * KB, 89: 99 * KB, 90: 227 * KB}
WARPS = {80: 64, 86: 48, 89: 48, 90: 64}

DTYPES = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8")


def peaks(*tflops: float | None) -> Mapping[str, float | None]:
    return dict(zip(DTYPES, tflops, strict=True))


@dataclass(frozen=True)
class Device:
    """One GPU as its vendor describes it.

    `name` is what we call it, `match` the pattern of what `torch.cuda.get_device_name` calls it,
    `arch` its compute capability without the dot, `memory_gb` and `bandwidth` (GB/s) are decimal,
    `peaks` are dense TFLOPS (int8: TOPS) by dtype, accumulating in fp32 (int8: int32), None where the
    hardware has no such path. `l2_bytes` is the L2 cache, `clock` the boost clock in MHz.
    """

    name: str
    match: str
    arch: int
    multiprocessors: int
    memory_gb: int
    bandwidth: int
    l2_bytes: int
    clock: int
    peaks: Mapping[str, float | None] = field(hash=False)

    @property
    def shared_per_block(self) -> int:
        return SHARED[self.arch]

    @property
    def shared_per_multiprocessor(self) -> int:
        return SHARED[self.arch] + KB  # the system keeps 1 KB for every resident block

    @property
    def registers_per_multiprocessor(self) -> int:
        return 65536

    @property
    def warps_per_multiprocessor(self) -> int:
        return WARPS[self.arch]


#                fp32  tf32   fp16   bf16   fp8     int8
A100 = peaks(    19.5, 156.0, 312.0, 312.0, None,   624.0)   # NVIDIA A100 Tensor Core GPU datasheet, 2021
H100_PCIE = peaks(51.0, 378.0, 756.0, 756.0, 1513.0, 1513.0)  # NVIDIA H100 Tensor Core GPU datasheet, 2023
H100_SXM = peaks(67.0, 494.7, 989.4, 989.4, 1978.9, 1978.9)  # H100 architecture whitepaper, 2022
RTX_3060 = peaks(12.7, 12.7, 25.5, 25.5, None, 101.9)
RTX_4090 = peaks(82.6, 82.6, 165.2, 165.2, 330.3, 660.6)
L4 = peaks(30.3, 60.6, 121.1, 121.1, 242.3, 242.3)

# The first row of an architecture is the device that code is compiled for where there is no GPU.
DEVICES = (
    Device("A100 SXM 40GB", r"A100-SXM4?-40GB", 80, 108, 40, 1555, 40 * MB, 1410, A100),
    Device("A100 PCIe 40GB", r"A100-PCIE-40GB", 80, 108, 40, 1555, 40 * MB, 1410, A100),
    Device("A100 SXM 80GB", r"A100-SXM4?-80GB", 80, 108, 80, 2039, 40 * MB, 1410, A100),
    Device("A100 PCIe 80GB", r"A100 80GB PCIe", 80, 108, 80, 1935, 40 * MB, 1410, A100),
    Device("H100 SXM", r"H100 80GB HBM3", 90, 132, 80, 3350, 50 * MB, 1980, H100_SXM),
    Device("H100 PCIe", r"H100 PCIe", 90, 114, 80, 2000, 50 * MB, 1755, H100_PCIE),
    Device("H200", r"H200", 90, 132, 141, 4800, 60 * MB, 1980, H100_SXM),
    Device("RTX 3060", r"GeForce RTX 3060", 86, 28, 12, 360, 3 * MB, 1777, RTX_3060),
    Device("RTX 4090", r"GeForce RTX 4090", 89, 128, 24, 1008, 72 * MB, 2520, RTX_4090),
    Device("L4", r"L4", 89, 58, 24, 300, 48 * MB, 2040, L4),
)


def find(name: str, memory_bytes: int) -> Device | None:
    """The device that torch.cuda calls `name` and gives `memory_bytes` in total; None if it is not in the table.

    Both must agree, so that a slice (MIG), a laptop's part or a smaller sibling is not taken for the card.
    """
    name = name.removeprefix("NVIDIA ")
    for device in DEVICES:
        # Drivers report binary gigabytes less what they keep: within a tenth of the vendor's number.
        if re.fullmatch(device.match, name) and abs(memory_bytes / 1e9 / device.memory_gb - 1) < 0.1:
            return device
    return None


def compiled_for(arch: int) -> Device:
    """The device that stands for `arch` (80, 86, 89 or 90) where there is no GPU."""
    return next(device for device in DEVICES if device.arch == arch)
