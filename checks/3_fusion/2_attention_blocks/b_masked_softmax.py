import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, case, normal
from workbook.layouts import HEADS

VALUES = {  # what some scores are; by where they are seen
    "normal": lambda scores, seen: None,
    "nan where masked": lambda scores, seen: scores.masked_fill_(~seen, torch.nan),
    "inf where masked": lambda scores, seen: scores.masked_fill_(~seen, torch.inf),
    "nan": lambda scores, seen: scores[:, :, 1::2, 0].fill_(torch.nan),
    "inf": lambda scores, seen: scores[:, :, 1::2, 0].fill_(torch.inf),
    "-inf": lambda scores, seen: (scores[:, :, :, :3].fill_(-torch.inf), scores[:, :, -1].fill_(-torch.inf)),
}
WRONG = {  # calls that make no sense
    "no heads": lambda scores, lengths: (scores[:, 0], lengths),
    "a mask": lambda scores, lengths: (scores, torch.ones(scores.shape, dtype=torch.bool)),
    "a mask of keys": lambda scores, lengths: (scores, torch.ones(*scores.shape[::3], dtype=torch.int32)),
    "lengths in fp32": lambda scores, lengths: (scores, lengths.float()),
    "a length too many": lambda scores, lengths: (scores, torch.cat([lengths, lengths])),
}


def inputs(
    b, h, q, k, causal=True, dtype=torch.float32, pad=None, long=False, layout="heads",
    std=1.0, mean=0.0, values="normal", wrong=None,
):
    """pad: keys that each further sequence has less than the one before. long: lengths of 64 bits."""
    scores = normal(b, h, q, k, dtype=dtype, scale=std, mean=mean, strides=HEADS[layout](h, q, k))
    lengths = torch.full((b,), k, dtype=torch.int64 if long else torch.int32)
    if pad is not None:
        lengths -= pad * torch.arange(b)
    if values != "normal":
        VALUES[values](scores, seen(scores, lengths, causal))
    if wrong:
        scores, lengths = WRONG[wrong](scores, lengths)
    return scores, lengths, causal


def seen(scores, lengths, causal):
    queries, keys = scores.shape[2:]
    columns = torch.arange(keys, device=scores.device)
    count = lengths[:, None, None, None]
    if causal:
        rows = torch.arange(queries, device=scores.device)
        count = torch.minimum(count, rows[:, None] + 1 + keys - queries)
    return (columns < count).expand(scores.shape)


def masked(scores, lengths, causal):
    # torch's own, for attention: 0 where a row is -inf throughout
    return torch.ops.aten._safe_softmax(scores.masked_fill(~seen(scores, lengths, causal), -torch.inf), -1)


def heads_apart(inputs):
    scores, lengths, causal = inputs
    for head in range(scores.shape[1]):
        place = slice(None), slice(head, head + 1)
        yield [scores[place], lengths, causal], place


def in_torch(scores, lengths, causal):
    return scores.masked_fill(~seen(scores, lengths, causal), -torch.inf).softmax(-1)


def necessary(scores, lengths, causal):
    """Bytes of the scores that are seen, and of all of p."""
    batch, heads, queries, keys = scores.shape
    count = lengths.cpu()[:, None]
    if causal:
        count = torch.minimum(count, torch.arange(queries, device="cpu") + 1 + keys - queries)
    read = heads * int(count.clamp(0, keys).expand(batch, queries).sum())
    return (read + scores.numel()) * scores.itemsize


def unpadded(scores, lengths, causal):
    batch, keys = scores.shape[0], scores.shape[3]
    return necessary(scores, torch.full((batch,), keys, device="cpu"), causal)


# what bugs and variants change
CAUSAL_SEEN = "query.to(tl.int32) + 1 + keys - queries"
LOADED = "(columns < tl.cdiv(seen, 16) * 16) & (columns < keys)"
MASKED = '    scores = tl.where(columns < seen, scores, float("-inf"))\n'
TOP, TOTAL = "tl.maximum(tl.max(scores, 0), LOWEST)", "tl.where(total == 0, 1.0, total)"
ARGUMENTS = "    scores_ptr, lengths_ptr, p_ptr, heads, queries,"
STORED = "exps * (1 / tl.where(total == 0, 1.0, total)), mask=columns < keys)"
SUM = "    total = tl.sum(exps, 0)\n"
ALLOCATION = "    p = torch.empty("
MASK_IN_TORCH = """    seen = lengths[:, None, None, None].expand(batch, 1, queries, 1)
    if causal:
        seen = seen.minimum(torch.arange(1 + keys - queries, 1 + keys, device=scores.device)[:, None])
    masked = torch.arange(keys, device=scores.device) >= seen
    scores = scores + torch.zeros_like(scores).masked_fill(masked, -torch.inf)
"""
KERNEL = "@triton.jit\ndef masked_softmax_kernel("
ROW = """@triton.jit
def softmax_row(scores_ptr, p_ptr, seen, stride_k, BLOCK: tl.constexpr):
    columns = tl.arange(0, BLOCK)
    scores = tl.load(scores_ptr + columns * stride_k, mask=columns < seen, other=float("-inf")).to(tl.float32)
    exps = exp(scores - tl.maximum(tl.max(scores, 0), LOWEST))
    total = tl.sum(exps, 0)
    tl.store(p_ptr + columns, exps * (1 / tl.where(total > 0, total, 1 - total)), mask=columns < seen)


"""

exercise = Exercise(
    entry="masked_softmax",
    outputs=("p",),
    inputs=inputs,
    reference=masked,
    cases=[
        case(b=2, h=2, q=17, k=37, pad=5), case(b=1, h=1, q=1, k=1), case(b=1, h=1, q=1, k=1, causal=False),
        case(b=1, h=2, q=3, k=1023), case(b=1, h=2, q=3, k=1024), case(b=1, h=2, q=3, k=1025),
        case(b=1, h=1, q=2, k=32768, causal=False), case(b=1, h=1, q=2, k=8191, dtype=torch.bfloat16),
        case(b=0, h=2, q=5, k=7), case(b=2, h=0, q=5, k=7), case(b=2, h=2, q=0, k=7), case(b=2, h=2, q=5, k=0),
        case(b=1, h=1, q=40, k=40, dtype=torch.float16), case(b=1, h=1, q=40, k=40, dtype=torch.bfloat16),
        case(b=3, h=2, q=5, k=48, causal=False, pad=16), case(b=3, h=2, q=8, k=30, pad=7, long=True),
        # more queries than keys: the first ones see nothing; sequences of 40, 10 and -20 keys
        case(b=1, h=1, q=40, k=23), case(b=3, h=1, q=6, k=40, pad=30), case(b=3, h=1, q=6, k=40, pad=20, causal=False),
        case(b=2, h=3, q=9, k=33, layout="padded"), case(b=2, h=3, q=9, k=32, layout="tokens", pad=3),
        case(b=2, h=3, q=9, k=33, layout="turned", dtype=torch.float16),
        case(b=2, h=3, q=9, k=48, layout="one_head", dtype=torch.bfloat16),
        case(b=1, h=1, q=20, k=40, std=1e4), case(b=1, h=1, q=20, k=40, std=1e4, dtype=torch.float16),
        case(b=1, h=1, q=20, k=40, std=20.0, mean=-1e4, dtype=torch.float16),
        case(b=1, h=1, q=20, k=40, std=100.0, mean=-1e5), case(b=1, h=1, q=20, k=40, std=100.0, mean=1e5),
        case(b=1, h=1, q=20, k=40, pad=5, values="nan where masked"),
        case(b=2, h=1, q=20, k=40, pad=5, values="inf where masked", dtype=torch.bfloat16),
        case(b=1, h=1, q=8, k=40, values="nan", causal=False), case(b=1, h=1, q=8, k=40, values="inf", causal=False),
        case(b=2, h=1, q=8, k=40, pad=5, values="-inf"), case(b=1, h=1, q=4, k=40, values="-inf", causal=False),
        case(b=1, h=33, q=2**13, k=2**13, dtype=torch.float16, needs_gb=40, slices=heads_apart),
    ],
    refuses=[
        case(b=1, h=1, q=1, k=32769), *[case(b=2, h=2, q=4, k=4, wrong=wrong) for wrong in WRONG],
    ],
    moves=[
        # rows that lie apart, so that making them contiguous first is a copy; some may load a few scores too many
        Moves(case(b=1, h=1, q=256, k=256, dtype=torch.bfloat16, layout="padded"), bytes=necessary, slack=1.15),
        Moves(case(b=2, h=1, q=16, k=512, dtype=torch.bfloat16, causal=False, pad=200), bytes=necessary, slack=1.15),
    ],
    speed=[
        Speed(case(b=4, h=32, q=2048, k=2048, dtype=torch.bfloat16),
            bytes=unpadded, target=0.35, peers={"torch": in_torch, "torch.compile": in_torch}),
    ],
    bugs=[
        Bug("the mask as a tensor, added", (ALLOCATION, MASK_IN_TORCH + ALLOCATION), rung="moves"),
        Bug("reads what is masked", (LOADED, "columns < keys"), rung="moves"),
        Bug("asks torch to copy the scores first",
            (ALLOCATION, "    scores = scores.contiguous()\n" + ALLOCATION), rung="moves"),
        Bug("aligns the mask at the first query", (CAUSAL_SEEN, "query.to(tl.int32) + 1"),
            caught="b=1,h=1,q=40,k=23"),
        Bug("a query does not see its own key", (CAUSAL_SEEN, "query.to(tl.int32) + keys - queries"),
            caught="b=1,h=1,q=40,k=40,fp16"),
        Bug("forgets the lengths", ("tl.load(lengths_ptr + batch)", "keys"),
            caught="b=3,h=2,q=5,k=48,causal=False,pad=16"),
        Bug("one length for all", ("lengths_ptr + batch", "lengths_ptr"), caught="b=2,h=2,q=17,k=37,pad=5"),
        Bug("padding shifts the causal mask",
            ("seen = tl.minimum(seen, " + CAUSAL_SEEN, "seen = (seen - keys + " + CAUSAL_SEEN),
            caught="b=2,h=2,q=17,k=37,pad=5"),
        Bug("masks with -10000", (MASKED, MASKED.replace('float("-inf")', "-1e4")),
            caught="b=1,h=1,q=20,k=40,std=100.0,mean=-100000.0"),
        Bug("what is loaded beside the seen takes part", (MASKED, ""), ("other=0.0", 'other=float("-inf")'),
            caught="b=2,h=2,q=17,k=37,pad=5"),
        Bug("adds -inf where it is masked",
            (MASKED, '    scores += tl.where(columns < seen, 0.0, float("-inf"))\n'),
            caught="b=2,h=1,q=20,k=40,pad=5,values=inf where masked,bf16"),
        Bug("-inf minus -inf", (TOP, "tl.max(scores, 0)"), caught="b=2,h=1,q=8,k=40,pad=5,values=-inf"),
        Bug("divides by a sum of 0", (TOTAL, "total"), caught="b=2,h=1,q=8,k=40,pad=5,values=-inf"),
        Bug("a NaN counts as -inf", (MASKED, MASKED.replace("columns < seen", "(columns < seen) & (scores == scores)")),
            caught="b=1,h=1,q=8,k=40,values=nan,causal=False"),
        Bug("no maximum is subtracted", (TOP, "0.0"), caught="b=1,h=1,q=20,k=40,std=10000.0"),
        Bug("a maximum that is never below 0", (TOP, "tl.maximum(tl.max(scores, 0), 0.0)"),
            caught="b=1,h=1,q=20,k=40,std=100.0,mean=-100000.0"),
        Bug("writes no zeros", (STORED, STORED.replace("< keys", "< seen")), caught="b=2,h=2,q=17,k=37,pad=5"),
        Bug("loads to the end of the sector, past the row", (LOADED, "columns < tl.cdiv(seen, 16) * 16"),
            caught="b=1,h=2,q=3,k=1023"),
        Bug("takes scores for contiguous", ("*scores.stride()", "heads * queries * keys, queries * keys, keys, 1"),
            caught="b=2,h=3,q=9,k=33,layout=padded"),
        Bug("takes keys to be adjacent", ("columns * stride_k", "columns"),
            caught="b=2,h=3,q=9,k=33,layout=turned,fp16"),
        Bug("takes batches for more heads", ("batch * stride_b + head * stride_h", "(row // queries) * stride_h"),
            caught="b=2,h=3,q=9,k=32,layout=tokens,pad=3"),
        Bug("blocks of 1024, however many keys", ("triton.next_power_of_2(keys)", "1024"), caught="b=1,h=2,q=3,k=1025"),
        Bug("takes any width", ("keys > 32768", "keys > 65536"), caught="b=1,h=1,q=1,k=32769"),
        Bug("takes a mask for lengths", ("lengths.shape != (batch,)", "lengths.shape[:1] != (batch,)"),
            caught="b=2,h=2,q=4,k=4,wrong=a mask of keys"),
    ],
    variants=[
        Variant("loads exactly what is seen", (LOADED, "columns < seen")),
        Variant("masks the exponentials", (MASKED, ""), ("other=0.0", 'other=float("-inf")'),
            (TOP, "tl.maximum(tl.max(tl.where(columns < seen, scores, LOWEST), 0), LOWEST)"),
            (SUM, "    exps = tl.where(columns < seen, exps, 0.0)\n" + SUM)),
        Variant("half a block for a row that sees no more", (KERNEL, ROW + KERNEL), fill={1: """
            row = tl.program_id(0).to(tl.int64)
            query = row % queries
            seen = tl.minimum(tl.load(lengths_ptr + row // (heads * queries)), keys).to(tl.int32)
            if CAUSAL:
                seen = tl.minimum(seen, query.to(tl.int32) + 1 + keys - queries)
            scores_ptr += row // (heads * queries) * stride_b + row // queries % heads * stride_h + query * stride_q
            p_ptr += row * keys
            if seen <= BLOCK // 2:
                softmax_row(scores_ptr, p_ptr, seen, stride_k, max(BLOCK // 2, 1))
            else:
                softmax_row(scores_ptr, p_ptr, seen, stride_k, BLOCK)
            columns = tl.arange(0, BLOCK)
            tl.store(p_ptr + columns, tl.zeros((BLOCK,), tl.float32), mask=(columns >= seen) & (columns < keys))
        """}),
        Variant("four rows a program", (ARGUMENTS, ARGUMENTS.replace("heads,", "rows_in_all, heads,")), fill={1: """
            rows = tl.program_id(0).to(tl.int64) * 4 + tl.arange(0, 4)[:, None]
            columns = tl.arange(0, BLOCK)[None, :]
            batch, head, query = rows // (heads * queries), rows // queries % heads, rows % queries
            here = rows < rows_in_all
            seen = tl.load(lengths_ptr + batch, mask=here, other=0)
            if CAUSAL:
                seen = tl.minimum(seen, query + 1 + keys - queries)
            visible = (columns < seen) & (columns < keys)
            scores_ptrs = scores_ptr + batch * stride_b + head * stride_h + query * stride_q + columns * stride_k
            scores = tl.load(scores_ptrs, mask=visible, other=float("-inf")).to(tl.float32)
            top = tl.max(scores, 1, keep_dims=True)
            exps = tl.where(visible, tl.exp(scores - top), 0.0)
            total = tl.sum(exps, 1, keep_dims=True)
            p = tl.where(top == float("-inf"), 0.0, exps / total)
            tl.store(p_ptr + rows * keys + columns, p, mask=here & (columns < keys))
        """, 2: """
            rows = batch * heads * queries
            p = torch.empty_like(scores, memory_format=torch.contiguous_format)
            if p.numel():
                masked_softmax_kernel[(triton.cdiv(rows, 4),)](
                    scores, lengths, p, rows, heads, queries, keys, *scores.stride(),
                    CAUSAL=causal, BLOCK=triton.next_power_of_2(keys), num_warps=8,
                )
            return p
        """}),
    ],
)
