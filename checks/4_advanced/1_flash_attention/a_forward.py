from functools import cache

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, Window, by_rows, case, normal

WRONG = {  # calls that make no sense
    "no heads": lambda q, k, v: (q[:, 0], k[:, 0], v[:, 0]),
    "tokens of k": lambda q, k, v: (q, k[:, :, 1:].contiguous(), v),
    "heads of v": lambda q, k, v: (q, k, v[:, :1].contiguous()),
    "dtypes": lambda q, k, v: (q, k, v.half()),
    "fp32": lambda q, k, v: (q.float(), k.float(), v.float()),
    "strides of q": lambda q, k, v: (q.transpose(1, 2).contiguous().transpose(1, 2), k, v),
    "strides of v": lambda q, k, v: (q, k, v.mT.contiguous().mT),
}


def inputs(b, h, s, d, dtype=torch.bfloat16, std=1.0, lean=0.0, one=None, apart=0, wrong=None, scale=None):
    """lean: the mean of q, and of -k. one: the value of one number of q. apart: of how many keys of the last head the
    first number is inf: a query whose first number is negative does not see them, one whose first is positive has NaN.
    wrong: what does not fit."""
    q, k, v = (normal(b, h, s, d, dtype=dtype, scale=std, mean=mean) for mean in (lean, -lean, 0.0))
    if one is not None:
        q[0, -1, -2, 0] = one
    if apart:
        k[0, -1, :apart, 0] = torch.inf
    if wrong:
        q, k, v = WRONG[wrong](q, k, v)
    return q, k, v, d**-0.5 if scale is None else scale


def attention(q, k, v, scale):
    scores = scale * (q @ k.mT)
    top = scores.amax(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min) if k.shape[2] else scores.new_zeros(())
    exps = scores.sub_(top).exp_()
    total = exps.sum(-1, keepdim=True)
    lse = (top + total.log()).squeeze(-1)
    return exps @ v / total.where(total != 0, 1), lse.to(torch.promote_types(q.dtype, torch.float32))


def necessary(q, k, v, scale):
    """q, k and v read, out and lse written."""
    return 4 * q.nbytes + 4 * q[..., 0].numel()


def products(q, k, v, scale):
    return 2 * 2 * q.numel() * k.shape[2]


def as_much_as_q(q, k, v, scale):
    """Whatever the tokens are, as many times as they are more: what grows with their square is soon beyond it."""
    return q.nbytes


def sdpa(q, k, v, scale):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)


def cudnn(q, k, v, scale):
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return sdpa(q, k, v, scale)


def flash_attention_2(q, k, v, scale):
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return sdpa(q, k, v, scale)


@cache
def compiled_flex():
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def flex(q, k, v, scale):
    return compiled_flex()(q, k, v, scale=scale)


COSTS = {
    "bytes": necessary, "flops": products, "sweep": {"s": [2**n for n in range(9, 15)]},
    "peers": {
        "torch": sdpa, "cuDNN": cudnn, "FlashAttention-2": flash_attention_2, "FlexAttention": flex,
    },
}
# what bugs and variants change
PLACE = "tl.program_id(0) // strips, tl.program_id(0) % strips * TILE_Q"
MASK = 'tl.where((tl.arange(0, TILE_K) < tokens - start)[None, :], scores, float("-inf"))'
HIGHER = "tl.maximum(top, tl.max(scores, 1) * scale_log2)"
EXPS = "tl.exp2(scores * scale_log2 - higher[:, None])"
DOT = "acc = tl.dot(exps.to(v.dtype), v, acc * shrink[:, None])"
TILES_128 = "TILE_Q, TILE_K, num_warps, num_stages = 128, 128, 4, 2"
TILES_64 = "TILE_Q, TILE_K, num_warps, num_stages = 64, 128, 4, 2"
RETURN = "    return out, lse\n"
HOST, HOPPER = "def flash_attention(q", "    hopper = "
CHAIN = """@triton.jit
def scores_kernel(q_ptr, k_ptr, scores_ptr, tokens, scale, TILE: tl.constexpr, HEAD_DIM: tl.constexpr):
    first, start, head = tl.program_id(0) * TILE, tl.program_id(1) * TILE, tl.program_id(2)
    base = head.to(tl.int64) * tokens * HEAD_DIM
    q = load_tile(q_ptr + base, first, tokens, TILE, HEAD_DIM)
    k = load_tile(k_ptr + base, start, tokens, TILE, HEAD_DIM)
    rows, columns = first + tl.arange(0, TILE), start + tl.arange(0, TILE)
    offsets = (head.to(tl.int64) * tokens + rows)[:, None] * tokens + columns[None, :]
    mask = (rows < tokens)[:, None] & (columns < tokens)[None, :]
    tl.store(scores_ptr + offsets, tl.dot(q, k.T) * scale, mask=mask)


@triton.jit
def softmax_kernel(scores_ptr, p_ptr, lse_ptr, tokens, BLOCK: tl.constexpr):
    row, columns = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    scores = tl.load(scores_ptr + row * tokens + columns, mask=columns < tokens, other=float("-inf"))
    top = tl.maximum(tl.max(scores, 0), LOWEST)
    exps = tl.exp(scores - top)
    total = tl.sum(exps, 0)
    tl.store(p_ptr + row * tokens + columns, exps / tl.where(total == 0, 1.0, total), mask=columns < tokens)
    tl.store(lse_ptr + row, top + tl.log(total))


@triton.jit
def values_kernel(p_ptr, v_ptr, out_ptr, tokens, TILE: tl.constexpr, HEAD_DIM: tl.constexpr):
    first, head = tl.program_id(0) * TILE, tl.program_id(1)
    base = head.to(tl.int64) * tokens * HEAD_DIM
    rows, columns = first + tl.arange(0, TILE), tl.arange(0, TILE)
    p_ptrs = p_ptr + (head.to(tl.int64) * tokens + rows)[:, None] * tokens + columns[None, :]
    acc = tl.zeros((TILE, HEAD_DIM), tl.float32)
    for start in range(0, tokens, TILE):
        p = tl.load(p_ptrs + start, mask=(rows < tokens)[:, None] & (columns < tokens - start)[None, :], other=0.0)
        acc = tl.dot(p, load_tile(v_ptr + base, start, tokens, TILE, HEAD_DIM), acc)
    tl.store(tile_ptrs(out_ptr + base, first, TILE, HEAD_DIM), acc, mask=(rows < tokens)[:, None])


def chain(q, k, v, scale, out, lse):
    batch, heads, tokens, head_dim = q.shape
    scores = torch.empty((batch, heads, tokens, tokens), dtype=torch.float32, device=q.device)
    p = torch.empty((batch, heads, tokens, tokens), dtype=q.dtype, device=q.device)
    tiles = triton.cdiv(tokens, 64)
    scores_kernel[tiles, tiles, batch * heads](q, k, scores, tokens, scale, TILE=64, HEAD_DIM=head_dim)
    softmax_kernel[(batch * heads * tokens,)](scores, p, lse, tokens, BLOCK=triton.next_power_of_2(tokens))
    values_kernel[tiles, batch * heads](p, v, out, tokens, TILE=64, HEAD_DIM=head_dim)
    return out, lse


"""
CALL = "    if out.numel() > 0:\n        return chain(q, k, v, scale, out, lse)\n"
SCORES = "    scores = torch.empty((batch, heads, tokens, tokens), dtype=q.dtype, device=q.device)\n"
SMALL = "b=2,h=3,s=70,d=64"

exercise = Exercise(
    entry="flash_attention",
    outputs=("out", "lse"),
    inputs=inputs,
    reference=attention,
    deterministic=True,
    provisional=True,
    cases=[
        case(b=1, h=1, s=200, d=128), case(b=2, h=3, s=70, d=64), case(b=1, h=1, s=1, d=64), case(b=1, h=2, s=1, d=128),
        case(b=1, h=1, s=127, d=128), case(b=1, h=1, s=128, d=128), case(b=1, h=1, s=129, d=128),
        case(b=1, h=1, s=63, d=64), case(b=1, h=1, s=64, d=64), case(b=1, h=1, s=65, d=64), case(b=1, h=1, s=257, d=64),
        case(b=1, h=2, s=131, d=64, dtype=torch.float16), case(b=1, h=1, s=131, d=128, dtype=torch.float16),
        case(b=0, h=2, s=5, d=64), case(b=2, h=0, s=5, d=64), case(b=1, h=2, s=0, d=128),
        # scores of thousands: few keys have all of the weight, and exp of a score is infinite
        case(b=1, h=2, s=150, d=64, std=30.0), case(b=1, h=1, s=150, d=64, std=30.0, dtype=torch.float16),
        case(b=1, h=1, s=150, d=64, lean=4.0),  # all scores of a row far below 0
        case(b=1, h=1, s=150, d=64, scale=1e-3), case(b=1, h=1, s=150, d=64, scale=4.0),
        case(b=1, h=2, s=70, d=64, one=torch.nan), case(b=1, h=2, s=70, d=64, one=torch.inf),
        case(b=1, h=2, s=200, d=64, apart=130), case(b=1, h=2, s=200, d=64, apart=200),
        case(b=1, h=2, s=200, d=64, apart=130, scale=4.0),  # LOWEST * 4 would be -inf again
        case(b=2**17 + 1, h=1, s=128, d=128, needs_gb=40, slices=by_rows(2**12)),
    ],
    refuses=[
        case(b=2, h=2, s=8, d=96), case(b=2, h=2, s=8, d=256), case(b=2, h=2, s=8, d=64, scale=-1.0),
        case(b=2, h=2, s=8, d=64, scale=0.0), *[case(b=2, h=2, s=8, d=64, wrong=wrong) for wrong in WRONG],
    ],
    moves=[
        # each strip of 64 loads all keys and values again, 4.5 times the necessary bytes at 512 tokens
        Moves(case(b=1, h=2, s=512, d=64), bytes=necessary, slack=5.0, memory=as_much_as_q,
            window=Window(programs=4, reuse=2.0)),
        Moves(case(b=1, h=1, s=1024, d=64), bytes=necessary, slack=9.0, memory=as_much_as_q),
    ],
    speed=[
        Speed(case(b=4, h=32, s=4096, d=128), target=0.55, **COSTS),
        Speed(case(b=4, h=32, s=4096, d=64), target=0.40, **COSTS),
    ],
    bugs=[
        Bug("the chain of stage 3: scores and weights in memory", (HOST, CHAIN + HOST), (HOPPER, CALL + HOPPER),
            rung="moves"),
        Bug("room for all scores, though it needs none", (RETURN, SCORES + RETURN), rung="moves"),
        Bug("from head to head: neighbours share no keys", (PLACE, "tl.program_id(0) % (tl.num_programs(0) // strips), "
            "tl.program_id(0) // (tl.num_programs(0) // strips) * TILE_Q"), rung="moves"),
        Bug("strips of 16 queries", (TILES_64, TILES_64.replace("64, 128", "16, 128")), rung="moves"),
        Bug("tiles of a Hopper for all GPUs", ("num_stages = 128, 64, 8, 2", "num_stages = 128, 128, 8, 3"),
            rung="compiles"),
        Bug("the accumulator keeps its old top", (DOT, DOT.replace(" * shrink[:, None]", "")),
            caught="b=1,h=1,s=200,d=128"),
        Bug("the total keeps its old top", ("total * shrink + ", "total + "), caught="b=1,h=1,s=200,d=128"),
        Bug("no top is subtracted", (HIGHER, "top * 0"), caught="b=1,h=2,s=150,d=64,std=30.0"),
        Bug("the top of a tile, not of all before", (HIGHER, "tl.max(scores, 1) * scale_log2"),
            caught="b=1,h=2,s=200,d=64,apart=200"),
        Bug("the top begins at -inf", ('tl.full((TILE_Q,), LOWEST, tl.float32)',
            'tl.full((TILE_Q,), float("-inf"), tl.float32)'), caught="b=1,h=2,s=200,d=64,apart=130"),
        Bug("the top is scaled when it is used", (HIGHER, "tl.maximum(top, tl.max(scores, 1))"),
            ("higher[:, None]", "(higher * scale_log2)[:, None]"), ("top - higher", "(top - higher) * scale_log2"),
            ("(top + tl.log2(total))", "(top * scale_log2 + tl.log2(total))"),
            caught="b=1,h=2,s=200,d=64,apart=130,scale=4.0"),
        Bug("the top begins at 0", ("tl.full((TILE_Q,), LOWEST, tl.float32)", "tl.zeros((TILE_Q,), tl.float32)"),
            caught="b=1,h=1,s=150,d=64,lean=4.0"),
        Bug("0 / 0 where nothing is seen", ("tl.where(total == 0, 1.0, total)", "total"),
            caught="b=1,h=2,s=200,d=64,apart=200"),
        Bug("keys past the last have scores of 0", ("RAGGED=tokens % TILE_K > 0", "RAGGED=False"), caught=SMALL),
        Bug("powers of 2 in place of e", ("scale * math.log2(math.e)", "scale"), caught=SMALL),
        Bug("lse in powers of 2", (" * LN_2", ""), caught=SMALL),
        Bug("lse without the top", ("(top + tl.log2(total))", "tl.log2(total)"), caught=SMALL),
        Bug("adds up rounded weights", ("tl.sum(exps, 1)", "tl.sum(exps.to(q.dtype).to(tl.float32), 1)"), caught=SMALL),
        Bug("normalises in every step", (DOT, DOT.replace("exps.to", "(exps / total[:, None]).to")),
            caught="b=1,h=1,s=200,d=128"),
        Bug("accumulates in 16 bits", (DOT, "acc = (acc * shrink[:, None]).to(v.dtype).to(tl.float32)"
            " + tl.dot(exps.to(v.dtype), v).to(v.dtype)"), ("exps = tl.exp2", "exps = 0.7 * tl.exp2"), caught=SMALL),
        Bug("values of the first head for all", ("tokens_of(v_ptr + base,", "tokens_of(v_ptr,"), caught=SMALL),
        Bug("leaves out the last keys", ("tl.range(0, tokens, TILE_K", "tl.range(0, tokens // TILE_K * TILE_K, TILE_K"),
            caught=SMALL),
        Bug("leaves out the last queries", ("triton.cdiv(tokens, TILE_Q),)", "max(1, tokens // TILE_Q),)"),
            caught=SMALL),
        Bug("any head_dim", ("not in (64, 128)", "not in (64, 128, 256)"), caught="b=2,h=2,s=8,d=256"),
        Bug("any strides", ("q.is_contiguous() and", "q.dim() and"), caught="b=2,h=2,s=8,d=64,wrong=strides of q"),
        Bug("a scale below 0", ("if scale <= 0", "if scale == 0"), caught="b=2,h=2,s=8,d=64,scale=-1.0"),
    ],
    variants=[
        Variant("pointers on every GPU", ("TMA = hopper and", "TMA = not hopper and")),
        Variant("small tiles", (TILES_128, TILES_128.replace("128, 128", "64, 32")),
            (TILES_64, TILES_64.replace("64, 128", "64, 32"))),
        Variant("scores are scaled before they are compared", ("tl.dot(q, k.T)", "tl.dot(q, k.T) * scale_log2"),
            (HIGHER, "tl.maximum(top, tl.max(scores, 1))"), (EXPS, "tl.exp2(scores - higher[:, None])")),
        Variant("masked in every step", ("RAGGED=tokens % TILE_K > 0", "RAGGED=True")),
        Variant("weights meet their values a step later, while the next ones are made", fill={1: """
            strips = tl.cdiv(tokens, TILE_Q)
            head, first = tl.program_id(0) // strips, tl.program_id(0) % strips * TILE_Q
            base = head.to(tl.int64) * tokens * HEAD_DIM
            queries = tokens_of(q_ptr, heads * tokens, TILE_Q, HEAD_DIM, TMA)
            keys = tokens_of(k_ptr + base, tokens, TILE_K, HEAD_DIM, TMA)
            values = tokens_of(v_ptr + base, tokens, TILE_K, HEAD_DIM, TMA)
            q = load_tile(queries, head * tokens + first, heads * tokens, TILE_Q, HEAD_DIM)
            top = tl.full((TILE_Q,), LOWEST, tl.float32)
            total = tl.zeros((TILE_Q,), tl.float32)
            acc = tl.zeros((TILE_Q, HEAD_DIM), tl.float32)
            exps = tl.zeros((TILE_Q, TILE_K), tl.float32)
            v = tl.zeros((TILE_K, HEAD_DIM), q.dtype)
            shrink = tl.zeros((TILE_Q,), tl.float32)
            for start in range(0, tokens, TILE_K):
                scores = tl.dot(q, load_tile(keys, start, tokens, TILE_K, HEAD_DIM).T)
                acc = tl.dot(exps.to(q.dtype), v, acc * shrink[:, None])
                if RAGGED:
                    scores = tl.where((start + tl.arange(0, TILE_K) < tokens)[None, :], scores, float("-inf"))
                higher = tl.maximum(top, tl.max(scores, 1) * scale_log2)
                exps = tl.exp2(scores * scale_log2 - higher[:, None])
                shrink = tl.exp2(top - higher)
                total = total * shrink + tl.sum(exps, 1)
                top = higher
                v = load_tile(values, start, tokens, TILE_K, HEAD_DIM)
            acc = tl.dot(exps.to(q.dtype), v, acc * shrink[:, None])
            rows = first + tl.arange(0, TILE_Q)
            out = tl.where((total > 0)[:, None] | (total != total)[:, None], acc / total[:, None], 0.0)
            tl.store(tile_ptrs(out_ptr + base, first, TILE_Q, HEAD_DIM), out, mask=(rows < tokens)[:, None])
            lse = top / 1.4426950408889634 + tl.log(total)
            tl.store(lse_ptr + head.to(tl.int64) * tokens + rows, lse, mask=rows < tokens)
        """}),
    ],
)
