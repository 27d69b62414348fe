from workbook.exercise import Bug, Exercise, Variant, case

# what bugs and variants change
WARM_UP = """\
    call()
    torch.cuda.synchronize()
    end = time.perf_counter() + WARM_UP
    while time.perf_counter() < end:
        call()
        torch.cuda.synchronize()
"""
FLUSH, FIRST, SECOND = "        scratch.zero_()\n", "        before.record()\n", "        behind.record()\n"
LOOP = "    for before, behind in marks:\n"
WAIT, TIMES = "    torch.cuda.synchronize()\n    return", "before.elapsed_time(behind) for before, behind in marks"
MEDIAN, RESULT = "return statistics.median(", f"return statistics.median({TIMES})"
BY_HOST = [
    (LOOP, "    times = []\n    for _ in range(CALLS):\n"),
    (FIRST, "        torch.cuda.synchronize()\n        start = time.perf_counter()\n"),
    (RESULT, "return 1e3 * statistics.median(times)"),
]

exercise = Exercise(
    kind="benchmark",
    entry="milliseconds",
    # the first two calls find nothing in an L2 of 96 MB, flushed or not; the last takes less than its launch
    cases=[case(mb=2700), case(mb=300), case(mb=30), case(mb=80), case(mb=6)],
    bugs=[
        Bug("times the launch", *BY_HOST,
            (SECOND, "        times.append(time.perf_counter() - start)\n"), caught="mb=2700"),
        Bug("the host's clock, waiting for each call", *BY_HOST,
            (SECOND, "        torch.cuda.synchronize()\n        times.append(time.perf_counter() - start)\n"),
            caught="mb=30"),
        Bug("reads the events before the GPU gets to them", (WAIT, "    return"), caught="mb=2700"),
        Bug("no warm-up", (WARM_UP, ""), caught="mb=30"),
        Bug("warms up with ten calls", (WARM_UP, "    for _ in range(10):\n        call()\n"), caught="mb=30"),
        Bug("the first call alone", (WARM_UP, ""), ("CALLS = 100", "CALLS = 1"), caught="mb=2700"),
        Bug("no flush", (FLUSH, ""), caught="mb=30"),
        Bug("flushes once", (FLUSH, ""), (LOOP, "    scratch.zero_()\n" + LOOP), caught="mb=30"),
        Bug("flushes the 50 MB of another GPU", ("4 * l2", "50 * 2**20"), caught="mb=80"),
        Bug("makes room for a flush, writes nothing", (FLUSH, "        torch.empty_like(scratch)\n"), caught="mb=30"),
        Bug("times the flush too", (FLUSH + FIRST, FIRST + FLUSH), caught="mb=2700"),
        Bug("waits between flush and call", (FLUSH, FLUSH + "        torch.cuda.synchronize()\n"), caught="mb=30"),
        Bug("one pair of events around all calls",
            (RESULT, "return marks[0][0].elapsed_time(marks[-1][1]) / CALLS"), caught="mb=300"),
        Bug("mean", (MEDIAN, "return statistics.mean("), caught="mb=2700"),
        Bug("mean, and no warm-up", (WARM_UP, ""), (MEDIAN, "return statistics.mean("), caught="mb=2700"),
        Bug("fastest call", (MEDIAN, "return min("), caught="mb=2700"),
        Bug("sum of all calls", (MEDIAN, "return sum("), caught="mb=2700"),
        Bug("seconds", (MEDIAN, "return 1e-3 * statistics.median("), caught="mb=2700"),
        Bug("microseconds", (MEDIAN, "return 1e3 * statistics.median("), caught="mb=30"),
        Bug("events the wrong way round",
            ("before.elapsed_time(behind)", "behind.elapsed_time(before)"), caught="mb=30"),
        Bug("a tensor", (RESULT, f"return torch.tensor([{TIMES}]).median()"), caught="mb=2700"),
        Bug("never calls", (WARM_UP, ""), ("        call()\n" + SECOND, SECOND), caught="mb=2700"),
        Bug("never ends", ("time.perf_counter() < end", "True"), caught="mb=2700"),
        Bug("asks Triton",
            (RESULT, "import triton.testing\n    return triton.testing.do_bench(call)"), caught="mb=2700"),
    ],
    variants=[
        Variant("warms up with as many calls as fit into the time", fill={1: """
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            call()
            start.record()
            for _ in range(5):
                call()
            end.record()
            end.synchronize()
            for _ in range(1 + int(5 * 1e3 * WARM_UP / start.elapsed_time(end))):
                call()
        """}),
        Variant("so many calls that the slow first ones are few", ("CALLS = 100", "CALLS = 1000"), (WARM_UP, "")),
        Variant("flushes by reading", ("torch.empty(4 * l2, dtype=torch.int8", "torch.ones(l2"), ("zero_", "sum")),
        Variant("flushes by a copy, in a gigabyte of its own", fill={2: """
            source, target = torch.zeros(2, 2**27, device=torch.device("cuda"))
            marks = []
            for _ in range(CALLS):
                target.copy_(source)
                before, behind = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                before.record()
                call()
                behind.record()
                marks.append((before, behind))
        """}),
        Variant("one pair of events, read after every call", fill={2: """
            scratch = torch.empty(2**28, dtype=torch.uint8).cuda()
            before, behind = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            times = []
            for _ in range(CALLS):
                scratch[:] = 1
                before.record()
                call()
                behind.record()
                behind.synchronize()
                times.append(before.elapsed_time(behind))
        """, 3: """
            return torch.tensor(times).quantile(0.5).item()
        """}),
        Variant("flushes with a new tensor; the mean of the middle half", fill={2: """
            stream, marks = torch.cuda.current_stream(), []
            for _ in range(CALLS):
                torch.zeros(2**26, device="cuda")
                before = stream.record_event(torch.cuda.Event(enable_timing=True))
                call()
                marks.append((before, stream.record_event(torch.cuda.Event(enable_timing=True))))
        """, 3: """
            marks[-1][1].synchronize()
            times = sorted(before.elapsed_time(behind) for before, behind in marks)
            return statistics.mean(times[CALLS // 4 : 3 * CALLS // 4])
        """}),
    ],
)
