"""What a learner reads of an autotuner: too often, too seldom, what does not fit, none at all."""

import pytest
from workbook import catalog, tuning
from workbook.exercise import Tuning, case

TWICE = Tuning([case(m=4096), case(m=3504), case(m=16)], times=2)


def tuned(m, shared=1000):
    return {
        "kernel": "matmul_kernel",
        "key": {"m": str(m), "n": "8"},
        "configurations": [{"config": "TILE_M: 64", "shared": 1}, {"config": "TILE_M: 256", "shared": shared}],
    }


@pytest.mark.parametrize(
    ("told", "arch", "words"),
    [
        ([tuned(4096), tuned(16)], 80, ""),
        ([], 80, "no kernel is autotuned: decorate it with triton.autotune"),
        (
            [tuned(1), tuned(2), tuned(3)],
            80,
            "tunes 3 times for the calls m=4096, m=3504, m=16, 2 will do: it tells them apart by (m=1, n=8) (m=2, n=8) "
            "(m=3, n=8), though one choice would serve several of them",
        ),
        (
            [tuned(1)],
            80,
            "tunes 1 time for the calls m=4096, m=3504, m=16, 2 are asked: its key (m=1, n=8) takes calls for alike "
            "that deserve a choice of their own",
        ),
        (
            [tuned(4096, 166_913), tuned(16)],
            80,
            "the configuration TILE_M: 256 of matmul_kernel needs 166,913 bytes of shared memory, 1 more than the "
            "166,912 that a block has on sm_80: prune it there",
        ),
        ([tuned(4096, 166_913), tuned(16)], 90, ""),
    ],
)
def test_words(told, arch, words):
    assert tuning.judge(TWICE, told, arch) == words


PART = catalog.select("2.1c")[0]
SOURCE = PART.file(catalog.SOLUTIONS).read_text()
DECORATOR = '@triton.autotune(configs=CONFIGS, key=KEY, prune_configs_by={"early_config_prune": fitting})\n'
CALL = "matmul_kernel[grid](a, b, c, m, n, k, *a.stride(), *b.stride(), m_class)"


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (
            [
                (DECORATOR, ""),
                (CALL, 'grid = grid({"TILE_M": 64, "TILE_N": 64})\n        ' + CALL[:-1] + ", 64, 64, 32, 8)"),
            ],
            "no kernel is autotuned: decorate it with triton.autotune",
        ),
        ([("    return kept", "    return None")], "no configuration is left after pruning"),
        ([("    return kept", "    return []")], "no configuration is left after pruning"),
    ],
)
def test_a_learners_mistakes(pairs, words, grade):
    source = SOURCE
    for old, new in pairs:
        assert source.count(old) == 1
        source = source.replace(old, new)
    verdict = grade(PART, source).tunes()
    assert verdict.status == "fail"
    assert verdict.message.splitlines()[0].startswith(words)
