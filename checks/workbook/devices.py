"""Peaks and limits of known GPUs: what a datasheet promises, and what a block may use."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

KB = 1024
MB = 1024 * KB

# Bytes of shared memory that one block may opt in to, and warps and blocks that one multiprocessor holds, by compute
# capability (NVIDIA, CUDA C++ Programming Guide, 2025, technical specifications per compute capability).
SHARED = {80: 163 * KB, 86: 99 * KB, 89: 99 * KB, 90: 227 * KB}
WARPS = {80: 64, 86: 48, 89: 48, 90: 64}
BLOCKS = {80: 32, 86: 16, 89: 24, 90: 32}


@dataclass(frozen=True)
class Device:
    """One GPU as its vendor describes it.

    `name` is what we call it, `match` the pattern of what `torch.cuda.get_device_name` calls it, `arch` its
    compute capability without the dot. `memory_gb` and `bandwidth` (GB/s) are decimal, `l2_bytes` is the L2
    cache as the driver reports it, `clock` the boost clock in MHz. `peaks` are dense TFLOPS (int8: TOPS) by
    dtype, accumulating in fp32 (int8: in int32), None where the hardware has no such path.
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


def peaks(*tflops: float | None) -> dict[str, float | None]:
    return dict(zip(("fp32", "tf32", "fp16", "bf16", "fp8", "int8"), tflops, strict=True))


# fmt: off
#                 fp32   tf32   fp16   bf16     fp8    int8
# NVIDIA A100 Tensor Core GPU Architecture, whitepaper, 2020.
A100     = peaks( 19.5, 156.0, 312.0, 312.0,   None,  624.0)
# NVIDIA H100 Tensor Core GPU Architecture, whitepaper, 2022. Its tensor peaks assume 1830 MHz (SXM) and
# 1620 MHz (PCIe), below the boost clock.
H100_SXM = peaks( 66.9, 494.7, 989.4, 989.4, 1978.9, 1978.9)
H100_PCI = peaks( 51.2, 378.0, 756.0, 756.0, 1513.0, 1513.0)
# NVIDIA Ampere GA102 GPU Architecture, whitepaper, 2021: its rates for one multiprocessor and clock,
# times 28 multiprocessors and 1777 MHz. GeForce halves fp16 and bf16 when they accumulate in fp32.
RTX_3060 = peaks( 12.7,  12.7,  25.5,  25.5,   None,  101.9)
# NVIDIA Ada GPU Architecture, whitepaper, 2022: fp16, bf16 and fp8 with fp32 accumulation.
RTX_4090 = peaks( 82.6,  82.6, 165.2, 165.2,  330.3,  660.6)
# NVIDIA L4 Tensor Core GPU, datasheet, 2023, which gives twice as much, for sparse matrices.
L4       = peaks( 30.3,  60.0, 121.0, 121.0,  242.5,  242.5)

# Multiprocessors and clocks come from the sources above, memory and bandwidth from these datasheets:
# NVIDIA A100 Tensor Core GPU, 2021; NVIDIA H100 Tensor Core GPU, 2023; NVIDIA H200 Tensor Core GPU, 2024;
# NVIDIA L4 Tensor Core GPU, 2023; GeForce RTX 3060 and RTX 4090, product specifications, 2021 and 2022.
# The first row of an architecture stands for it where there is no GPU.
DEVICES = (
    #      name             match                 arch  SMs   GB  GB/s         L2   MHz
    Device("A100 SXM 40GB", "A100-SXM4?-40GB",      80, 108,  40, 1555,   40 * MB, 1410, A100),
    Device("A100 SXM 80GB", "A100-SXM4?-80GB",      80, 108,  80, 2039,   40 * MB, 1410, A100),
    Device("A100 PCIe 40GB", "A100-PCIE-40GB",      80, 108,  40, 1555,   40 * MB, 1410, A100),
    Device("A100 PCIe 80GB", "A100 80GB PCIe",      80, 108,  80, 1935,   40 * MB, 1410, A100),
    Device("RTX 3060",      "GeForce RTX 3060",     86,  28,  12,  360, 2304 * KB, 1777, RTX_3060),
    Device("RTX 4090",      "GeForce RTX 4090",     89, 128,  24, 1008,   72 * MB, 2520, RTX_4090),
    Device("L4",            "L4",                   89,  58,  24,  300,   48 * MB, 2040, L4),
    Device("H100 SXM",      "H100 80GB HBM3",       90, 132,  80, 3350,   50 * MB, 1980, H100_SXM),
    Device("H100 PCIe",     "H100 PCIe",            90, 114,  80, 2000,   50 * MB, 1755, H100_PCI),
    Device("H200",          "H200",                 90, 132, 141, 4800,   60 * MB, 1980, H100_SXM),
)
# fmt: on

# The device that stands for an architecture where there is no GPU.
TYPICAL = {device.arch: device for device in reversed(DEVICES)}


def find(name: str, memory_bytes: int) -> Device | None:
    """The device that torch.cuda names `name` and credits with `memory_bytes` in total, if the table has it.

    Both must agree, so that a slice (MIG), a laptop's part or a smaller sibling is not taken for the card.
    """
    for device in DEVICES:
        # A driver reports binary gigabytes less what it keeps: within a tenth of the vendor's number.
        near = abs(memory_bytes / 1e9 / device.memory_gb - 1) < 0.1
        if near and re.fullmatch(f"(NVIDIA )?{device.match}", name):
            return device
    return None
