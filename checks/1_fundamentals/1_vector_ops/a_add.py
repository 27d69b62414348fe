import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal


def three_vectors(x, y):
    return 3 * x.nbytes


exercise = Exercise(
    entry="add",
    outputs=("sum",),
    inputs=lambda n, dtype=torch.float32: (normal(n, dtype=dtype), normal(n, dtype=dtype)),
    reference=lambda x, y: x + y,
    cases=[
        case(n=1025), case(n=1), case(n=0), case(n=1023), case(n=1024), case(n=8191),
        case(n=3001, dtype=torch.float16), case(n=4096, dtype=torch.bfloat16),
        case(n=2**31 + 1, dtype=torch.float16, needs_gb=40, slices=by_rows(2**27)),
    ],
    moves=[Moves(case(n=2**16), bytes=three_vectors)],
    speed=[
        Speed(case(n=2**27),
            bytes=three_vectors, flops=lambda x, y: x.numel(), target=0.90, peers={"torch": torch.add}),
    ],
    bugs=[
        Bug("drops the ragged tail", ("triton.cdiv(n, BLOCK)", "max(1, n // BLOCK)"), caught="n=1025"),
        Bug("no mask", ("mask = offsets < n", "mask = offsets < offsets + 1"), caught="n=1"),
        Bug("mask one too wide", ("mask = offsets < n", "mask = offsets <= n"), caught="n=1023"),
        Bug("every program takes the first block", ("tl.program_id(0).to(tl.int64) * BLOCK", "0"), caught="n=1025"),
        Bug("stores into x", ("tl.store(out_ptr + offsets", "tl.store(x_ptr + offsets"), caught="n=1"),
        Bug("subtracts", ("x + y, mask", "x - y, mask"), caught="n=1"),
        Bug("blocks of 32: too little to do", ("n, BLOCK = x.numel(), 1024", "n, BLOCK = x.numel(), 32"), rung="fast"),
        Bug("asks torch to copy x first",
            ("    out = torch.empty_like(x)", "    x, out = x.clone(), torch.empty_like(x)"), rung="moves"),
    ],
    variants=[
        Variant("larger blocks", ("n, BLOCK = x.numel(), 1024", "n, BLOCK = x.numel(), 4096")),
        Variant("the mask is written out at each access", fill={1: """
            x = tl.load(x_ptr + offsets, mask=offsets < n, other=0.0)
            y = tl.load(y_ptr + offsets, mask=offsets < n, other=0.0)
            tl.store(out_ptr + offsets, x + y, mask=offsets < n)
        """}),
        Variant("rounds up by hand", fill={2: "grid = ((n + BLOCK - 1) // BLOCK, 1, 1)"}),
        Variant("the last block overlaps the one before", fill={1: """
            offsets = tl.minimum(start, tl.maximum(n - BLOCK, 0)) + tl.arange(0, BLOCK)
            mask = offsets < n
            tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask) + tl.load(y_ptr + offsets, mask), mask)
        """}),
    ],
)
