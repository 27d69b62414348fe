"""When an autotuner tunes, and among what, against what its spec says. The verdict is the grader's."""

from . import devices
from .exercise import Tuning


def judge(tuning: Tuning, told: list, arch: int) -> str:
    """What is wrong with the tunings that a worker told of on sm_`arch`, in words; empty where nothing is."""
    if not told:
        return "no kernel is autotuned: decorate it with triton.autotune"
    limit = devices.SHARED[arch]
    for tuned in told:
        for tried in tuned["configurations"]:
            if (over := int(tried["shared"]) - limit) > 0:
                return (
                    f"the configuration {tried['config']} of {tuned['kernel']} needs {limit + over:,} bytes of shared "
                    f"memory, {over:,} more than the {limit:,} that a block has on sm_{arch}: prune it there"
                )
    keys = [f"({', '.join(f'{name}={value}' for name, value in tuned['key'].items())})" for tuned in told]
    calls = ", ".join(case.id for case in tuning.cases)
    if len(told) > tuning.times:
        return (
            f"tunes {len(told)} times for the calls {calls}, {tuning.times} will do: it tells them apart by "
            f"{' '.join(keys)}, though one choice would serve several of them"
        )
    if len(told) < tuning.times:
        few = f"tunes {len(told)} time{'s' * (len(told) > 1)} for the calls {calls}, {tuning.times} are asked"
        return f"{few}: its key {' '.join(keys)} takes calls for alike that deserve a choice of their own"
    return ""
