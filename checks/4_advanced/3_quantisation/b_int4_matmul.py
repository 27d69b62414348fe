import torch
from workbook.buffers import span
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal
from workbook.layouts import MATRIX


def inputs(m, n, k, dtype=torch.bfloat16, x="rows", mean=0.0, values="random"):
    """mean: of x. A sum has about the spread of a number of x."""
    if x == "shifted":  # rows, but one element past an aligned address
        x = normal(span((m, k), (k, 1)) + 1, dtype=dtype).as_strided((m, k), (k, 1), 1)
    else:
        x = normal(m, k, dtype=dtype, mean=mean, strides=MATRIX[x](m, k))
    packed = torch.randint(-(2**31), 2**31, (k // 8, n), dtype=torch.int32)
    scales = ((torch.rand(k // 128, n) + 0.5) * max(k, 1) ** -0.5 / 6).to(dtype)
    zeros = torch.randint(0, 16, (k // 128, n), dtype=torch.int8)
    if values == "zero scales":
        scales[:, ::2] = 0
    elif values == "extremes":  # every weight and zero point is 0 or 15
        packed = torch.where(packed > 0, 0x0FF0F00F, -0x0FF0F010).to(torch.int32)
        zeros = torch.where(zeros > 7, 15, 0).to(torch.int8)
    elif values == "infinite":
        x[0, 0], x[1, -1], x[2, 0] = torch.nan, torch.inf, -torch.inf
    elif values == "half a group":
        x = x[:, :-64]
    elif values == "packed along n":
        packed = packed.t().contiguous()
    elif values == "columns":
        packed = packed.t().contiguous().t()
    elif values == "fp32 scales":
        scales = scales.float()
    elif values == "packed zeros":
        zeros = zeros[:, ::8].int()
    elif values == "packed in bytes":
        packed = packed.view(torch.int8)
    return x, packed, scales, zeros


def weights(packed, scales, zeros):
    """[k, n], of scales' dtype."""
    groups, n = scales.shape
    shifts = torch.arange(0, 32, 4, dtype=torch.int32, device=packed.device)
    nibbles = (packed.view(groups, 1, 16, n) >> shifts[:, None, None] & 15).reshape(groups, 128, n)
    return ((nibbles - zeros[:, None]) * scales[:, None]).reshape(groups * 128, n)


def product(x, packed, scales, zeros):
    return x @ weights(packed, scales, zeros)


def unpacked(x, packed, scales, zeros):
    if not hasattr(packed, "unpacked"):  # at the first call, which is not timed
        packed.unpacked = weights(packed, scales, zeros)
    return x @ packed.unpacked


def unpacked_each_time(x, packed, scales, zeros):
    return x @ weights(packed, scales, zeros)


def tinygemm(x, packed, scales, zeros):
    if not hasattr(packed, "repacked"):
        ones = weights(packed, torch.ones_like(scales), torch.zeros_like(zeros)).t().to(torch.uint8)
        packed.repacked = torch._convert_weight_to_int4pack((ones[:, ::2] << 4 | ones[:, 1::2]).contiguous(), 8)
        packed.both = torch.stack([scales, (8 - zeros.to(scales.dtype)) * scales], -1)
    return torch.ops.aten._weight_int4pack_mm(x, packed.repacked, 128, packed.both)


def necessary(x, packed, scales, zeros):
    out = x.shape[0] * packed.shape[1] * x.itemsize
    return x.numel() * x.itemsize + packed.nbytes + scales.nbytes + zeros.nbytes + out


def products(x, packed, *_):
    return 2 * x.shape[0] * x.shape[1] * packed.shape[1]


COSTS = {
    "bytes": necessary, "flops": products,
    "peers": {"torch, weights in 16 bits": unpacked, "tinygemm": tinygemm, "unpacked by torch": unpacked_each_time},
}

# what bugs and variants change
KERNEL = "@triton.jit\ndef few_rows_kernel("
NIBBLES = "nibbles = (words >> 4 * j) & 15"
BF16 = "(nibbles | 0x4300).to(tl.int16).to(tl.bfloat16, bitcast=True) - (zeros + 128)"
FP16 = "(nibbles | 0x6400).to(tl.int16).to(tl.float16, bitcast=True) - (zeros + 1024)"
THERE = "there = group + step < groups"
WORDS = "words = tl.load(words_ptrs, mask=mask[:, :, None], other=0)"
FEW = "sums = tl.dot(plane(words, j, zeros[:, :, None]), x, sums)"
FEW_SCALED = "acc += sums * scales.to(tl.float32)[:, :, None]"
MANY_SCALED = "acc += sums * scales.to(tl.float32)[:, None]"
OUT = "    out = torch.empty((m, n), dtype=x.dtype, device=x.device)\n"
WHERE = "if m <= 64:"
FEW_TILES = "TILE_M, TILE_N = max(8, triton.next_power_of_2(m)), 16"
ARGUMENTS = "arguments = (x, packed,"
DEQUANTISE = '''@triton.jit
def dequantise_kernel(packed_ptr, scales_ptr, zeros_ptr, weights_ptr, n, TILE_N: tl.constexpr):
    group = tl.program_id(0).to(tl.int64)
    inner = tl.arange(0, 16)[:, None]
    columns = tl.program_id(1) * TILE_N + tl.arange(0, TILE_N)[None, :]
    mask = columns < n
    scales = tl.load(scales_ptr + group * n + columns, mask=mask)
    zeros = tl.load(zeros_ptr + group * n + columns, mask=mask).to(scales.dtype)
    words = tl.load(packed_ptr + (group * 16 + inner) * n + columns, mask=mask)
    for j in tl.static_range(8):
        offsets = (group * 128 + j * 16 + inner) * n + columns
        tl.store(weights_ptr + offsets, plane(words, j, zeros) * scales, mask=mask)


'''

exercise = Exercise(
    entry="int4_matmul",
    outputs=("out",),
    inputs=inputs,
    reference=product,
    deterministic=True,
    provisional=True,
    cases=[
        case(m=1, n=70, k=1152), case(m=1, n=1, k=128), case(m=16, n=16, k=1024), case(m=17, n=37, k=384),
        case(m=3, n=40, k=256, dtype=torch.float16), case(m=65, n=130, k=256), case(m=130, n=129, k=128),
        case(m=66, n=16, k=4096, dtype=torch.float16), case(m=33, n=31, k=4096, dtype=torch.float16),
        case(m=5, n=40, k=256, x="columns"), case(m=5, n=40, k=256, x="padded"), case(m=5, n=40, k=256, x="shifted"),
        case(m=5, n=40, k=256, x="same_rows"), case(m=70, n=40, k=256, x="every_other"),
        case(m=70, n=40, k=256, x="columns"),
        case(m=0, n=5, k=128), case(m=5, n=0, k=128), case(m=5, n=7, k=0), case(m=70, n=7, k=0),
        case(m=5, n=40, k=384, values="zero scales"), case(m=70, n=40, k=256, values="zero scales"),
        case(m=5, n=40, k=384, values="extremes"), case(m=5, n=40, k=384, dtype=torch.float16, values="extremes"),
        case(m=5, n=40, k=384, values="infinite"), case(m=5, n=40, k=384, mean=20.0),
        case(m=2**18 + 1, n=16, k=2**13, needs_gb=14, slices=by_rows(2**14)),
    ],
    refuses=[
        case(m=5, n=16, k=256, values="half a group"), case(m=5, n=16, k=256, values="packed along n"),
        case(m=5, n=16, k=256, values="columns"), case(m=5, n=16, k=256, values="fp32 scales"),
        case(m=5, n=16, k=256, values="packed zeros"), case(m=5, n=16, k=256, values="packed in bytes"),
        case(m=5, n=16, k=256, dtype=torch.float32),
    ],
    # x for every 16 columns is a fifth more; two launches are allowed, for sums of 16 parts
    moves=[Moves(case(m=1, n=512, k=1024), bytes=necessary, slack=1.3, launches=2,
        memory=lambda x, packed, *_: 64 * x.shape[0] * packed.shape[1])],
    speed=[
        Speed(case(m=1, n=8192, k=8192), target=0.25, **COSTS),
        Speed(case(m=16, n=8192, k=8192), target=0.25, **COSTS),
        Speed(case(m=4096, n=8192, k=8192), target=0.40, naive_fails=False,
            sweep={"m": [1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096]}, **COSTS),
    ],
    bugs=[
        Bug("dequantises, then multiplies", (KERNEL, DEQUANTISE + KERNEL),
            (WORDS, "words_ptrs = packed_ptr + columns[None, :, None]"), (FEW, """
            places = ((group + step)[:, None, None] * 128 + j * 16 + inner[None, None, :]) * n
            sums = tl.dot(tl.load(words_ptrs + places, mask=mask[:, :, None], other=0.0), x, sums)
"""), (FEW_SCALED + "\n        words_ptrs += 16 * n", "acc += sums"), (WHERE, "if True:"),
            (FEW_TILES, "TILE_M, TILE_N = min(64, max(8, triton.next_power_of_2(m))), 16"),
            (ARGUMENTS, """weights = torch.empty((k, n), dtype=x.dtype, device=x.device)
        if k > 0:
            dequantise_kernel[(k // 128, triton.cdiv(n, 128))](packed, scales, zeros, weights, n, TILE_N=128)
        arguments = (x, weights,"""), rung="moves"),
        Bug("loads each word for each of its nibbles",
            (FEW, FEW.replace("words,", "tl.load(words_ptrs, mask=mask[:, :, None], other=0),")), rung="moves"),
        Bug("asks torch for zero points in fp32", (OUT, OUT + "    zeros = zeros.float()\n"), rung="moves"),
        Bug("leaves the unpacking to torch's integers", (OUT, OUT + "    packed = packed >> 0\n"), rung="moves"),
        Bug("converts integers", (BF16, "nibbles.to(tl.bfloat16) - zeros"), (FP16, "nibbles.to(tl.float16) - zeros"),
            rung="fast"),
        Bug("the sign fills the last nibble", (NIBBLES, "nibbles = (words << 28 - 4 * j) >> 28"),
            caught="m=1,n=70,k=1152"),
        Bug("nibbles from the top", (NIBBLES, "nibbles = (words >> 28 - 4 * j) & 15"), caught="m=1,n=70,k=1152"),
        Bug("a word holds neighbours along k",
            ("x_offsets = (group[:, None] * 128 + inner)[:, :, None]",
             "x_offsets = (group[:, None] * 128 + inner * 8)[:, :, None]"),
            ("x = tl.load(x_ptrs + j * 16 * stride_xk, mask=x_mask", "x = tl.load(x_ptrs + j * stride_xk, mask=x_mask"),
            caught="m=16,n=16,k=1024"),
        Bug("zero points one too high, as GPTQ stores them", ("(zeros + 128)", "(zeros + 129)"),
            caught="m=1,n=70,k=1152"),
        Bug("the offset of bf16 for fp16 too", ("(zeros + 1024)", "(zeros + 128)"), caught="m=3,n=40,k=256,fp16"),
        Bug("forgets the zero point", ("- (zeros + 128)", "- 128"), caught="m=1,n=70,k=1152"),
        Bug("scales before it subtracts", ("- (zeros + 128)", "- 128"), (FEW_SCALED,
            FEW_SCALED.replace("sums", "(sums - zeros.to(tl.float32)[:, :, None])")), caught="m=1,n=70,k=1152"),
        Bug("takes a scale of zero for none", (FEW_SCALED,
            FEW_SCALED.replace("scales", "tl.where(scales == 0, 1.0, scales)")),
            caught="m=5,n=40,k=384,values=zero scales"),
        Bug("the first group's scales for all", ("scales_ptr + offsets + step * n", "scales_ptr + offsets"),
            caught="m=1,n=70,k=1152"),
        Bug("the first group's zero points for all", ("zeros_ptr + group * n + columns", "zeros_ptr + columns"),
            caught="m=65,n=130,k=256"),
        Bug("every share has as many groups", (THERE, "there = group + step >= 0"), caught="m=1,n=70,k=1152"),
        Bug("the first share for the sum", ("tl.sum(acc, 0)", "tl.sum(tl.where((tl.arange(0, SHARES) == 0)"
            "[:, None, None], acc, 0.0), 0)"), caught="m=16,n=16,k=1024"),
        Bug("adds up in 16 bits", (MANY_SCALED, MANY_SCALED + "\n        acc = acc.to(x.dtype).to(tl.float32)"),
            caught="m=66,n=16,k=4096,fp16"),
        Bug("adds up in 16 bits, of few rows",
            (FEW_SCALED, FEW_SCALED + "\n        acc = acc.to(x.dtype).to(tl.float32)"),
            caught="m=33,n=31,k=4096,fp16"),
        Bug("takes x for contiguous", ("n, k, *x.stride())", "n, k, k, 1)"), caught="m=5,n=40,k=256,x=columns"),
        Bug("drops the ragged columns", ("few_rows_kernel[(triton.cdiv(n, TILE_N)",
            "few_rows_kernel[(max(1, n // TILE_N)"), caught="m=17,n=37,k=384"),
    ],
    variants=[
        Variant("other tiles and shares", (FEW_TILES, "TILE_M, TILE_N = 16, 32"),
            ("SHARES = min(8, 128 // TILE_M)", "SHARES = 4"),
            ("TILE_M, TILE_N = 128, 128", "TILE_M, TILE_N = 64, 128")),
        Variant("one product a program", (WHERE, "if False:"), ("TILE_M, TILE_N = 128, 128", "TILE_M, TILE_N = 16, 64"),
            ("num_warps=8, num_stages=3", "num_warps=4, num_stages=4")),
        Variant("x by the weights, one product for a group",
            ("TILE_M, TILE_N = 128, 128", "TILE_M, TILE_N = 64, 128"), fill={3: """
            rows = tl.program_id(1) * TILE_M + tl.arange(0, TILE_M)
            columns = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
            there = columns < n
            acc = tl.zeros((TILE_M, TILE_N), tl.float32)
            for group in range(0, k // 128):
                scales = tl.load(scales_ptr + group * n + columns, mask=there, other=0.0).to(tl.float32)
                zeros = tl.load(zeros_ptr + group * n + columns, mask=there, other=0)
                words = tl.load(packed_ptr + (group * 16 + tl.arange(0, 16))[:, None] * n + columns[None, :],
                                mask=there[None, :], other=0)
                nibbles = words[None, :, :] >> (4 * tl.arange(0, 8))[:, None, None] & 15
                weights = (tl.reshape(nibbles, (128, TILE_N)) - zeros[None, :]).to(x_ptr.dtype.element_ty)
                x_ptrs = x_ptr + rows.to(tl.int64)[:, None] * stride_xm
                x_ptrs += (group * 128 + tl.arange(0, 128))[None, :] * stride_xk
                x = tl.load(x_ptrs, mask=(rows < m)[:, None], other=0.0)
                acc += tl.dot(x, weights) * scales[None, :]
            out_ptrs = out_ptr + rows.to(tl.int64)[:, None] * n + columns[None, :]
            tl.store(out_ptrs, acc, mask=(rows < m)[:, None] & there[None, :])
        """}),
        Variant("integers first", fill={1: """
            return ((words >> (j * 4) & 0xF) - zeros.to(tl.int32)).to(tl.float32).to(zeros.dtype)
        """}),
    ],
)
