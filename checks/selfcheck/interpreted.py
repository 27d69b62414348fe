"""Kernels whose results and traces are known. Run as a program with TRITON_INTERPRET=1, it prints as JSON
what each function of CHECKS returned, or the error that it raised.

A program of its own because the tests' process is on the trusted side and never imports Triton.
"""

import json
import traceback

import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice
from triton.tools.tensor_descriptor import TensorDescriptor
from workbook import repair, trace

ALLOCATIONS = []  # (low, high) of what the trace shall take for one allocation, where that is not the tensor
CHECKS = []

repair.install()
TRACE = trace.install(lambda address: next((a for a in ALLOCATIONS if a[0] <= address < a[1]), None))


def check(function):
    CHECKS.append(function)
    return function


def normal(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def differ(actual, expected) -> int:
    """The number of elements whose bits differ; NaNs are alike."""
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    if not actual.dtype.is_floating_point:
        return int((actual != expected).sum())
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[actual.itemsize]
    same = actual.contiguous().view(bits) == expected.contiguous().view(bits)
    return int((~(same | (actual.float().isnan() & expected.float().isnan()))).sum())


# Repairs


@triton.jit
def bf16_kernel(x_ptr, y_ptr, out_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    x, y = tl.load(x_ptr + at), tl.load(y_ptr + at)
    tl.store(out_ptr + at, x + y)
    tl.store(out_ptr + N + at, x - y)
    tl.store(out_ptr + 2 * N + at, x * y)
    tl.store(out_ptr + 3 * N + at, x / y)
    tl.store(out_ptr + 4 * N + at, tl.where((x > y) & (y <= 0.5), x, y * 3))
    tl.store(out_ptr + 5 * N + at, tl.maximum(tl.abs(x), y))
    tl.store(out_ptr + 6 * N + at, tl.clamp(x, -0.5, 0.5))
    tl.store(out_ptr + 7 * N + at, (x == y).to(tl.bfloat16))
    tl.store(out_ptr + 8 * N + at, tl.full((N,), 1.7, tl.bfloat16) + x)


@check
def bf16_arithmetic():
    x, y = normal(1024, dtype=torch.bfloat16), normal(1024, dtype=torch.bfloat16, seed=1)
    y[::7] = x[::7]
    out = torch.empty(9, 1024, dtype=torch.bfloat16)
    bf16_kernel[(1,)](x, y, out, 1024)
    expected = {
        "add": x + y,
        "subtract": x - y,
        "multiply": x * y,
        "divide": x / y,
        "compare and choose": torch.where((x > y) & (y <= 0.5), x, y * 3),
        "abs and maximum": torch.maximum(x.abs(), y),
        "clamp": x.clamp(-0.5, 0.5),
        "equal": (x == y).to(torch.bfloat16),
        "constant": torch.full_like(x, 1.7) + x,
    }
    return {name: differ(row, value) for row, (name, value) in zip(out, expected.items(), strict=True)}


@triton.jit
def cast_kernel(x_ptr, out_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out_ptr + at, tl.load(x_ptr + at).to(out_ptr.dtype.element_ty))


def cast(x, dtype):
    out = torch.empty(x.shape, dtype=dtype)
    cast_kernel[(1,)](x, out, x.numel())
    return out


@check
def casts():
    x, every = normal(4096) * 100, torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.bfloat16)
    finite = every[every.isfinite() & (every.abs() < 2**31)][: 2**14]
    ties = (torch.arange(1024, dtype=torch.int32) * 2**14 + 2**29).view(torch.float32)
    tiny = torch.arange(4096, dtype=torch.float32) * 2**-20
    return {
        f"{x.dtype} to {dtype}, {name}": differ(cast(x, dtype), x.to(dtype))
        for name, x, dtype in [
            ("normal", x, torch.bfloat16),
            ("ties", ties, torch.bfloat16),
            ("normal", x.half(), torch.bfloat16),
            ("normal", x.double(), torch.bfloat16),
            ("integers", x.int(), torch.bfloat16),
            ("all", every, torch.float32),
            ("finite", finite, torch.int32),
            ("normal", x.bfloat16(), torch.float16),
            ("normal", x.bfloat16(), torch.float64),
            ("normal", x, torch.float8_e4m3fn),
            ("tiny", tiny, torch.float8_e4m3fn),
            ("normal", x, torch.float8_e5m2),
            ("tiny", tiny, torch.float8_e5m2),
            ("normal", x.bfloat16(), torch.float8_e4m3fn),
            ("all", torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn), torch.float32),
            ("all", torch.arange(256, dtype=torch.uint8).view(torch.float8_e5m2), torch.float16),
        ]
    }


@check
def fp8_saturates():
    x = torch.tensor([1e6, -1e6, float("inf"), float("nan")])
    return {str(dtype): str(cast(x, dtype).float().tolist()) for dtype in (torch.float8_e4m3fn, torch.float8_e5m2)}


@triton.jit
def dot_kernel(x_ptr, y_ptr, out_ptr, N: tl.constexpr):
    at = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
    tl.store(out_ptr + at, tl.dot(tl.load(x_ptr + at), tl.load(y_ptr + at)))


@check
def dots():
    differences = {}
    for dtype in (torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2):
        x, y = (normal(32, 32, seed=s).mul(2).round().clamp(-4, 4).to(dtype) for s in (0, 1))
        out = torch.empty(32, 32)
        TRACE.reset()
        dot_kernel[(1,)](x, y, out, 32)
        differences[str(dtype)] = differ(out, x.float() @ y.float())
    return differences | {"flops": TRACE.facts()["flops"]}


@triton.jit
def multiply(a, b):
    return a * b


@triton.jit
def reduce_kernel(x_ptr, out_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    x = tl.load(x_ptr + at)
    tl.store(out_ptr, tl.sum(x))
    tl.store(out_ptr + 1, tl.max(x))
    tl.store(out_ptr + 2, tl.min(x, axis=0))
    tl.store(out_ptr + 3, tl.reduce(x, 0, multiply))
    tl.store(out_ptr + 4, tl.argmax(x, axis=0))
    tl.store(out_ptr + 5 + at, tl.cumsum(x))
    tl.store(out_ptr + 5 + N + at, tl.sort(x))


@check
def bf16_reductions():
    x = torch.tensor([1.0, -2.0, 4.0, 0.5, 1.0, 1.0, -0.25, 2.0], dtype=torch.bfloat16)
    out = torch.empty(21, dtype=torch.bfloat16)
    reduce_kernel[(1,)](x, out, 8)
    scalars = torch.stack([x.sum(), x.max(), x.min(), x.prod(), x.argmax().to(x.dtype)])
    return dict(
        scalars=differ(out[:5], scalars),
        cumsum=differ(out[5:13], x.cumsum(0)),
        sort=differ(out[13:], x.sort().values),
    )


@triton.jit
def operations_kernel(x_ptr, out_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    x = tl.load(x_ptr + at)
    tl.store(out_ptr, tl.sum(x) * tl.max(x) + tl.reduce(x, 0, multiply) + tl.sum(at))
    tl.store(out_ptr + at, tl.fma(x, x, tl.cumsum(tl.exp(x), 0)))


@check
def operations():
    TRACE.reset()
    operations_kernel[(3,)](normal(64), torch.empty(64), 64)
    return TRACE.facts()["elementwise"]


@triton.jit
def fma_and_nan_kernel(x_ptr, out_ptr):
    x, nan = tl.load(x_ptr), tl.load(x_ptr + 1)
    tl.store(out_ptr, tl.fma(x, x, -(x * x)))
    tl.store(out_ptr + 1, tl.maximum(nan, x))
    tl.store(out_ptr + 2, tl.minimum(x, nan))


@check
def fma_rounds_once_and_maximum_ignores_nan():
    x, out = torch.tensor([1 + 2**-12, float("nan")]), torch.empty(3)
    fma_and_nan_kernel[(1,)](x, out)
    return out.tolist()


HALF = tl.constexpr(0.5)


@triton.jit
def constant_kernel(x_ptr, out_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    x = tl.load(x_ptr + at)
    tl.store(out_ptr + at, HALF * x)
    tl.store(out_ptr + N + at, HALF - x)
    tl.store(out_ptr + 2 * N + at, tl.where(x > 0.5, -HALF / x, HALF * 2 + x))


@check
def constants_meet_blocks():
    out = torch.empty(6)
    constant_kernel[(1,)](torch.tensor([0.25, 2.0]), out, 2)
    return out.tolist()


@triton.jit
def atomic_add_kernel(x_ptr, out_ptr, old_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(old_ptr + at, tl.atomic_add(out_ptr + at % 2, tl.load(x_ptr + at), mask=at < N - 1))


@check
def atomic_adds():
    x = torch.tensor([1.0, 2.0, 4.0, 8.0])
    results = {}
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        out, old = torch.full((2,), 0.5, dtype=dtype), torch.zeros(4, dtype=dtype)
        atomic_add_kernel[(1,)](x.to(dtype), out, old, 4)
        results[str(dtype)] = [out.tolist(), old[:3].tolist()]
    return results


@triton.jit
def libdevice_kernel(x_ptr, out_ptr, function: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out_ptr + at, function(tl.load(x_ptr + at)))  # libdevice


LIKE_TORCH = [
    "tanh",
    "erf",
    "rsqrt",
    "exp",
    "exp2",
    "log",
    "log2",
    "log1p",
    "expm1",
    "sin",
    "cos",
    "sqrt",
    "floor",
]


@check
def libdevice_functions():
    x = normal(256).abs() + 1
    differences = {}
    for name in LIKE_TORCH:
        for dtype in (torch.float32, torch.float64):
            out = torch.empty(256, dtype=dtype)
            libdevice_kernel[(1,)](x.to(dtype), out, getattr(libdevice, name), 256)
            differences[f"{name} {dtype}"] = differ(out, getattr(torch, name)(x.to(dtype)))
    return differences


@triton.jit
def libdevice_by_any_name_kernel(x_ptr, out_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    x = tl.load(x_ptr + at)
    tl.store(out_ptr + at, tl.extra.libdevice.tanh(x))
    tl.store(out_ptr + N + at, tl.extra.cuda.libdevice.fast_expf(x))
    tl.store(out_ptr + 2 * N + at, libdevice.pow(x, 2.0))
    tl.store(out_ptr + 3 * N + at, libdevice.fma(x, x, 1.0))
    tl.store(out_ptr + 4 * N + at, libdevice.round(x))
    tl.store(out_ptr + 5 * N + at, libdevice.isnan(x).to(tl.float32))


@check
def libdevice_by_any_name():
    x = torch.tensor([-1.5, 0.49999997, 2.5, float("nan")])
    out = torch.empty(6, 4)
    libdevice_by_any_name_kernel[(1,)](x, out, 4)
    rounded = torch.tensor([-2.0, 0.0, 3.0, float("nan")])
    expected = torch.stack([x.tanh(), x.exp(), x**2, x * x + 1, rounded, x.isnan().float()])
    return differ(out, expected)


@check
def libdevice_of_fp16():
    x = normal(16, dtype=torch.float16)
    libdevice_kernel[(1,)](x, x, libdevice.tanh, 16)


@check
def libdevice_function_that_is_missing():
    libdevice_kernel[(1,)](normal(16), normal(16), libdevice.j0, 16)


@triton.jit
def assert_kernel(x_ptr, N: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, N))
    tl.device_assert(x < 4, "x must be below 4")  # asserts


@check
def device_assert_holds():
    assert_kernel[(1,)](torch.arange(4), 4)


@check
def device_assert_fires():
    assert_kernel[(1,)](torch.arange(8), 8)


@triton.jit
def blank_kernel(x_ptr):
    tl.static_assert(False, "TODO 1.1a, blank 1")  # blank


@check
def static_assert_fires():
    blank_kernel[(1,)](torch.zeros(1))


def later_half(configs, named_args, **kwargs):
    return configs[1:]


CONFIGS = [triton.Config({"BLOCK": block}) for block in (16, 32, 64)]


@triton.autotune(CONFIGS, key=["n"])
@triton.jit
def tuned_kernel(x_ptr, n, BLOCK: tl.constexpr):
    tl.atomic_add(x_ptr, BLOCK)


@triton.autotune(CONFIGS, key=["n"], prune_configs_by={"early_config_prune": later_half})
@triton.jit
def pruned_kernel(x_ptr, n, BLOCK: tl.constexpr):
    tl.atomic_add(x_ptr, BLOCK)


@check
def autotune():
    x = torch.zeros(1, dtype=torch.int32)
    tuned_kernel[lambda meta: (64 // meta["BLOCK"],)](x, 1)
    pruned_kernel[(1,)](x, 1)
    return x.item()


@triton.jit
def control_kernel(out_ptr, n, flag):
    if tl.program_id(0) >= n:
        return
    total = 0
    for i in range(n):
        total += i
    while total > 10:
        total -= 10
    if flag:
        total += 100
    tl.store(out_ptr + tl.program_id(0), total)


@check
def control_flow():
    out = torch.zeros(8, dtype=torch.int32)
    control_kernel[(8,)](out, 6, True)
    return out.tolist()


# Traces


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)  # add loads x
    y = tl.load(y_ptr + offsets, mask=mask)  # add loads y
    tl.store(out_ptr + offsets, x + y, mask=mask)  # add stores


@check
def trace_of_add():
    x, y, out = (torch.zeros(4096)[16:].narrow(0, 0, 1000) for _ in range(3))
    add_kernel[(4,)](x, y, out, 1000, 256)
    return TRACE.facts()


@triton.jit
def helper(pointers, offsets):
    return tl.load(pointers + offsets)  # helper loads


@triton.jit
def patterns_kernel(x_ptr, out_ptr, N: tl.constexpr):
    rows, columns = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    x = tl.load(x_ptr + rows * N + columns)  # tile loads
    tl.store(out_ptr + columns * N + rows, x)  # transposed tile stores
    strided = helper(x_ptr, tl.arange(0, N) * 8)
    same = tl.load(x_ptr + tl.zeros((N,), tl.int32))  # one element
    scalar = tl.load(x_ptr + 3)  # scalar loads
    tl.atomic_add(out_ptr + tl.arange(0, N), strided + same + scalar)  # atomic block
    tl.atomic_cas(out_ptr.to(tl.pointer_type(tl.int32)), 0, 1)  # atomic scalar


@check
def trace_of_patterns():
    x, out = (torch.zeros(32 * 32 + 16) for _ in range(2))
    x, out = (t[-t.data_ptr() // 4 % 8 :] for t in (x, out))
    patterns_kernel[(1,)](x, out, 32)
    return TRACE.facts()


@triton.jit
def descriptor_kernel(x_ptr, out, M, N, BLOCK: tl.constexpr):
    x = tl.make_tensor_descriptor(x_ptr, shape=[M, N], strides=[N, 1], block_shape=[BLOCK, BLOCK])
    row, column = tl.program_id(0) * BLOCK, tl.program_id(1) * BLOCK
    tile = x.load([row, column])  # descriptor loads
    out.store([row, column], tile)  # descriptor stores


@check
def trace_of_descriptors():
    x, out = normal(40, 24), torch.zeros(40, 24)
    descriptor = TensorDescriptor.from_tensor(out, [16, 16])
    descriptor_kernel[(3, 2)](x, descriptor, 40, 24, 16)
    return TRACE.facts() | {"difference": differ(out, x)}


@check
def descriptor_past_its_tensor():
    x, out = normal(40, 24), torch.zeros(48, 24)
    descriptor_kernel[(3, 2)](x, TensorDescriptor.from_tensor(out, [16, 16]), 48, 24, 16)


@triton.jit
def gather_kernel(x, out_ptr, rows_ptr):
    rows = tl.load(rows_ptr + tl.arange(0, 8))
    tile = x.gather(rows, 0)  # gathers
    at = tl.arange(0, 8)[:, None] * 16 + tl.arange(0, 16)[None, :]
    tl.store(out_ptr + at, tile)


@check
def trace_of_gather():
    x, out, rows = (
        normal(32, 16),
        torch.zeros(8, 16),
        torch.tensor([3, 1, 31, 0, 5, 5, 9, 2], dtype=torch.int32),
    )
    gather_kernel[(1,)](TensorDescriptor.from_tensor(x, [1, 16]), out, rows)
    return TRACE.facts() | {"difference": differ(out, x[rows])}


@triton.jit
def unmasked_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets))  # unmasked


@check
def load_past_the_end():
    unmasked_kernel[(4,)](torch.zeros(4000), torch.zeros(4096), 1024)


@check
def store_past_the_end_of_a_part():
    whole = torch.zeros(4096)
    try:
        unmasked_kernel[(4,)](torch.ones(4096), whole[:4000], 1024)
    except Exception as error:
        return dict(message=str(error.__cause__), after=whole[4000:].sum().item(), before=whole[:3072].sum().item())


@check
def load_into_a_neighbour():
    x, out = torch.zeros(1536).split([512, 1024])
    unmasked_kernel[(2,)](x, out, 512)


@triton.jit
def before_kernel(x_ptr, BLOCK: tl.constexpr):
    rows, columns = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    tl.store(x_ptr + rows * BLOCK + columns - 1, 1.0, mask=columns > rows - 1)  # one before


@check
def store_before_the_begin():
    before_kernel[(1,)](torch.zeros(64), 8)


@triton.jit
def scalar_kernel(x_ptr, n):
    tl.atomic_add(x_ptr + n, 1)  # scalar atomic


@check
def scalar_atomic_past_the_end():
    scalar_kernel[(1, 2)](torch.zeros(5, dtype=torch.int32), 5)


@check
def an_allocation_is_larger_than_its_view():
    whole = torch.zeros(4096)
    ALLOCATIONS.append((whole.data_ptr(), whole.data_ptr() + whole.nbytes))
    unmasked_kernel[(4,)](whole[1:4001], torch.zeros(4096), 1024)


@triton.jit
def table_kernel(table_ptr, out_ptr, BLOCK: tl.constexpr):
    x_ptr = tl.load(table_ptr + tl.program_id(0)).to(tl.pointer_type(tl.float32))
    at = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at)  # through a table
    tl.store(out_ptr + tl.program_id(0) * BLOCK + at, x)


@check
def trace_of_a_pointer_table():
    parts = [normal(64, seed=s) for s in range(2)]
    ALLOCATIONS.extend((p.data_ptr(), p.data_ptr() + p.nbytes) for p in parts)
    table, out = torch.tensor([p.data_ptr() for p in parts]), torch.zeros(2, 64)
    table_kernel[(2,)](table, out, 64)
    lines = {line["arg"]: line["bytes"] for line in TRACE.facts()["lines"]}
    return lines | {"difference": differ(out, torch.stack(parts))}


@triton.jit
def choose_kernel(x_ptr, y_ptr, out_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    pointers = tl.where(at < 4, x_ptr + at, y_ptr + at)
    tl.store(out_ptr + at, tl.load(pointers))  # chosen


@check
def trace_of_chosen_pointers():
    x, y, out = torch.zeros(4), torch.ones(16), torch.zeros(16)
    choose_kernel[(1,)](x, y, out, 16)
    return {line["arg"]: line["bytes"] for line in TRACE.facts()["lines"]} | {"sum": out.sum().item()}


@triton.jit
def same_place_kernel(out_ptr, value, step):
    tl.store(out_ptr, value + step * tl.program_id(0))  # same place


@check
def race_of_two_stores():
    same_place_kernel[(3,)](torch.zeros(1), 1.0, 2.0)
    return TRACE.facts()["findings"]


@check
def stores_of_one_value():
    same_place_kernel[(3,)](torch.zeros(1), 1.0, 0.0)
    return TRACE.facts()["findings"]


@triton.jit
def shift_kernel(x_ptr, out_ptr, n, shift, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = (offsets < n) & (offsets + shift >= 0) & (offsets + shift < n)
    x = tl.load(x_ptr + offsets, mask=inside)  # shift loads
    tl.store(out_ptr + offsets + shift, x, mask=inside)  # shift stores


@check
def races_in_place():
    findings = []
    for shift in (1, -1, 0):
        TRACE.reset()
        x = torch.zeros(1024)
        shift_kernel[(4,)](x, x, 1024, shift, 256)
        findings.append([f["message"] for f in TRACE.facts()["findings"]])
    return findings


@triton.jit
def tile_race_kernel(x_ptr, BLOCK: tl.constexpr):
    rows = tl.program_id(0) * (BLOCK - 1) + tl.arange(0, BLOCK)[:, None]
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    value = tl.zeros((BLOCK, BLOCK), tl.int32) + tl.program_id(0)
    tl.store(x_ptr + rows * 64 + columns, value)  # tiles overlap


@check
def race_of_two_tiles():
    tile_race_kernel[(2, 2)](torch.zeros(64, 64, dtype=torch.int32), 16)
    return TRACE.facts()["findings"]


@triton.jit
def lock_kernel(lock_ptr, sum_ptr):
    while tl.atomic_cas(lock_ptr, 0, 1) == 1:
        pass
    tl.store(sum_ptr, tl.load(sum_ptr) + tl.program_id(0))
    tl.atomic_xchg(lock_ptr, 0)


@check
def a_lock_orders_programs():
    lock, total = torch.zeros(1, dtype=torch.int32), torch.zeros(1)
    lock_kernel[(4,)](lock, total)
    return dict(total=total.item(), findings=TRACE.facts()["findings"])


def describe(error: BaseException) -> dict:
    """The innermost cause, and the line of this file that it came from."""
    lines = []
    while True:
        lines += [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
        if error.__cause__ is None:
            return dict(type=type(error).__name__, message=str(error), line=lines[-1], launching=TRACE.launching)
        error = error.__cause__


def outcome(function):
    ALLOCATIONS.clear()
    TRACE.reset()
    try:
        return function()
    except Exception as error:
        return describe(error)


if __name__ == "__main__":
    print(json.dumps({function.__name__: outcome(function) for function in CHECKS}))
