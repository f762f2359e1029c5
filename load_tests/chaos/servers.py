"""What all seeds of the lab share: a broker, a store, and wires to them."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from load_tests.chaos.crew import PROCESSES
from load_tests.chaos.wire import Wire, WireBox, a_wire_box
from load_tests.chaos_features.servers import LossyRedis, a_kafka, a_lossy_redis
from riskbeat.ports import free_ports
from tests.conftest import kafka_answers
from tests.live.servers import Door, Server, wait_until


@dataclass(frozen=True)
class Servers:
    """What all seeds share.

    Attributes:
        log_wires: Process → its wire to the log.
    """

    kafka: Server
    store: LossyRedis
    box: WireBox
    log_wires: Mapping[str, Wire]


@contextmanager
def the_servers(folder: Path) -> Iterator[Servers]:
    """Start broker and store, and a wire to the broker for every process."""
    with ExitStack() as stack:
        box = stack.enter_context(a_wire_box())
        doors, wires = [], {}
        for name, port in zip(PROCESSES, free_ports(len(PROCESSES)), strict=True):
            wires[name] = box.wire(port)
            doors.append(Door(port, wires[name].port))
        kafka = stack.enter_context(a_kafka(folder / "kafka", doors))
        store = stack.enter_context(a_lossy_redis(folder / "redis"))
        wait_until(lambda: kafka_answers(kafka.address), f"{kafka.what} answers")
        yield Servers(kafka, store, box, wires)
