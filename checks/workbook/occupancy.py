"""How many warps of a kernel a multiprocessor holds at a time, and what keeps further ones out.

The vendor's formula: NVIDIA, cuda_occupancy.h, which comes with the CUDA toolkit and with Triton.
"""

from dataclasses import dataclass

from .devices import BLOCKS, KB, SHARED, WARPS

REGISTERS = 65536  # of a multiprocessor, and the most of a block
QUARTERS = 4  # of a multiprocessor: each has a quarter of the registers, and a warp stays in one
REGISTER_UNIT = 256  # registers are handed out to a warp in units of
SHARED_UNIT = 128  # bytes of shared memory are handed out to a block in units of
RESERVED = KB  # bytes of shared memory that the system takes for every block


@dataclass(frozen=True)
class Occupancy:
    """blocks and warps that are resident at a time, of `most` warps; limits: what lets no further block in."""

    blocks: int
    warps: int
    most: int
    limits: tuple[str, ...]


def occupancy(arch: int, threads: int, registers: int, shared: int) -> Occupancy:
    """Of blocks of so many threads, registers a thread and bytes of shared memory, on sm_`arch`."""
    warps = _up(threads, 32) // 32
    of_a_warp = _up(32 * registers, REGISTER_UNIT)
    of_a_block = _up(shared + RESERVED, SHARED_UNIT)
    # a launch is refused as if a block took as many registers in every quarter
    launches = of_a_warp * _up(warps, QUARTERS) <= REGISTERS
    blocks = {
        "warps": WARPS[arch] // warps,
        "blocks": BLOCKS[arch],
        "registers": REGISTERS // QUARTERS // of_a_warp * QUARTERS // warps if launches else 0,
        "shared memory": (SHARED[arch] + RESERVED) // of_a_block,
    }
    fewest = min(blocks.values())
    return Occupancy(fewest, fewest * warps, WARPS[arch], tuple(name for name, n in blocks.items() if n == fewest))


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
