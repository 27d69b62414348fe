"""What the specs of matmuls share: their matrices, what a product has to be, and what it costs."""

import torch

from .exercise import normal
from .layouts import MATRIX

WRONG = {  # calls that make no sense
    "b turned": lambda a, b: (a, b.T),
    "a batch": lambda a, b: (a[None], b),
    "b in another dtype": lambda a, b: (a, b.to(torch.float16)),
}


def matrices(m, n, k, dtype=torch.bfloat16, a="rows", b="rows", mean=0.0):
    """[m, k] and [k, n]. a, b: where they lie; "shifted" is row by row, from two bytes past a multiple of 16 on."""
    return matrix(m, k, a, dtype, mean), matrix(k, n, b, dtype, mean)


def matrix(m, n, layout, dtype, mean):
    if layout == "shifted":
        return normal(m * n + 1, dtype=dtype, mean=mean)[1:].view(m, n)
    return normal(m, n, dtype=dtype, mean=mean, strides=MATRIX[layout](m, n))


def multiply(a, b):
    return a @ b


def necessary(a, b):
    return (a.numel() + b.numel() + a.shape[0] * b.shape[1]) * a.itemsize


def products(a, b):
    return 2 * a.shape[0] * a.shape[1] * b.shape[1]


def gems(a, b):
    import flag_gems

    return flag_gems.mm(a, b)


COSTS = {"bytes": necessary, "flops": products, "peers": {"torch": multiply}}
WITH_GEMS = COSTS | {"peers": {"torch": multiply, "flag_gems": gems}}
