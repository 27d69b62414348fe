import torch
from workbook.buffers import span
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal
from workbook.layouts import MATRIX


def matrix(m, n, layout, values):
    """Numbers of 8 bits, each of them as likely."""
    shift = int(layout == "shifted")  # rows, but one byte past an aligned address
    strides = MATRIX["rows" if shift else layout](m, n)
    numbers = torch.randint(-128, 128, (span((m, n), strides) + shift,), dtype=torch.int8)
    numbers = numbers.as_strided((m, n), strides, shift)
    if values == "least":
        numbers.fill_(-128)
    return numbers


def inputs(m, n, k, a="rows", b="columns", bias=torch.bfloat16, values="random", scales=0.01):
    """bias: its dtype, or None. cancelling: large sums over the first half of k, which the second half takes back."""
    a, b = matrix(m, k, a, values), matrix(k, n, b, values)
    scale_a, scale_b = torch.rand(m) * scales + scales / 8, torch.rand(n) * scales + scales / 8
    bias = None if bias is None else normal(n, dtype=bias)
    if values == "cancelling":
        a.bitwise_and_(63).bitwise_or_(64)
        b.bitwise_and_(63).bitwise_or_(64)
        a[:, k // 2 :], b[k // 2 :] = a[:, : k // 2], -b[: k // 2]
        b[-1] += 1
    elif values == "zero scales":
        scale_a[::3], scale_b[::2] = 0, 0
    elif values == "a in bf16":
        a = a.bfloat16()
    elif values == "b transposed":
        b = b.t()
    elif values == "a scale too few":
        scale_b = scale_b[1:]
    elif values == "scales in bf16":
        scale_a = scale_a.bfloat16()
    elif values == "bias for rows":
        bias = normal(m, dtype=bias.dtype)
    return a, b, scale_a, scale_b, bias


def product(a, b, scale_a, scale_b, bias):
    sums = (a.double() @ b.double()).to(scale_a.dtype)  # exact in float64
    out = sums * scale_a[:, None] * scale_b
    if bias is not None:
        return (out + bias).to(bias.dtype)
    return out.to(torch.bfloat16) if out.dtype == torch.float32 else out


def in_torch(a, b, scale_a, scale_b, bias):
    return (torch._int_mm(a, b) * scale_a[:, None] * scale_b + bias).to(bias.dtype)


def sums_alone(a, b, scale_a, scale_b, bias):
    return torch._int_mm(a, b)


def necessary(a, b, scale_a, scale_b, bias):
    read = a.numel() + b.numel() + scale_a.nbytes + scale_b.nbytes + (0 if bias is None else bias.nbytes)
    return read + 2 * a.shape[0] * b.shape[1]


def products(a, b, *_):
    return 2 * a.shape[0] * a.shape[1] * b.shape[1]


COSTS = {
    "bytes": necessary, "flops": products, "products": "int8",
    "peers": {"torch._int_mm, scaled": in_torch, "torch.compile": in_torch, "torch._int_mm, unscaled": sums_alone},
}

# what bugs and variants change
SCALE_A = "scale_a = tl.load(scale_a_ptr + rows, mask=rows < m, other=0.0)"
SCALED = "out = acc.to(tl.float32) * scale_a[:, None] * scale_b[None, :]"
BIAS = "        out += tl.load(bias_ptr + columns, mask=columns < n, other=0.0).to(tl.float32)[None, :]\n"
WALK = "tl.range(tl.program_id(0), tiles_m * tiles_n, tl.num_programs(0), warp_specialize=DESCRIPTORS)"
ZEROS, STEP = "acc = tl.zeros((TILE_M, TILE_N), tl.int32)", "acc = tl.dot(a, b, acc, out_dtype=tl.int32)"
ALIGNED = "t.data_ptr() % 16 == 0 and t.stride(0) * t.element_size() % 16 == 0"
OUT = "    out = torch.empty((m, n), dtype=torch.bfloat16 if bias is None else bias.dtype, device=a.device)\n"
WHERE = "DESCRIPTORS = has_descriptors(a, b.T, out)"
TILES = '"TILE_M": 128, "TILE_N": 256, "TILE_K": 128, "GROUP_M": 8, "num_warps": 4, "num_stages": 3'
TILES_BY_POINTERS = '"TILE_M": 128, "TILE_N": 128, "TILE_K": 128, "GROUP_M": 8, "num_warps": 8, "num_stages": 3'
SMALL = '"TILE_M": 32, "TILE_N": 32, "TILE_K": 128, "GROUP_M": 8, "num_warps": 4, "num_stages": 3'
RETURN = "        ### END SOLUTION\n    return out\n"


exercise = Exercise(
    entry="int8_matmul",
    outputs=("out",),
    inputs=inputs,
    reference=product,
    deterministic=True,
    provisional=True,
    cases=[
        case(m=130, n=264, k=144), case(m=1, n=1, k=1), case(m=128, n=256, k=128), case(m=127, n=257, k=131),
        case(m=700, n=520, k=16), case(m=40, n=72, k=400, bias=torch.float16), case(m=40, n=72, k=160, bias=None),
        case(m=40, n=70, k=160), case(m=40, n=72, k=150), case(m=3, n=608, k=32, b="rows"),
        case(m=70, n=88, k=144, a="columns"), case(m=40, n=72, k=160, a="shifted"),
        case(m=40, n=72, k=160, a="every_other"), case(m=70, n=88, k=144, a="padded", b="every_other"),
        case(m=70, n=88, k=144, a="same_rows", b="same_columns"),
        case(m=0, n=5, k=7), case(m=5, n=0, k=7), case(m=5, n=8, k=0), case(m=5, n=8, k=0, bias=None),
        case(m=40, n=72, k=160, values="zero scales"), case(m=40, n=71, k=160, values="zero scales", bias=None),
        case(m=16, n=16, k=8192, values="cancelling", bias=None),
        case(m=16, n=16, k=2048, values="least"), case(m=40, n=72, k=160, scales=1e-6, bias=None),
        case(m=2**17 + 1, n=16, k=2**14, needs_gb=12, slices=by_rows(2**12)),
    ],
    refuses=[
        case(m=16, n=20, k=32, values="b transposed"), case(m=16, n=16, k=32, values="a scale too few"),
        case(m=16, n=20, k=32, values="bias for rows"), case(m=16, n=16, k=32, values="a in bf16"),
        case(m=16, n=16, k=32, values="scales in bf16"), case(m=16, n=16, k=32, bias=torch.float32),
        case(m=1, n=1, k=131072),
    ],
    moves=[
        # tiles of 128 x 128 ask for 2.2 times what is necessary
        Moves(case(m=1024, n=512, k=256), bytes=necessary, slack=2.3, programs=8),
        Moves(case(m=512, n=512, k=256, b="rows"), bytes=necessary, slack=2.05),
    ],
    speed=[
        Speed(case(m=8192, n=8192, k=8192), target=0.65, **COSTS),
        Speed(case(m=4096, n=4096, k=4096), target=0.60, **COSTS),
    ],
    bugs=[
        Bug("upcasts to fp16 in memory", (OUT, OUT + "    a, b = a.half(), b.half()\n"),
            (WHERE, "DESCRIPTORS = False"), (STEP, "acc += tl.dot(a, b).to(tl.int32)"), rung="moves"),
        Bug("upcasts to fp16 in registers", (WHERE, "DESCRIPTORS = False"),
            (STEP, "acc += tl.dot(a.to(tl.float16), b.to(tl.float16)).to(tl.int32)"), rung="fast"),
        Bug("asks torch for b by rows", (OUT, OUT + "    b = b.contiguous()\n"), rung="moves"),
        Bug("a program a tile", ("min(multiprocessors, ", "max(multiprocessors, "), rung="moves"),
        Bug("asks torch for b by columns", (OUT, OUT + "    b = b.T.contiguous().T\n"), rung="moves"),
        Bug("leaves scales and bias to torch", (SCALED, "out = acc.to(tl.float32)"), (BIAS, "        pass\n"),
            (OUT, "    out = torch.empty((m, n), dtype=torch.float32, device=a.device)\n"), (RETURN, RETURN.replace(
            "return out", "out = out * scale_a[:, None] * scale_b\n"
            "    return out.bfloat16() if bias is None else (out + bias).to(bias.dtype)")), rung="moves"),
        Bug("tiles of 32 x 32", (TILES, SMALL), (TILES_BY_POINTERS, SMALL), rung="moves"),
        Bug("adds up in fp32", (ZEROS, ZEROS.replace("int32", "float32")),
            (STEP, "acc += tl.dot(a, b, out_dtype=tl.int32)"), caught="m=16,n=16,k=8192,values=cancelling,bias=None"),
        Bug("rounds the sums to fp16", (SCALED, SCALED.replace("tl.float32", "tl.float16).to(tl.float32")),
            caught="m=16,n=16,k=2048,values=least"),
        Bug("the scales of the columns for the rows, too",
            (SCALE_A, SCALE_A.replace("scale_a_ptr", "scale_b_ptr")), caught="m=40,n=72,k=400,fp16"),
        Bug("one scale for all rows", (SCALED, SCALED.replace("scale_a[:, None]", "tl.load(scale_a_ptr)")),
            caught="m=130,n=264,k=144"),
        Bug("takes a scale of zero for none",
            (SCALED, SCALED.replace("scale_b", "tl.where(scale_b > 0, scale_b, 1.0)")),
            caught="m=40,n=72,k=160,values=zero scales"),
        Bug("scales the bias", (BIAS, BIAS.replace(")[None, :]", ")[None, :] * scale_b[None, :]")),
            caught="m=130,n=264,k=144"),
        Bug("forgets the bias", (BIAS, "        pass\n"), caught="m=5,n=8,k=0"),
        Bug("each program makes one tile",
            (WALK, "range(tl.program_id(0), min(tiles_m * tiles_n, tl.num_programs(0)))"), caught="m=700,n=520,k=16"),
        Bug("descriptors of rows that are not aligned", (ALIGNED, "t.data_ptr() % 16 == 0"), caught="m=40,n=72,k=150"),
        Bug("descriptors of what begins anywhere", (ALIGNED, "t.stride(0) * t.element_size() % 16 == 0"),
            caught="m=40,n=72,k=160,a=shifted"),
        Bug("descriptors of rows with holes in them", ("t.stride(1) == 1 and ", ""),
            caught="m=40,n=72,k=160,a=every_other"),
        Bug("takes a and b for contiguous along k", ("*a.stride(), *b.stride()", "a.stride(0), 1, 1, b.stride(1)"),
            caught="m=70,n=88,k=144,a=columns"),
        Bug("no mask along k", ("mask=(rows < m)[:, None] & (inner < k)[None, :]", "mask=(rows < m)[:, None]"),
            ("mask=(inner < k)[:, None] & (columns < n)[None, :]", "mask=(columns < n)[None, :]"),
            caught="m=127,n=257,k=131"),
        Bug("the last group is as high as the others", ("min(tiles_m - first, GROUP_M)", "GROUP_M"),
            caught="m=130,n=264,k=144"),
    ],
    variants=[
        Variant("pointers alone", (WHERE, "DESCRIPTORS = False"),
            (TILES_BY_POINTERS, TILES_BY_POINTERS.replace('K": 128', 'K": 64').replace('stages": 3', 'stages": 4'))),
        Variant("warps that all do the same", ("warp_specialize=DESCRIPTORS", "flatten=True"),
            (TILES, TILES_BY_POINTERS)),
        Variant("one factor for each sum", fill={1: """
            there = columns < n
            scale_b = tl.load(scale_b_ptr + columns, mask=there)
            out = acc * (tl.load(scale_a_ptr + rows, mask=rows < m)[:, None] * scale_b)
            if bias_ptr is None:
                return out
            else:
                return tl.load(bias_ptr + columns, mask=there)[None, :] + out
        """}),
        Variant("rows of tiles, one after the other, by pointers", (WHERE, "DESCRIPTORS = False"), fill={2: """
            for number in range(tl.program_id(0), tl.cdiv(m, TILE_M) * tl.cdiv(n, TILE_N), tl.num_programs(0)):
                rows = number // tl.cdiv(n, TILE_N) * TILE_M + tl.arange(0, TILE_M)
                columns = number % tl.cdiv(n, TILE_N) * TILE_N + tl.arange(0, TILE_N)
                acc = tl.zeros((TILE_M, TILE_N), tl.int32)
                for step in range(tl.cdiv(k, TILE_K)):
                    inner = step * TILE_K + tl.arange(0, TILE_K)
                    a = tl.load(a_ptr + rows.to(tl.int64)[:, None] * stride_am + inner[None, :] * stride_ak,
                                mask=(rows < m)[:, None] & (inner < k)[None, :], other=0)
                    b = tl.load(b_ptr + columns.to(tl.int64)[:, None] * stride_bn + inner[None, :] * stride_bk,
                                mask=(columns < n)[:, None] & (inner < k)[None, :], other=0)
                    acc += tl.dot(a, b.T)
                out = scaled(acc, scale_a_ptr, scale_b_ptr, bias_ptr, rows, columns, m, n)
                tl.store(out_ptr + rows.to(tl.int64)[:, None] * n + columns[None, :], out.to(out_ptr.dtype.element_ty),
                         mask=(rows < m)[:, None] & (columns < n)[None, :])
        """}),
    ],
)
