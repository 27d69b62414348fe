from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, case, normal


def two_vectors(x):
    return 2 * x.nbytes


exercise = Exercise(
    entry="int4_matmul",
    inputs=lambda n: (normal(n),),
    reference=lambda x: 2 * x,
    cases=[case(n=1025), case(n=1), case(n=0), case(n=1023), case(n=1024), case(n=8191)],
    moves=[Moves(case(n=2**16), bytes=two_vectors)],
    speed=[Speed(case(n=2**27), bytes=two_vectors, target=0.90, peers={"torch": lambda x: 2 * x})],
    bugs=[
        Bug("drops the ragged tail", ("triton.cdiv(n, BLOCK)", "max(1, n // BLOCK)"), caught="n=1025"),
        Bug("mask one too wide", ("mask = offsets < n", "mask = offsets <= n"), caught="n=1023"),
        Bug("every program takes the first block", ("tl.program_id(0).to(tl.int64) * BLOCK", "0"), caught="n=1025"),
        Bug("asks torch to copy x first", ("    out =", "    x = x.clone()\n    out ="), rung="moves"),
    ],
    variants=[
        Variant("larger blocks", ("n, BLOCK = x.numel(), 1024", "n, BLOCK = x.numel(), 4096")),
        Variant("adds instead", fill={1: """
            x = tl.load(x_ptr + offsets, mask=mask, other=0.0)
            tl.store(out_ptr + offsets, x + x, mask=mask)
        """}),
    ],
)
