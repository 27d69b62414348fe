import torch
from workbook.exercise import Bug, Exercise, Moves, Speed, Variant, by_rows, case, normal

METHOD = {"sum": "sum", "max": "amax", "min": "amin"}


def inputs(m, n, op="sum", dim=1, dtype=torch.float32, apart=0, values="near one"):
    """apart: elements between a row's end and the next row."""
    x = normal(m, n + apart, dtype=dtype, mean=1.0)[:, :n]  # a mean, for a sum that cancels has no right digits
    if values == "of one sign":
        x = (x.abs() + 1) * (-1 if op == "max" else 1)
    elif values == "nan":
        x[0, n // 2] = torch.nan
        x[-1, -1] = torch.nan
    elif values == "inf":
        x[0, 0], x[1, n // 2], x[2, -1] = torch.inf, -torch.inf, torch.inf
        x[2, 0] = -torch.inf
    elif values == "halves cancel":  # each half passes the largest fp16
        x[:], x[:, n // 2 :] = 64, -64
    return x, op, dim


def reference(x, op, dim):
    return getattr(x, METHOD[op])((0, 1) if dim is None else dim)


def gems(x, op, dim):
    import flag_gems

    return flag_gems.sum(x) if dim is None else flag_gems.sum_dim(x, [dim])


def one_read(x, op, dim):
    return x.nbytes + (1 if dim is None else x.shape[0]) * x.itemsize


def one_an_element(x, op, dim):
    return x.numel()


peers = {"torch": reference, "torch.compile": reference, "flag_gems": gems}

exercise = Exercise(
    entry="reduce",
    inputs=inputs,
    reference=reference,
    deterministic=True,
    cases=[
        case(m=3, n=4097), case(m=3, n=4097, op="max"), case(m=3, n=4097, op="min"),
        case(m=1, n=1), case(m=2, n=1, op="max"), case(m=0, n=5), case(m=2, n=4095), case(m=2, n=4096, op="min"),
        case(m=3, n=8191, dtype=torch.float16), case(m=3, n=4999, op="max", dtype=torch.bfloat16),
        case(m=2, n=8192, dtype=torch.bfloat16), case(m=2, n=130, op="min", dtype=torch.float16),
        case(m=5, n=300, op="sum", apart=7),
        case(m=2, n=5000, op="max", values="of one sign"), case(m=2, n=5000, op="min", values="of one sign"),
        case(m=3, n=5000, op="sum", values="nan"), case(m=3, n=5000, op="max", values="nan"),
        case(m=3, n=5000, op="min", values="nan"),
        case(m=3, n=5000, op="sum", values="inf"), case(m=3, n=5000, op="min", values="inf"),
        case(m=1, n=1, op="sum", dim=None), case(m=1, n=4096, op="max", dim=None),
        case(m=3, n=1366, op="min", dim=None),
        case(m=7, n=4999, op="sum", dim=None), case(m=3, n=4999, op="max", dim=None, values="nan"),
        case(m=1, n=8192, op="sum", dim=None, dtype=torch.float16, values="halves cancel"),
        case(m=2**16, n=2**15 + 1, dtype=torch.bfloat16, needs_gb=40, slices=by_rows(2**11)),
        case(m=1, n=2**31 + 1, op="sum", dim=None, dtype=torch.bfloat16, needs_gb=60),
    ],
    moves=[Moves(case(m=4, n=2**13), bytes=one_read)],
    speed=[
        Speed(case(m=2**14, n=2**13), bytes=one_read, flops=one_an_element, target=0.90, peers=peers),
        Speed(case(m=2**14, n=2**13, op="sum", dim=None),
            bytes=one_read, flops=one_an_element, target=0.88, peers=peers),
    ],
    bugs=[
        Bug("one element a step", ("    BLOCK = 4096\n", "    BLOCK = 32\n"), rung="fast"),
        Bug("one program for the whole tensor", ("min(4096, triton.cdiv(m * n, BLOCK))", "1"), rung="fast"),
        Bug("only the first chunk of a row",
            ("n, parts * BLOCK):", "tl.minimum(n, BLOCK), parts * BLOCK):"), caught="m=3,n=4097"),
        Bug("pads with zeros",
            ("mask=columns < n, other=IDENTITY)", "mask=columns < n, other=0.0)"),
            caught="m=2,n=5000,op=max,values=of one sign"),
        Bug("max lets a NaN go",
            ("tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)", "tl.maximum(a, b)"),
            caught="m=3,n=5000,op=max,values=nan"),
        Bug("min by tl.min, which lets a NaN go",
            ("tl.reduce(acc, 0, smaller)", "tl.min(acc, 0)"), caught="m=3,n=5000,op=min,values=nan"),
        Bug("takes the rows to be adjacent", ("out, n, x.stride(0),", "out, n, n,"), caught="m=5,n=300,op=sum,apart=7"),
        Bug("partial results in x's dtype",
            ("torch.empty(parts, dtype=torch.float32", "torch.empty(parts, dtype=x.dtype"),
            caught="m=1,n=8192,op=sum,dim=None,fp16,values=halves cancel"),
        Bug("adds in x's dtype",
            ("tl.full((BLOCK,), IDENTITY, tl.float32)", "tl.full((BLOCK,), IDENTITY, x_ptr.dtype.element_ty)"),
            ("other=IDENTITY).to(tl.float32)", "other=IDENTITY)"),
            caught="m=1,n=8192,op=sum,dim=None,fp16,values=halves cancel"),
        Bug("stage two reads one partial result",
            ("(partial, out, parts, 0,", "(partial, out, 1, 0,"), caught="m=7,n=4999,op=sum,dim=None"),
        Bug("min and max swapped",
            ('elif OP == "max":\n            acc', 'elif OP == "min":\n            acc'), caught="m=3,n=4097,op=max"),
    ],
    variants=[
        Variant("smaller blocks", ("    BLOCK = 4096\n", "    BLOCK = 1024\n")),
        Variant("lanes past the end keep what they have", fill={1: """
            columns = start + tl.arange(0, BLOCK)
            inside = columns < n
            x = tl.load(x_ptr + row * stride_row + columns, mask=inside).to(tl.float32)
            if OP == "sum":
                acc = tl.where(inside, acc + x, acc)
            elif OP == "max":  # nothing is larger than a NaN: one that is in acc stays there
                acc = tl.where(inside & ((x > acc) | (x != x)), x, acc)
            else:
                acc = tl.where(inside & ((x < acc) | (x != x)), x, acc)
        """}),
        Variant("a NaN is looked for apart", fill={2: """
            if OP == "sum":
                out = tl.sum(acc)
            else:
                best = tl.max(acc) if OP == "max" else tl.min(acc)
                out = tl.where(tl.max((acc != acc).to(tl.int32)) == 1, float("nan"), best)
        """}),
        Variant("stage one reduces rows", fill={3: """
            partial = torch.empty(m, dtype=torch.float32, device=x.device)
            reduce_kernel[(m, 1)](x, partial, n, n, **settings)
            reduce_kernel[(1, 1)](partial, out, m, 0, **settings)
        """}),
    ],
)
