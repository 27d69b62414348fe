"""A part whose entry is an operator of torch.library: what it calls is seen, and torch.compile takes it whole."""

import pytest
import torch
from workbook import buffers
from workbook.catalog import Part
from workbook.exercise import Entry, Exercise, Moves, case, gradients, normal
from workbook.grader import GRAPH

SOURCE = '''"""Square."""

import torch
import triton
import triton.language as tl
from torch.library import triton_op, wrap_triton


@triton.jit
def product_kernel(x_ptr, y_ptr, out_ptr, n, FACTOR: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n)
    y = tl.load(y_ptr + offsets, mask=offsets < n)
    tl.store(out_ptr + offsets, FACTOR * x * y, mask=offsets < n)


@triton_op("selfcheck::product", mutates_args=())
def product(x: torch.Tensor, y: torch.Tensor, factor: int) -> torch.Tensor:
    out = torch.empty_like(x)
    grid = (triton.cdiv(x.numel(), 1024),)
    wrap_triton(product_kernel)[grid](x, y, out, x.numel(), FACTOR=factor, BLOCK=1024)
    return out


@triton_op("selfcheck::square", mutates_args=())
def square(x: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(x)
    wrap_triton(product_kernel)[(triton.cdiv(x.numel(), 1024),)](x, x, out, x.numel(), FACTOR=1, BLOCK=1024)
    return out


def backward(ctx, dy):
    return product(dy, *ctx.saved_tensors, 2)


square.register_autograd(backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))


def gradient_of_square(dy, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(square(x), x, dy)
'''
G = "gradient_of_square"
PART = Part("3_fusion/9_operators/a_square.py")
PART.__dict__["exercise"] = Exercise(
    entry="square",
    inputs=lambda n: [normal(n)],
    reference=lambda x: x * x,
    also={
        G: Entry(
            inputs=lambda n: [normal(n), normal(n)],
            reference=lambda dy, x: gradients(lambda x: x * x, [x], dy),
            outputs=("dx",),
        )
    },
    cases=[case(n=7), case(n=2000), case(entry=G, n=2000)],
    graph=case(n=2000),
    moves=[
        Moves(case(n=4096), bytes=lambda x: 3 * x.nbytes),  # which it loads twice
        Moves(case(entry=G, n=4096), bytes=lambda dy, x: 6 * x.nbytes, launches=2, memory=lambda dy, x: x.nbytes),
    ],
)


def verdicts(grade, *edits, named=()):
    """The verdict of each check, or of those `named`, on the source with some text exchanged."""
    source = SOURCE
    for old, new in edits:
        assert source.count(old) == 1
        source = source.replace(old, new)
    checks = grade(PART, source).checks()
    return {check.name: check.run() for check in checks if not named or check.name in named}


def test_all_pass(grade):
    found = verdicts(grade)
    assert {name for name, v in found.items() if v.status != "pass"} == set(), found
    assert {GRAPH, "compiles sm_80", f"moves {G},n=4096"} < set(found)
    assert found[f"moves {G},n=4096"].facts["figures"]["launches"] == 2


def test_a_bug_behind_an_operator_is_traced(grade):
    edit = ("FACTOR * x * y, mask=offsets < n", "FACTOR * x * y")
    found = verdicts(grade, edit, named=("correct n=7", f"correct {G},n=2000"))
    assert [v.message.startswith("out-of-bounds store, line 14: program") for v in found.values()] == [True, True]


def test_what_an_operator_allocates_is_counted(grade):
    edit = ("    out = torch.empty_like(x)\n    grid", "    out = torch.empty_like(x.double().float())\n    grid")
    (found,) = verdicts(grade, edit, named=[f"moves {G},n=4096"]).values()
    assert found.message.count("torch's _to_copy moves") == 2


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            ("wrap_triton(product_kernel)[(triton.", "product_kernel[(triton."),
            "a kernel is launched while torch.compile traces: launch it by `wrap_triton(kernel)[grid](...)`",
        ),
        (("square.register_autograd(", "(lambda *_, **more: None)("), "no autograd formula was registered"),
        (
            ("return product(dy, *ctx.saved_tensors, 2)", "return 2 * dy * ctx.saved_tensors[0]"),
            "the graph that torch.compile makes has no kernel of the backward",
        ),
        (
            ('@triton_op("selfcheck::square", mutates_args=())', '@torch.library.custom_op("a::b", mutates_args=())'),
            "a::b",
        ),
    ],
)
def test_what_torch_compile_does_not_take(grade, edit, words):
    found = verdicts(grade, edit, named=("correct n=7", GRAPH))
    assert found["correct n=7"].status == "pass"
    assert found[GRAPH].status == "fail" and words in found[GRAPH].message


def test_torch_compile_compiles_in_a_graded_call():
    seen = []

    def backend(graph, _inputs):
        seen.append(graph)
        return graph.forward

    arena = torch.zeros(1 << 20, dtype=torch.uint8)
    with buffers.Heap(arena, 0, 1 << 20):
        torch.compile(lambda x: 2 * x, fullgraph=True, backend=backend)(torch.ones(3))
    assert len(seen) == 1
