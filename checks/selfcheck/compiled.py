"""Kernels whose compilation is known. Run as a program, it prints as JSON what each of them compiles to.

A program of its own because the tests' process is on the trusted side and never imports Triton.
"""

import json

import torch
import triton
import triton.language as tl
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.tools.tensor_descriptor import TensorDescriptor
from workbook import codegen, ptx


def empty(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


@triton.jit
def load(ptr, offsets, mask):
    return tl.load(ptr + offsets, mask=mask)  # x is loaded


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, stride, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = load(x_ptr, offsets * stride, mask)
    tl.store(out_ptr + offsets, x + tl.load(y_ptr + offsets, mask=mask), mask=mask)  # y is loaded


def launch_add(x, n, stride):
    def grid(meta):
        return (triton.cdiv(meta["n"], meta["BLOCK"]),)

    add_kernel[grid](x, y_ptr=empty(n), out_ptr=empty(n), n=n, stride=stride, BLOCK=1024)


def aligned():
    launch_add(empty(4096), 4096, 1)


def shifted():
    launch_add(empty(4097)[1:], 4096, 1)


def strided():
    launch_add(empty(3 * 4096), 4096, 3)


@triton.jit
def matmul_kernel(a_ptr, b_ptr, c_ptr, K, TILE: tl.constexpr):
    rows, cols, ks = tl.arange(0, TILE), tl.arange(0, TILE), tl.arange(0, 64)
    acc = tl.zeros((TILE, TILE), tl.float32)
    for k in range(0, K, 64):
        a = tl.load(a_ptr + rows[:, None] * K + k + ks)
        b = tl.load(b_ptr + (k + ks[:, None]) * TILE + cols)
        acc = tl.dot(a, b, acc)
    tl.store(c_ptr + rows[:, None] * TILE + cols, acc.to(tl.float16))


def launch_matmul(kernel, **meta):
    a, b, c = (empty(128, 128, dtype=torch.float16) for _ in range(3))
    kernel[lambda meta: (128 // meta["TILE"], 1)](a, b, c, 128, **meta)


def matmul():
    launch_matmul(matmul_kernel, TILE=128, num_stages=3)


def deep():
    launch_matmul(matmul_kernel, TILE=128, num_stages=5)


def spilling():
    launch_matmul(matmul_kernel, TILE=128, num_stages=1, maxnreg=64)


CONFIGS = [triton.Config({"TILE": 128}, num_stages=5), triton.Config({"TILE": 64}, num_stages=2)]
tuned_kernel = triton.autotune(CONFIGS, key=["K"])(matmul_kernel)


def tuned():
    launch_matmul(tuned_kernel)


@triton.heuristics({"BLOCK": lambda args: triton.next_power_of_2(args["n"])})
@triton.jit
def fill_kernel(out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, 0.0, mask=offsets < n)


def persistent():
    device = empty(1).device
    with torch.cuda.device(device):
        programs = torch.cuda.get_device_properties(device).multi_processor_count
        fill_kernel[(programs, *torch.cuda.get_device_capability())](empty(100), 100)


def fractional():
    fill_kernel[(100 / 64,)](empty(100), 100)


@triton.jit
def copy_kernel(source, target, ROWS: tl.constexpr):
    row = tl.program_id(0) * ROWS
    target.store([row, 0], source.load([row, 0]))  # TMA copies


def descriptors():
    tiles = (TensorDescriptor.from_tensor(empty(128, 64), [32, 64]) for _ in range(2))
    copy_kernel[(4,)](*tiles, ROWS=32)


@triton.jit
def specialised_kernel(a_ptr, b_ptr, out_ptr, k, TILE: tl.constexpr):
    a_tiles = tl.make_tensor_descriptor(a_ptr, [TILE, k], [k, 1], [TILE, 64])
    b_tiles = tl.make_tensor_descriptor(b_ptr, [k, TILE], [TILE, 1], [64, TILE])
    acc = tl.zeros((TILE, TILE), tl.float32)
    for start in tl.range(0, k, 64, warp_specialize=True):
        acc = tl.dot(a_tiles.load([0, start]), b_tiles.load([start, 0]), acc)
    tl.make_tensor_descriptor(out_ptr, [TILE, TILE], [TILE, 1], [TILE, TILE]).store([0, 0], acc.to(tl.float16))


def specialised():
    a, b, out = (empty(*shape, dtype=torch.float16) for shape in ((128, 4096), (4096, 128), (128, 128)))
    specialised_kernel[(1,)](a, b, out, 4096, TILE=128, num_warps=4)


@gluon.jit
def gluon_kernel(x_ptr, out_ptr, BLOCK: gl.constexpr):
    layout: gl.constexpr = gl.BlockedLayout([4], [32], [4], [0])
    offsets = gl.arange(0, BLOCK, layout=layout)
    gl.store(out_ptr + offsets, gl.load(x_ptr + offsets))


def in_gluon():
    gluon_kernel[(1,)](empty(1024), empty(1024), 1024, num_warps=4)


@triton.jit
def broken_helper(x):
    return tl.sum(x) + tl.zeros((3,), tl.float32)  # not a power of two


@triton.jit
def broken_kernel(x_ptr):
    tl.store(x_ptr, broken_helper(tl.load(x_ptr + tl.arange(0, 16))))


def broken():
    broken_kernel[(1,)](empty(16))


# As newer compilers print it: every line of inline assembly numbered, and a library's function inlined.
LISTING = """
	.loc	1 12 25                         // k.py:12:25
	// begin inline asm
	.loc	1 13 25                         // k.py:13:25
	@%p1 ld.global.L1::evict_last.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ];
	// end inline asm
	.loc	2 293 36                        // standard.py:293:36 @[ k.py:20:15 ]
	@%p1 atom.global.gpu.acq_rel.add.noftz.bf16x2 %r5, [ %rd1 + 0 ], %r6;
	.loc	1 0 15                          // k.py:0:15
	cp.async.ca.shared.global [ %r7 + 0 ], [ %rd2 + 0 ], 0x4, %r8;
	cp.async.commit_group;
	st.shared.v2.b32 [ %r7 + 0 ], { %r5, %r6 };
	.file	1 "/learner/k.py"
"""


def outcome(host, arch) -> list | dict:
    """The facts of every launch of `host`, or the chain of causes of its error."""
    try:
        with codegen.capture(arch) as launches:
            host()
    except Exception as error:
        chain = []
        while error:
            chain.append([type(error).__name__, str(error)])
            error = error.__cause__
        return chain
    return [{**codegen.facts(launch), "asked": codegen.options(launch)["num_warps"]} for launch in launches]


if __name__ == "__main__":
    before = torch.cuda.get_device_properties, triton.runtime.driver._active
    facts = {
        host.__name__: {arch: outcome(host, arch) for arch in arches}
        for host, arches in {
            aligned: (80, 90),
            shifted: (80, 90),
            strided: (80,),
            matmul: (80, 86, 89, 90),
            deep: (80, 86),
            spilling: (80,),
            tuned: (80, 86, 80),
            persistent: (80, 90),
            fractional: (80,),
            descriptors: (90,),
            specialised: (90,),
            in_gluon: (80, 90),
            broken: (80,),
        }.items()
    }
    after = torch.cuda.get_device_properties, triton.runtime.driver._active
    print(json.dumps({**facts, "restored": before == after, "listing": ptx.read(LISTING)}))
