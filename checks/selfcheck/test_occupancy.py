"""Occupancy against the vendor's published formula: by hand, and against the vendor's own code."""

import itertools
import shutil
import subprocess
from importlib.metadata import distribution

import pytest
from workbook import devices
from workbook.occupancy import occupancy

KB = 1024


@pytest.mark.parametrize(
    ("arch", "threads", "registers", "shared", "blocks", "warps", "limits"),
    [
        # 4 warps a block, 64 on a multiprocessor: 16 blocks. 32 x 32 = 1,024 registers a warp are 4 units of 256, and
        # 16,384 of a quarter hold 16 of them: 64 warps, 16 blocks. Both let in as many.
        (80, 128, 32, 0, 16, 64, ("warps", "registers")),
        # 168 x 32 = 5,376 registers are 21 units; 16,384 hold 3 such warps (16,128), four quarters 12: 3 blocks of 4.
        (80, 128, 168, 0, 3, 12, ("registers",)),
        # One register more: 169 x 32 = 5,408 round up to 22 units, 5,632. A quarter holds 2: 8 warps, 2 blocks.
        (80, 128, 169, 0, 2, 8, ("registers",)),
        # 255 x 32 = 8,160 round up to 8,192: 2 a quarter, 8 warps, one block of 8.
        (90, 256, 255, 0, 1, 8, ("registers",)),
        # The same registers for 16 warps: 16 x 8,192 are 131,072, twice what a block may have. It does not launch.
        (90, 512, 255, 0, 0, 0, ("registers",)),
        # One warp a block: 64 would fit by warps, 32 is the most blocks. 32 warps of 64.
        (80, 32, 32, 0, 32, 32, ("blocks",)),
        # The same on sm_86, where 16 blocks are the most: 16 warps of 48.
        (86, 32, 32, 0, 16, 16, ("blocks",)),
        # And on sm_89, where 24 are.
        (89, 32, 32, 0, 24, 24, ("blocks",)),
        # 48 warps of sm_86 are 12 blocks of 4; 40 x 32 = 1,280 registers are 5 units, 12 warps a quarter, 48 in all.
        (86, 128, 40, 0, 12, 48, ("warps", "registers")),
        # 64 KB and the 1 KB of the system: 164 KB of sm_80 hold two blocks of 65 KB, with 34 KB to spare.
        (80, 128, 32, 64 * KB, 2, 8, ("shared memory",)),
        # sm_86 has 100 KB: one block of 65 KB.
        (86, 128, 32, 64 * KB, 1, 4, ("shared memory",)),
        # sm_90 has 228 KB: three.
        (90, 128, 32, 64 * KB, 3, 12, ("shared memory",)),
        # 227 KB is all that a block may have: with its 1 KB, one block fills the multiprocessor.
        (90, 128, 32, 227 * KB, 1, 4, ("shared memory",)),
        # 164 KB are 8 blocks of 20.5 KB: 19.5 KB and the system's 1 KB.
        (80, 64, 32, 19 * KB + 512, 8, 16, ("shared memory",)),
        # One byte more rounds up by 128, and the eighth block finds 128 x 7 bytes too few.
        (80, 64, 32, 19 * KB + 513, 7, 14, ("shared memory",)),
        # 8 KB and 1 KB: 164 KB are 18 blocks, but by warps 8 of 8 warps fill the multiprocessor.
        (80, 256, 32, 8 * KB, 8, 64, ("warps", "registers")),
        # 48 x 32 = 1,536 registers a warp: 10 a quarter, 40 warps, which are 13 blocks of 3 and one warp too few.
        (80, 96, 48, 0, 13, 39, ("registers",)),
        # 33 threads take 2 warps.
        (80, 33, 32, 0, 32, 64, ("warps", "blocks", "registers")),
    ],
)  # fmt: skip
def test_known_cases(arch, threads, registers, shared, blocks, warps, limits):
    found = occupancy(arch, threads, registers, shared)
    assert (found.blocks, found.warps, found.limits) == (blocks, warps, limits)
    assert found.most == devices.WARPS[arch]


VENDORS = r"""
#include "cuda_occupancy.h"
#include <stdio.h>

int main(void) {
    int arch, warps, threads, regs, shared;
    long multiprocessor, block;
    while (scanf("%d %d %ld %ld %d %d %d", &arch, &warps, &multiprocessor, &block, &threads, &regs, &shared) == 7) {
        cudaOccDeviceProp device = {
            .computeMajor = arch / 10, .computeMinor = arch % 10, .maxThreadsPerBlock = 1024,
            .maxThreadsPerMultiprocessor = 32 * warps, .regsPerBlock = 65536, .regsPerMultiprocessor = 65536,
            .warpSize = 32, .sharedMemPerBlock = 48 << 10, .sharedMemPerMultiprocessor = multiprocessor, .numSms = 100,
            .sharedMemPerBlockOptin = block, .reservedSharedMemPerBlock = 1024,
        };
        cudaOccFuncAttributes kernel = {
            .maxThreadsPerBlock = 1024, .numRegs = regs, .shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN,
            .maxDynamicSharedSizeBytes = block, .numBlockBarriers = 1,
        };
        cudaOccDeviceState state = {.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED};
        cudaOccResult found;
        cudaOccError error =
            cudaOccMaxActiveBlocksPerMultiprocessor(&found, &device, &kernel, &state, threads, shared);
        printf("%d %d %u\n", error, found.activeBlocksPerMultiprocessor, found.limitingFactors & 15);
    }
}
"""
FACTORS = {"warps": 1, "registers": 2, "shared memory": 4, "blocks": 8}  # OCC_LIMIT_*


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_8096_other_cases_are_what_the_vendors_own_code_says(tmp_path):
    header = distribution("triton").locate_file("triton/backends/nvidia/include")
    (tmp_path / "vendors.c").write_text(VENDORS)
    subprocess.run(["cc", f"-I{header}", "-o", tmp_path / "vendors", tmp_path / "vendors.c"], check=True)
    asked = [
        (device, *launch)
        for device in devices.TYPICAL.values()
        for launch in itertools.product(
            (32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 33),
            (1, 16, 24, 32, 33, 40, 48, 64, 72, 96, 128, 168, 169, 200, 254, 255),
            (0, 1, 32, 8192, 16384, 19 * KB + 512, 19 * KB + 513, 48 * KB, 64 * KB, 98 * KB, 99 * KB, 163 * KB),
        )
        if launch[2] <= device.shared_per_block
    ]
    lines = [
        f"{d.arch} {d.warps_per_multiprocessor} {d.shared_per_multiprocessor} {d.shared_per_block} {t} {r} {s}"
        for d, t, r, s in asked
    ]
    run = subprocess.run([tmp_path / "vendors"], input="\n".join(lines), capture_output=True, text=True, check=True)
    told = [tuple(map(int, line.split())) for line in run.stdout.splitlines()]
    ours = [occupancy(device.arch, *launch) for device, *launch in asked]
    assert len(told) == len(asked) == 8096
    assert [(0, o.blocks, sum(FACTORS[limit] for limit in o.limits)) for o in ours] == told
