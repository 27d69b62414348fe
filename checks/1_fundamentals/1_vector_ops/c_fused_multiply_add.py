import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal


def inputs(n, dtype=torch.float32, steps=(1, 1, 1), cancel=False, extremes=False):
    x, y, z = (normal(n * step, dtype=dtype)[::step] for step in steps)
    if cancel:  # z = -x * y but for its last digits, which are then all that is left
        z = -x * y
    if extremes:
        values = torch.tensor([1e4, -1e4, float("inf"), float("-inf"), float("nan"), 0.0], dtype=dtype)
        x[:36], y[:36], z[:6] = values.repeat(6), values.repeat_interleave(6), values
    return x, y, z


def four_vectors(x, y, z):
    return 4 * x.numel() * x.itemsize


def gems(x, y, z):
    import flag_gems

    return flag_gems.addcmul(z, x, y)


exercise = Exercise(
    entry="multiply_add",
    inputs=inputs,
    reference=lambda x, y, z: x * y + z,
    cases=[
        case(n=1025), case(n=1), case(n=0), case(n=1023), case(n=1024), case(n=8191),
        case(n=3001, dtype=torch.float16), case(n=4096, dtype=torch.bfloat16),
        case(n=257, dtype=torch.bfloat16, cancel=True), case(n=65, extremes=True),
        case(n=1025, steps=(3, 1, 2)), case(n=1025, steps=(1, 5, 1)), case(n=1, steps=(3, 3, 3)),
        case(n=2048, dtype=torch.bfloat16, steps=(2, 2, 2)),
        case(n=2**31 + 1, dtype=torch.float16, needs_gb=55, slices=by_rows(2**27)),
    ],
    moves=[Moves(case(n=2**15), bytes=four_vectors)],
    speed=[
        Speed(
            case(n=2**27), bytes=four_vectors, flops=lambda x, y, z: 2 * x.numel(), target=0.90,
            peers={
                "torch": lambda x, y, z: torch.addcmul(z, x, y),
                "torch.compile": lambda x, y, z: x * y + z,
                "flag_gems": gems,
            },
        ),
    ],
    bugs=[
        Bug("two passes", ("@triton.jit\n", """
@triton.jit
def multiply_kernel(x_ptr, y_ptr, out_ptr, n, stride_x, stride_y, BLOCK: tl.constexpr):
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets * stride_x, mask=mask).to(tl.float32)
    tl.store(out_ptr + offsets, x * tl.load(y_ptr + offsets * stride_y, mask=mask).to(tl.float32), mask=mask)


@triton.jit
"""), ("    y = tl.load(y_ptr + offsets * stride_y, mask=mask).to(tl.float32)\n", ""),
            ("x * y + z, mask", "x + z, mask"), ("""
        multiply_add_kernel[grid](x, y, z, out, n, *strides, BLOCK=BLOCK)""", """
        product = torch.empty(n, dtype=torch.float32, device=x.device)
        multiply_kernel[grid](x, y, product, n, x.stride(0), y.stride(0), BLOCK=BLOCK)
        multiply_add_kernel[grid](product, y, z, out, n, 1, 1, z.stride(0), BLOCK=BLOCK)"""), rung="moves"),
        Bug("takes every vector for contiguous",
            ("strides = x.stride(0), y.stride(0), z.stride(0)", "strides = 1, 1, 1"),
            caught="n=1025,steps=(3, 1, 2)"),
        Bug("one stride for all", ("strides = x.stride(0), y.stride(0), z.stride(0)", "strides = 3 * [x.stride(0)]"),
            caught="n=1025,steps=(1, 5, 1)"),
        Bug("scales only the block's begin by the stride",
            ("x_ptr + offsets * stride_x", "x_ptr + tl.program_id(0) * BLOCK * stride_x + tl.arange(0, BLOCK)"),
            caught="n=1025,steps=(3, 1, 2)"),
        Bug("masks addresses, not indices",
            ("offsets * stride_z, mask=mask", "offsets * stride_z, mask=offsets * stride_z < n"),
            caught="n=1025,steps=(3, 1, 2)"),
        Bug("stores with the stride of x", ("out_ptr + offsets,", "out_ptr + offsets * stride_x,"),
            caught="n=1025,steps=(3, 1, 2)"),
        Bug("rounds the product to 16 bits",
            ("x * y + z, mask", "(x * y).to(x_ptr.dtype.element_ty).to(tl.float32) + z, mask"),
            caught="n=257,bf16,cancel=True"),
        Bug("adds before it multiplies", ("x * y + z, mask", "x * (y + z), mask"), caught="n=1"),
        Bug("drops the ragged tail", ("triton.cdiv(n, BLOCK)", "max(1, n // BLOCK)"), caught="n=1025"),
        Bug("asks torch to copy x first", ("n, BLOCK = x.numel(), 1024", "x, n, BLOCK = x.clone(), x.numel(), 1024"),
            rung="moves"),
    ],
    variants=[
        Variant("larger blocks", ("n, BLOCK = x.numel(), 1024", "n, BLOCK = x.numel(), 2048")),
        Variant("tl.fma", fill={2: """
            x = tl.load(x_ptr + stride_x * offsets, mask=mask).to(tl.float32)
            y = tl.load(y_ptr + stride_y * offsets, mask=mask).to(tl.float32)
            z = tl.load(z_ptr + stride_z * offsets, mask=mask).to(tl.float32)
            tl.store(out_ptr + offsets, tl.fma(x, y, z).to(out_ptr.dtype.element_ty), mask=mask)
        """}),
        Variant("the pointers walk", fill={1: """
            start = tl.program_id(0).to(tl.int64) * BLOCK
            x_ptr += start * stride_x
            y_ptr += start * stride_y
            z_ptr += start * stride_z
            out_ptr += start
            offsets = tl.arange(0, BLOCK)
            mask = offsets < n - start
        """}),
        Variant("two blocks a program", ("triton.cdiv(n, BLOCK)", "triton.cdiv(n, 2 * BLOCK)"), fill={1: """
            first = tl.program_id(0).to(tl.int64) * (2 * BLOCK)
        """, 2: """
            for k in tl.static_range(2):
                offsets = first + k * BLOCK + tl.arange(0, BLOCK)
                mask = offsets < n
                x = tl.load(x_ptr + offsets * stride_x, mask=mask).to(tl.float32)
                y = tl.load(y_ptr + offsets * stride_y, mask=mask).to(tl.float32)
                z = tl.load(z_ptr + offsets * stride_z, mask=mask).to(tl.float32)
                tl.store(out_ptr + offsets, x * y + z, mask=mask)
        """}),
    ],
)
