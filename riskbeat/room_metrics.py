"""how full the disk and the store are → gauges of a process's metrics page."""

import shutil
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge

from features.memory_redis import StoreMemory


class DiskMetrics:
    """Room on the file system that holds a process's data directory."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Make them in the process's registry."""
        self._free = Gauge(
            "riskbeat_data_free_bytes",
            "Bytes free on the file system of the data directory.",
            registry=registry,
        )
        self._size = Gauge(
            "riskbeat_data_size_bytes",
            "Bytes of the file system of the data directory.",
            registry=registry,
        )

    def look(self, folder: Path) -> None:
        """Measure the file system of a folder, or of where it would be made."""
        folder = folder.absolute()
        while not folder.exists():
            folder = folder.parent
        usage = shutil.disk_usage(folder)
        self._free.set(usage.free)
        self._size.set(usage.total)


class StoreMetrics:
    """Room in the memory of Redis, which refuses writes when it is full."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Make them in the process's registry; unknown until somebody looked."""
        self._used = Gauge(
            "riskbeat_redis_memory_bytes",
            "Bytes of memory that Redis uses; of a cluster, its fullest primary.",
            registry=registry,
        )
        self._most = Gauge(
            "riskbeat_redis_memory_max_bytes",
            "Bytes of memory that this Redis may use: its maxmemory, else its machine's.",
            registry=registry,
        )
        self.unknown()

    def seen(self, memory: StoreMemory) -> None:
        """Show what Redis said."""
        self._used.set(memory.used_bytes)
        self._most.set(memory.max_bytes)

    def unknown(self) -> None:
        """Show that Redis says nothing."""
        self._used.set(float("nan"))
        self._most.set(float("nan"))
