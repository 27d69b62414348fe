"""Masked softmax.

A query sees the first keys, and one number says how many: that is all of the mask. Scores that it does not see are not
read; zeros are written there.
"""

import torch
import triton
import triton.language as tl

# the lowest fp32 number: unlike -inf it may be subtracted from -inf
LOWEST = tl.constexpr(torch.finfo(torch.float32).min)


@triton.jit
def exp(a):
    # 2**(a * log2(e)): tl.exp is the same and three instructions more, for results below 2**-126
    return tl.exp2(a * 1.4426950408889634)


@triton.jit
def masked_softmax_kernel(
    scores_ptr, lengths_ptr, p_ptr, heads, queries, keys, stride_b, stride_h, stride_q, stride_k,
    CAUSAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # TODO: row tl.program_id(0) of p: the softmax of the scores that its query sees, and 0 for all other keys; only
    # zeros where it sees none, or none above -inf. The scores are [batch, heads, queries, keys] with the strides given,
    # p is contiguous. BLOCK is at least `keys`. Compute in fp32. Load no score past the sector in which the seen ones
    # end, and 16-bit scores 128 bits at a time.
    tl.static_assert(False, "TODO 3.2b, blank 1")


def masked_softmax(scores, lengths, causal):
    """The weights of attention: the softmax of each row over the keys that its query sees, 0 elsewhere.

    scores: [batch, heads, queries, keys], any strides, fp32, fp16 or bf16, keys <= 32768. lengths: [batch], int32 or
    int64: of sequence i the first lengths[i] keys may be seen, the rest is padding. causal: the last query may see all
    keys, the one before it all but the last, and so on: query i the first i + 1 + keys - queries. Works in fp32. A row
    in which nothing is seen, or only -inf, is 0, as in torch's attention; one that sees a NaN or inf is NaN there, and
    NaN or 0 elsewhere. Returns [batch, heads, queries, keys], contiguous, the dtype of the scores. Raises ValueError
    for more keys, for other shapes, and for a mask in place of the lengths.
    """
    if scores.dim() != 4:
        raise ValueError(f"scores is {list(scores.shape)}: it has to be [batch, heads, queries, keys]")
    batch, heads, queries, keys = scores.shape
    if keys > 32768:
        raise ValueError(f"a row has {keys} keys, at most 32768 are allowed")
    if lengths.dtype not in (torch.int32, torch.int64) or lengths.shape != (batch,):
        given = f"{str(lengths.dtype)[6:]} {list(lengths.shape)}"
        raise ValueError(f"lengths is {given}: it has to be int32 or int64 [{batch}], a number for each sequence")
    # TODO: allocate p and launch the kernel, one program a row, with `BLOCK` and `num_warps` as in 2.3a.
    raise NotImplementedError("TODO 3.2b, blank 2")
