"""Where the workers of one port keep the figures that they share: in memory, if there is a way.

The files are mapped. On a disk that is full a mapped page that finds no room ends its process.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from riskbeat.settings import Settings

IN_MEMORY: Final = Path("/dev/shm")


def metrics_folder(settings: Settings) -> Path:
    """Return an empty folder for the workers of a port; what others left there is gone."""
    name = f"http-{settings.http_port}"
    with suppress(OSError):  # no such place, not for us, or somebody else's
        return _emptied(IN_MEMORY / f"riskbeat-{os.getuid()}-{name}")
    on_disk = settings.data_dir / "metrics"
    on_disk.mkdir(parents=True, exist_ok=True)
    return _emptied(on_disk / name)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder
