"""Autotuned matmul.

No one tile suits every shape: the autotuner times a few on the GPU at hand and remembers, for each kind of call, which
was best.
"""

import torch
import triton
import triton.language as tl


def config(TILE_M, TILE_N, TILE_K, num_warps, num_stages):
    tiles = {"TILE_M": TILE_M, "TILE_N": TILE_N, "TILE_K": TILE_K, "GROUP_M": 8}
    return triton.Config(tiles, num_warps=num_warps, num_stages=num_stages)


# TODO: `CONFIGS`, the configurations to choose from, a list of config(...): tall enough for large products, small
# enough that a product with few tiles fills the GPU, deep enough along k for products of few rows.
raise NotImplementedError("TODO 2.1c, blank 1")


def fitting(configs, arguments, **_):
    """Those of the configurations whose tiles have room in the shared memory of a block, on the GPU of a_ptr."""
    a = arguments["a_ptr"]
    limit = torch.cuda.get_device_properties(a.device).shared_memory_per_block_optin
    # TODO: return the configurations that need at most `limit` bytes. Every stage holds a tile of a and a tile of b.
    # A configuration c has c.kwargs["TILE_M"] and so on, and c.num_stages.
    raise NotImplementedError("TODO 2.1c, blank 2")


# TODO: `KEY`, the names of the kernel's arguments by which calls are told apart: calls that agree in all of them share
# a choice. n and k belong to a layer and seldom change; m is a batch, and changes all the time.
raise NotImplementedError("TODO 2.1c, blank 3")


@triton.autotune(configs=CONFIGS, key=KEY, prune_configs_by={"early_config_prune": fitting})
@triton.jit
def matmul_kernel(
    a_ptr, b_ptr, c_ptr, m, n, k, stride_am, stride_ak, stride_bk, stride_bn, m_class,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILE_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    # TODO: your kernel of 2.1b.
    tl.static_assert(False, "TODO 2.1c, blank 4")


def matmul(a, b):
    """The product a @ b.

    a: [m, k], b: [k, n], any strides, both fp16 or both bf16. Accumulates in fp32. Returns [m, n], contiguous, the
    same dtype; zeros where k is 0. The first call of its kind tunes, which takes a second or more.
    """
    (m, k), n = a.shape, b.shape[1]
    c = torch.empty((m, n), dtype=a.dtype, device=a.device)
    # TODO: `m_class`, a number that is the same for values of m which one choice serves: those between one power of
    # two and the next. And `grid`, a function of the configuration's values, as in values["TILE_M"].
    raise NotImplementedError("TODO 2.1c, blank 5")
    if c.numel() > 0:
        matmul_kernel[grid](a, b, c, m, n, k, *a.stride(), *b.stride(), m_class)
    return c
