"""A clock that one process sees, and that can be stepped while it runs: libfaketime's.

Only the time of day is stepped, as a machine's clock is; what counts seconds since some start
(timeouts, sessions) goes on evenly.
"""

import os
from importlib.util import find_spec
from pathlib import Path

LIBRARY = Path("vendor/libfaketime/src/libfaketime.so.1")
LOOKED_AT_S = 1
"""A process looks at its file this often."""


def library() -> Path:
    """Return the library that is loaded before others.

    Raises:
        FileNotFoundError: The package libfaketime is not installed, or is laid out otherwise.
    """
    found = find_spec("libfaketime")
    folders = list(found.submodule_search_locations or ()) if found else []
    paths = [path for folder in folders if (path := Path(folder) / LIBRARY).exists()]
    if not paths:
        raise FileNotFoundError("libfaketime is not installed: pip install 'riskbeat[dev]'")
    return paths[0]


class Clock:
    """The time of day as one process sees it."""

    def __init__(self, file: Path) -> None:
        """Keep the true time."""
        self._file = file
        self.step(0)

    @property
    def environment(self) -> dict[str, str]:
        """What the process must be started with."""
        return {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": str(LOOKED_AT_S),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # else it takes the end of every timed wait on a condition for past, Python's for its
            # interpreter lock too: handing work to a thread then costs 4.5 ms of CPU, not 0.09
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }

    def step(self, seconds: float) -> None:
        """Put it so far before the true time."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+.3f}\n")
        os.replace(fresh, self._file)
