"""What an autotuner does call after call, with no GPU: when it tunes, and what each configuration needs.

Only a worker that compiles imports this.
"""

import contextlib
from collections.abc import Iterator
from unittest.mock import patch

from triton.runtime import Autotuner

from .codegen import capture, configurations


@contextlib.contextmanager
def observe(arch: int) -> Iterator[list[dict]]:
    """Compile for sm_`arch` whatever is tuned inside; nothing is launched.

    The list holds for each time that an autotuner would tune: kernel, key (names and values of the arguments by which
    it tells calls apart) and configurations: {config, shared}, as many as its pruning leaves.
    """
    tunings, seen = [], set()
    with capture(arch) as launches:

        def run(tuner: Autotuner, *args, **kwargs) -> None:
            given = {**dict(zip(tuner.arg_names, args, strict=False)), **kwargs}
            key = {name: str(given[name]) for name in tuner.keys if name in given}
            dtypes = [str(value.dtype) for value in given.values() if hasattr(value, "dtype")]  # Triton's own addition
            if (call := (id(tuner), *key.items(), *dtypes)) in seen:
                return
            seen.add(call)
            compiled = [
                {"config": str(config), "shared": launch.shared}
                for config, launch in configurations(tuner, launches, args, kwargs)
            ]
            tunings.append({"kernel": tuner.base_fn.__name__, "key": key, "configurations": compiled})

        with patch.object(Autotuner, "run", run):
            yield tunings
