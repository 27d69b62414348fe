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
    ### BEGIN SOLUTION
    row = tl.program_id(0).to(tl.int64)
    batch, head, query = row // (heads * queries), row // queries % heads, row % queries
    columns = tl.arange(0, BLOCK)
    seen = tl.minimum(tl.load(lengths_ptr + batch), keys).to(tl.int32)
    if CAUSAL:
        seen = tl.minimum(seen, query.to(tl.int32) + 1 + keys - queries)
    scores_ptrs = scores_ptr + batch * stride_b + head * stride_h + query * stride_q + columns * stride_k
    # memory delivers whole sectors; and a thread loads 8 scores at once only if no mask can end among them
    mask = (columns < tl.cdiv(seen, 16) * 16) & (columns < keys)
    scores = tl.load(scores_ptrs, mask=mask, other=0.0).to(tl.float32)
    scores = tl.where(columns < seen, scores, float("-inf"))
    exps = exp(scores - tl.maximum(tl.max(scores, 0), LOWEST))
    total = tl.sum(exps, 0)
    # one division a row, not one an element; exps of what is not seen are 0 already
    tl.store(p_ptr + row * keys + columns, exps * (1 / tl.where(total == 0, 1.0, total)), mask=columns < keys)
    ### END SOLUTION


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
    ### BEGIN SOLUTION
    p = torch.empty((batch, heads, queries, keys), dtype=scores.dtype, device=scores.device)
    if p.numel() > 0:
        BLOCK = triton.next_power_of_2(keys)
        num_warps = min(max(BLOCK // 1024, 1), 16)
        masked_softmax_kernel[(batch * heads * queries,)](
            scores, lengths, p, heads, queries, keys, *scores.stride(), CAUSAL=causal, BLOCK=BLOCK, num_warps=num_warps
        )
    return p
    ### END SOLUTION
