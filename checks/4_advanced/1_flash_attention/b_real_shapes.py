from functools import cache

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, Window, case, normal
from workbook.layouts import HEADS

WRONG = {  # calls that make no sense
    "no heads": lambda q, k, v: (q[:, 0], k[:, 0], v[:, 0]),
    "batch of k": lambda q, k, v: (q, k[1:], v[1:]),
    "keys of v": lambda q, k, v: (q, k, v[:, :, 1:]),
    "head_dim of q": lambda q, k, v: (q[..., 1:], k, v),
    "dtypes": lambda q, k, v: (q, k, v.half()),
    "fp32": lambda q, k, v: (q.float(), k.float(), v.float()),
}


def inputs(b, h, q, k, d, causal=True, kv=None, dtype=torch.bfloat16, q_is="tokens", k_is="tokens", v_is=None,
           std=1.0, one=None, apart=0, wrong=None, scale=None):  # fmt: skip
    """kv: heads of k and v, if not h. q_is, k_is, v_is: where they lie; v as k, if nothing is said. one: the value of
    one number of k. apart: as in 4.1a. wrong: what does not fit."""
    places = [(h, q, q_is), (kv or h, k, k_is), (kv or h, k, v_is or k_is)]
    queries, keys, values = (
        normal(b, n, s, d, dtype=dtype, scale=std, strides=HEADS[place](n, s, d)) for n, s, place in places
    )
    if one is not None:
        keys[0, -1, -2, 0] = one
    if apart:
        keys[0, -1, :apart, 0] = torch.inf
    if wrong:
        queries, keys, values = WRONG[wrong](queries, keys, values)
    return queries, keys, values, max(1, d) ** -0.5 if scale is None else scale, causal


def attention(q, k, v, scale, causal):
    queries, keys = q.shape[2], k.shape[2]
    if k.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], 1) for t in (k, v))
    scores = scale * (q @ k.mT)
    if causal:
        columns = torch.arange(keys, device=q.device)
        scores.masked_fill_(columns > torch.arange(queries, device=q.device)[:, None] + keys - queries, -torch.inf)
    top = scores.amax(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min) if keys else scores.new_zeros(())
    exps = scores.sub_(top).exp_()
    total = exps.sum(-1, keepdim=True)
    lse = (top + total.log()).squeeze(-1)
    return exps @ v / total.where(total != 0, 1), lse.to(torch.promote_types(q.dtype, torch.float32))


def in_batches(inputs, count=32):
    q, k, v, scale, causal = inputs
    for start in range(0, q.shape[0], count):
        part = slice(start, start + count)
        yield [q[part], k[part], v[part], scale, causal], (part,)


def seen(q, k, causal):
    queries, keys = q.shape[2], k.shape[2]
    if not causal:
        return q.shape[0] * q.shape[1] * queries * keys
    return q.shape[0] * q.shape[1] * sum(min(max(i + 1 + keys - queries, 0), keys) for i in range(queries))


def necessary(q, k, v, scale, causal):
    """q, k and v read, out and lse written."""
    return (2 * q.numel() + 2 * k.numel()) * q.itemsize + 4 * q[..., 0].numel()


def products(q, k, v, scale, causal):
    return 2 * 2 * seen(q, k, causal) * q.shape[3]


def sdpa(q, k, v, scale, causal):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)


def cudnn(q, k, v, scale, causal):
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return sdpa(q, k, v, scale, causal)


def flash_attention_2(q, k, v, scale, causal):
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return sdpa(q, k, v, scale, causal)


@cache
def compiled_flex():
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


@cache
def below_the_diagonal(queries, keys, device):
    from torch.nn.attention.flex_attention import create_block_mask

    return create_block_mask(lambda b, h, i, j: i >= j, None, None, queries, keys, device=device)


def flex(q, k, v, scale, causal):
    blocks = below_the_diagonal(q.shape[2], k.shape[2], q.device)
    return compiled_flex()(q, k, v, scale=scale, block_mask=blocks)


COSTS = {
    "bytes": necessary, "flops": products,
    "sweep": {"q": [2**n for n in range(9, 15)], "k": [2**n for n in range(9, 15)]},
    "peers": {
        "torch": sdpa, "cuDNN": cudnn, "FlashAttention-2": flash_attention_2, "FlexAttention": flex,
    },
}
# what bugs and variants change
PLACE = "(strips - 1 - place // width) * TILE_Q"
WIDTH = "tl.minimum(all_heads - group * GROUP, GROUP)"
WHOLE = "whole = fewest // TILE_K * TILE_K"
MOST = "most = tl.minimum(keys, first + TILE_Q + keys - queries)"
FEWEST = "fewest = tl.minimum(keys, tl.maximum(0, first + 1 + keys - queries))"
SEEN = "(columns < keys)[None, :]"
HIGHER = "tl.maximum(top, tl.max(scores, 1) * scale_log2)"
TILES_128 = "TILE_Q, TILE_K, num_warps, num_stages = 128, 64, 4, 2"
TILES_64 = "TILE_Q, TILE_K, num_warps, num_stages = 64, 64, 4, 2"
TILES = "TILE_Q, TILE_K, num_warps, num_stages = 128, 32, 8, 3"
OUT = "    out = torch.empty("
K_HEAD = "k_ptr, k_strides, batch, head // shared"
CONTIGUOUS = "    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()\n"
REPEATED = """    k, v = (t.repeat_interleave(heads // max(1, key_heads), 1) for t in (k, v))
    key_heads = heads
"""
REAL = "b=2,h=4,q=70,k=90,d=96,kv=2"

exercise = Exercise(
    entry="flash_attention",
    outputs=("out", "lse"),
    inputs=inputs,
    reference=attention,
    provisional=True,
    cases=[
        case(b=1, h=1, q=200, k=200, d=128), case(b=2, h=4, q=70, k=90, d=96, kv=2), case(b=1, h=1, q=1, k=1, d=1),
        case(b=1, h=2, q=64, k=64, d=64), case(b=1, h=1, q=63, k=65, d=64), case(b=1, h=1, q=129, k=257, d=64),
        case(b=1, h=1, q=127, k=128, d=128, causal=False), case(b=1, h=1, q=129, k=63, d=128, causal=False),
        case(b=1, h=6, q=37, k=53, d=33, kv=2), case(b=1, h=4, q=20, k=67, d=80, kv=1, dtype=torch.float16),
        case(b=2, h=3, q=67, k=131, d=61, causal=False, dtype=torch.float16), case(b=1, h=2, q=1, k=150, d=128),
        case(b=1, h=2, q=150, k=20, d=80), case(b=1, h=2, q=150, k=1, d=16, causal=False),
        case(b=1, h=1, q=200, k=70, d=64, dtype=torch.float16),  # whole strips see no key
        case(b=0, h=2, q=5, k=5, d=16), case(b=2, h=0, q=5, k=5, d=16), case(b=1, h=2, q=0, k=5, d=16),
        case(b=1, h=2, q=5, k=0, d=16), case(b=1, h=2, q=5, k=0, d=16, causal=False),
        case(b=2, h=3, q=70, k=90, d=32, q_is="heads", k_is="packed"),
        case(b=2, h=3, q=70, k=90, d=32, q_is="turned", k_is="tokens", v_is="turned", dtype=torch.float16),
        case(b=2, h=3, q=70, k=90, d=32, q_is="padded", k_is="one_head", v_is="one_batch"),
        case(b=2, h=3, q=70, k=90, d=24, q_is="every_other", k_is="same", v_is="heads"),
        # scores of thousands: few keys have all of the weight, and exp of a score is infinite
        case(b=1, h=1, q=150, k=150, d=64, std=30.0), case(b=1, h=1, q=90, k=150, d=64, std=30.0, dtype=torch.float16),
        case(b=1, h=2, q=70, k=70, d=64, one=torch.nan), case(b=1, h=2, q=70, k=70, d=64, one=torch.inf),
        case(b=1, h=2, q=200, k=200, d=64, apart=130),
        case(b=2**10 + 1, h=128, kv=1, q=128, k=128, d=128, needs_gb=30, slices=in_batches),
    ],
    refuses=[
        case(b=2, h=2, q=8, k=8, d=129), case(b=2, h=2, q=8, k=8, d=0), case(b=2, h=2, q=8, k=8, d=16, scale=-1.0),
        case(b=2, h=2, q=8, k=8, d=16, scale=0.0), case(b=2, h=3, kv=2, q=8, k=8, d=16),
        case(b=2, h=2, kv=4, q=8, k=8, d=16),
        *[case(b=2, h=2, kv=1, q=8, k=8, d=16, wrong=wrong) for wrong in WRONG],
    ],
    moves=[
        # of 512 keys a strip of 64 sees 288 on average, and loads 32 more; grouped heads are loaded by each of them
        Moves(case(b=1, h=4, kv=2, q=512, k=512, d=64), bytes=necessary, slack=3.9,
            window=Window(programs=16, reuse=3.0)),
    ],
    speed=[
        Speed(case(b=4, h=32, q=4096, k=4096, d=128, q_is="heads", k_is="heads"), target=0.45, **COSTS),
        Speed(case(b=4, h=32, q=4096, k=4096, d=64, q_is="heads", k_is="heads"), target=0.34, **COSTS),
    ],
    bugs=[
        Bug("masks every tile, also those of which nothing is seen", (FEWEST, "fewest = 0"), (MOST, "most = keys"),
            rung="moves"),
        Bug("copies whatever does not lie as in 4.1a", (OUT, CONTIGUOUS + OUT), rung="moves"),
        Bug("keys and values again for each head that shares them", (OUT, REPEATED + OUT), rung="moves"),
        Bug("strips of 16 queries", (TILES_64, TILES_64.replace("64, 64", "16, 64")), rung="moves"),
        Bug("tiles of a Hopper for all GPUs", (TILES, TILES.replace("128, 32, 8, 3", "128, 128, 8, 3")),
            rung="compiles"),
        Bug("aligns the mask at the first query", ("tl.arange(0, TILE_Q) + keys - queries", "tl.arange(0, TILE_Q)"),
            caught=REAL),
        Bug("ends at the diagonal of as many keys as queries", (MOST, "most = tl.minimum(keys, first + TILE_Q)"),
            caught="b=1,h=1,q=129,k=257,d=64"),
        Bug("leaves a tile that is cut unmasked", (WHOLE, "whole = tl.cdiv(fewest, TILE_K) * TILE_K"), caught=REAL),
        Bug("begins with a tile that no longer exists", (FEWEST,
            "fewest = tl.minimum(keys, first + 1 + keys - queries)"), caught="b=1,h=1,q=200,k=70,d=64,fp16"),
        Bug("a query does not see its own key", ("columns[None, :] <= last", "columns[None, :] < last"), caught=REAL),
        Bug("causal, asked or not", ("CAUSAL=causal", "CAUSAL=True"), caught="b=1,h=1,q=127,k=128,d=128,causal=False"),
        Bug("keys past the last have scores of 0", (SEEN, "(columns >= 0)[None, :]"),
            caught="b=1,h=1,q=129,k=63,d=128,causal=False"),
        Bug("0 / 0 where no key is seen", ("tl.where(total == 0, 1.0, total)", "total"),
            caught="b=1,h=2,q=150,k=20,d=80"),
        Bug("the top begins at -inf", ("tl.full((TILE_Q,), LOWEST, tl.float32)",
            'tl.full((TILE_Q,), float("-inf"), tl.float32)'), caught="b=1,h=2,q=150,k=20,d=80"),
        Bug("the accumulator keeps its old top", ("acc * shrink[:, None])", "acc)"), caught=REAL),
        Bug("heads share in turns, not in rows", (K_HEAD, K_HEAD.replace("// shared", "% (heads // shared)")),
            caught=REAL),
        Bug("keys of its own for each head", (K_HEAD, K_HEAD.replace(" // shared", "")), caught=REAL),
        Bug("takes batches for more heads", ("batch * strides[0] + head * strides[1]", "(batch + head) * strides[1]"),
            caught=REAL),
        Bug("v lies as k does", ("k.stride(), v.stride()", "k.stride(), k.stride()"),
            caught="b=2,h=3,q=70,k=90,d=32,q_is=turned,k_is=tokens,v_is=turned,fp16"),
        Bug("numbers of a token are adjacent", ("[None, :] * strides[3]", "[None, :]"),
            caught="b=2,h=3,q=70,k=90,d=32,q_is=turned,k_is=tokens,v_is=turned,fp16"),
        Bug("a descriptor for any strides", (" and all(describable(t) for t in (q, k, v, out))", ""),
            caught="b=2,h=3,q=70,k=90,d=32,q_is=turned,k_is=tokens,v_is=turned,fp16"),
        Bug("takes every group for a full one", (WIDTH, "GROUP"), caught=REAL),
        Bug("leaves out the last queries", ("triton.cdiv(queries, TILE_Q),)", "max(1, queries // TILE_Q),)"),
            caught="b=1,h=1,q=129,k=257,d=64"),
        Bug("lse of as many queries as keys", ("number * queries + rows", "number * keys + rows"), caught=REAL),
        Bug("any width", ("not 1 <= head_dim <= 128", "not 1 <= head_dim <= 256"), caught="b=2,h=2,q=8,k=8,d=129"),
        Bug("any numbers of heads", (" or heads % key_heads", ""), caught="b=2,h=3,kv=2,q=8,k=8,d=16"),
    ],
    variants=[
        Variant("pointers on every GPU", ("TMA = hopper and", "TMA = not hopper and")),
        Variant("small tiles", (TILES_128, TILES_128.replace("128, 64", "64, 32")),
            (TILES_64, TILES_64.replace("64, 64", "64, 32")), (TILES, TILES.replace("128, 32", "32, 16"))),
        Variant("one walk, masked in every step, to the last key that is seen", (WHOLE, "whole = 0")),
        Variant("scores are scaled before they are compared", ("tl.dot(q, k.T)", "tl.dot(q, k.T) * scale_log2"),
            (HIGHER, "tl.maximum(top, tl.max(scores, 1))"), ("scores * scale_log2 - higher", "scores - higher")),
        Variant("strips from the first to the last", (PLACE, "place // width * TILE_Q")),
        Variant("head by head", ("GROUP=8,", "GROUP=1,")),
    ],
)
