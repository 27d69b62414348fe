"""The grader believes its own buffers, not the worker: lies, stray stores, a server that dies."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from workbook import buffers, call, catalog, moves, schedule, stub, warm
from workbook.exercise import Moves, case

PART = catalog.select("1.1a")[0]
SOURCE = PART.file(catalog.SOLUTIONS).read_text()
LIE = """
import workbook.worker
honest = workbook.worker.called
def called(kit, entry, request):
    answer = honest(kit, entry, request)
    {lie}
    return answer
workbook.worker.called = called
"""


def verdict(grade, source, case_id="n=1025"):
    return grade(PART, source).correct(PART.exercise.find(case_id))


@pytest.mark.parametrize(
    "lie",
    [
        'answer["results"][0]["offset"] = 2**40',
        'answer["results"][0]["offset"] = -4',
        'answer["results"][0]["dtype"] = "Tensor"',
        'answer["results"][0]["shape"] = [2**60]',
        'answer["results"] = "all right"',
        'answer["results"] = [None]',
        'del answer["results"]',
        'answer["taken"] = [[0, 2**26]]',  # would excuse stores anywhere
        'answer["taken"] = [["0", None]]',
        "answer = 7",
        'answer = {"done": "passed"}',
    ],
)
def test_a_lying_worker_fails(grade, lie):
    assert verdict(grade, LIE.replace("{lie}", lie) + SOURCE).status == "fail"


def test_the_input_is_no_result(grade):
    said = verdict(grade, SOURCE.replace("    return out", "    return x"))
    assert said.message == "sum lies in the memory of the input x, it is no new tensor"


def test_the_answer_of_an_earlier_call_is_of_no_use(grade):
    source = SOURCE.replace(
        "    return out", "    kept.append(out.clone())\n    return kept[0] if n == len(kept[0]) else out"
    )
    said = verdict(grade, "kept = []\n" + source)
    assert "sum" in said.message and said.status == "fail"
    assert verdict(grade, "kept = []\n" + source, "n=1023").status == "pass"  # one call, of which it is the answer


def test_a_store_behind_the_traces_back_is_seen(grade):
    source = SOURCE.replace(
        "    return out", "    import ctypes\n    ctypes.memset(out.data_ptr() + 4 * n, 1, 8)\n    return out"
    )
    assert verdict(grade, source).message == (
        "stores out of bounds, 0 bytes past the end of what the function allocated: "
        "a store without a mask, or a mask that is too wide"
    )


def test_stray_names_what_was_overrun():
    x = {"offset": 1000, "shape": [10], "stride": [1], "dtype": "float32"}
    assert call.stray(1008, [("x", x)], []) == "changes its input x, first at element 2 of its memory"
    assert "stores out of bounds, 0 bytes past the end of its input x" in call.stray(1040, [("x", x)], [])
    assert "stores out of bounds, 6 bytes past the end of what the function allocated" in call.stray(
        2046, [("x", x)], [(2000, 40)]
    )
    assert "before its first tensor" in call.stray(0, [("x", x)], [])


def test_a_dead_server_is_replaced(grade):
    assert verdict(grade, SOURCE).status == "pass"
    os.killpg(warm._server[1].pid, signal.SIGKILL)
    warm._server[1].wait()
    assert verdict(grade, SOURCE).status == "pass"


def test_view_stays_in_the_arena():
    arena = torch.zeros(1024, dtype=torch.uint8)
    inside = {"offset": 1000, "shape": [3, 2], "stride": [2, 1], "dtype": "float32"}
    assert buffers.view(arena, inside).shape == (3, 2)
    for change in ({"offset": 1001}, {"offset": 1004}, {"offset": -8}, {"stride": [1000, 1]}):
        with pytest.raises((ValueError, RuntimeError)):
            buffers.view(arena, inside | change)


def test_expanded_inputs_are_stored_once():
    arena = torch.zeros(1 << 17, dtype=torch.uint8)
    x = torch.arange(4.0)[:, None].expand(4, 3)
    (d,) = buffers.Layout().place([x])
    buffers.write(arena, [x], [d])
    assert torch.equal(buffers.view(arena, d), x)
    assert buffers.nbytes(d) == 16


def test_a_view_keeps_its_alignment():
    """Where an input begins decides between paths of a kernel: two bytes past a multiple of 16 stay two bytes past."""
    x = torch.arange(40, dtype=torch.bfloat16)
    arena = torch.zeros(1 << 17, dtype=torch.uint8)
    views = [x, x[1:], x[8:].view(4, 8)]
    described = buffers.Layout().place(views)
    assert [d["offset"] % buffers.ALIGN for d in described] == [0, 2, 16]
    buffers.write(arena, views, described)
    assert all(torch.equal(buffers.view(arena, d), t) for t, d in zip(views, described, strict=True))


def test_heap_serves_and_counts():
    arena = torch.zeros(1 << 18, dtype=torch.uint8)
    with buffers.Heap(arena, 0, len(arena)) as heap:
        inside = [torch.empty(5), torch.zeros(2, 3), torch.full_like(torch.empty(4), 7.0), torch.empty(3).new_ones(2)]
        outside = torch.empty(5) + 1
    assert all(arena.data_ptr() <= t.data_ptr() < arena.data_ptr() + len(arena) for t in inside)
    assert [t.sum().item() for t in inside[1:]] == [0, 28, 2]
    assert not arena.data_ptr() <= outside.data_ptr() < arena.data_ptr() + len(arena)
    assert [op["name"] for op in heap.operations] == ["zeros", "full_like", "new_ones", "add"]
    assert heap.elsewhere == outside.nbytes


def test_what_moves_says():
    line = {
        "kernel": "k",
        "line": 7,
        "kind": "load",
        "arg": "x_ptr",
        "bytes": 4096,
        "useful": 4096,
        "sectors": 1024,
        "times": 1,
    }
    answer = {
        "facts": {"lines": [line], "launches": [{"kernel": "k"}]},
        "operations": [{"name": "clone", "bytes": 2048}],
        "taken": [(0, 100)],
        "elsewhere": 28,
    }
    asked = Moves(case(n=1), bytes=lambda x: 4096)
    complaints, figures = moves.judge(asked, [None], 100, answer)
    assert complaints == [
        "asks for 6,144 bytes, 1.5 times the 4,096 necessary: line 7 loads 4,096 of x_ptr, torch's clone moves 2,048",
        "uses 12% of the 32-byte sectors it touches, at least 90% is asked; "
        "worst is the load of x_ptr in line 7, which uses 12%",
        "launches 2 kernels where 1 will do: k, torch's clone",
        "allocates 28 bytes beyond its outputs, at most 0 is asked",
    ]
    assert figures["requested_bytes"] == 6144


def test_what_moves_says_of_programs():
    answer = {
        "facts": {"lines": [], "launches": [{"kernel": "k", "programs": 9}], "schedule": {"work": 5, "room": 8}},
        "operations": [],
        "taken": [],
        "elsewhere": 0,
    }
    asked = Moves(case(n=1), bytes=len, programs=8, busy=0.9)
    complaints, figures = moves.judge(asked, [""], 0, answer)
    assert complaints == [
        "launches 9 programs, at most 8 are asked on a GPU of 4 multiprocessors: let each make more than one tile",
        "keeps 4 multiprocessors at work for 62% of the time, at least 90% is asked: "
        "give each of them as many products as the others",
    ]
    assert (figures["programs"], figures["busy"]) == (9, 0.625)
    assert moves.judge(replace(asked, programs=9, busy=0.6), [""], 0, answer)[0] == []


@pytest.mark.parametrize(
    ("programs", "room"),
    [([], 0), ([3], 12), ([1, 1, 1, 1], 4), ([1] * 5, 8), ([4, 1, 1, 1, 1, 1, 1], 16), ([1, 4], 16)],
)
def test_a_program_begins_where_a_multiprocessor_is_free(programs, room):
    timeline = schedule.Schedule()
    for _ in range(2):  # launches, one after the other
        timeline.begin_launch()
        for operations in programs:
            timeline.begin_program()
            timeline.note(operations)
    assert timeline.facts() == {"work": 2 * sum(programs), "room": 2 * room}


STRIDED = catalog.select("2.2a")[0]


def test_waste_that_was_foretold_is_waste(grade):
    """The right share is the spec's to say, whatever the learner's kernel does, and foretells of itself."""
    wasteful = next(bug for bug in STRIDED.exercise.bugs if bug.what == "one element a program")
    source = wasteful.apply(STRIDED.file(catalog.SOLUTIONS).read_text())
    verdict = grade(STRIDED, stub.fill(source, {3: "return itemsize / SECTOR"})).predicts()
    assert verdict.message == (
        "the loads of n=1024,stride=1,fp32 use 0.125 of the sectors that they touch, where 1.0 can be had: "
        "mend the kernel before the prediction"
    )


@pytest.mark.parametrize(
    "lie",
    [
        "worker.Interpreter.predict = lambda *_: {}",
        "worker.Interpreter.predict = lambda *_: {'value': [1.0]}",
        "worker.Interpreter.predict = lambda *_: {'value': 10**400}",
        "trace.Trace.facts = lambda *_: {'launches': [1], 'lines': 7}",
        "trace.Trace.facts = lambda *_: {'launches': [1], 'lines': [{'kind': 'load'}]}",
    ],
)
def test_a_lie_about_a_prediction_fails(grade, lie):
    source = f"from workbook import trace, worker\n{lie}\n" + STRIDED.file(catalog.SOLUTIONS).read_text()
    verdict = grade(STRIDED, source).predicts()
    assert verdict.status == "fail"
    assert verdict.message == "the process answered something that the grader cannot read"


@pytest.mark.parametrize(
    ("change", "sound"),
    [
        ({}, True),
        ({"bytes": 0.5}, False),
        ({"sectors": 2**70}, False),
        ({"useful": -1}, False),
        ({"kind": "peek"}, False),
    ],
)
def test_a_trace_that_makes_no_sense_is_not_read(change, sound):
    line = {"kernel": "k", "line": 7, "kind": "load", "arg": "x", "bytes": 4, "useful": 4, "sectors": 1, "times": 1}
    line["size"] = 4
    facts = {
        "flops": 0,
        "elementwise": 0,
        "window": None,
        "schedule": {"work": 0, "room": 0},
        "launches": [],
        "lines": [line | change],
    }
    judged = object.__new__(call.Call)
    judged.mode, judged.heap, judged.arena = "interpret", [0, 0], torch.empty(0, dtype=torch.uint8)
    assert judged._sound({"facts": facts, "taken": [], "operations": [], "results": []}) == sound


def test_unknown_parts_are_answered_with_the_nearest():
    with pytest.raises(catalog.UnknownPart, match=r"there is no part '1.2z'; the nearest are 1.2a, 1.2b, 1.2c, 1.2d"):
        catalog.select("1.2z")
