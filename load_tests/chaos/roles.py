"""servers, wires and ports → what each process of a deployment is told."""

from collections.abc import Mapping
from pathlib import Path

from features.topics import Topics
from load_tests.chaos.crew import COMMANDS, HOMES, PROCESSES, Role
from load_tests.chaos.servers import Servers
from load_tests.chaos.wire import Wire
from load_tests.deployment import KAFKA, REDIS
from load_tests.report import ROOT
from riskbeat.ports import LOOPBACK

SPEC = ROOT / "features.yaml"
PARTITIONS, UPDATES_PARTITIONS = 2, 4
SESSION_TIMEOUT_S = 6.0  # the broker's floor
DEADLINE_S = 0.5


def roles_of(
    folder: Path,
    wires: Mapping[str, Wire],
    log_wires: Mapping[str, Wire],
    pages: Mapping[str, int],
    clocks: Mapping[str, Mapping[str, str]],
) -> dict[str, Role]:
    """Return what is each one's own.

    Args:
        folder: Of the deployment's data.
        wires: Process → its wire to the store.
        log_wires: Process → its wire to the log.
        pages: Process → the port of its metrics.
        clocks: Process → what it is told of the time of day, where it is not the machine's.
    """
    return {
        name: Role(
            COMMANDS[name],
            {
                **clocks.get(name, {}),
                KAFKA: f"{LOOPBACK}:{log_wires[name].port}",
                REDIS: f"redis://{LOOPBACK}:{wires[name].port}/0",
                "RISKBEAT_METRICS_PORT": str(pages[name]),
                "RISKBEAT_DATA_DIR": str(folder / "data" / HOMES.get(name, name)),
            },
        )
        for name in PROCESSES
    }


def environment(
    folder: Path, servers: Servers, topics: Topics, prefix: str, port: int
) -> dict[str, str]:
    """Return what all processes of a deployment are told."""
    return {
        KAFKA: servers.kafka.address,
        REDIS: servers.store.server.address,
        "RISKBEAT_TOPIC_PREFIX": topics.prefix,
        "RISKBEAT_REDIS_PREFIX": prefix,
        "RISKBEAT_SPEC_PATH": str(SPEC),
        "RISKBEAT_POLICY_PATH": str(ROOT / "policy.yaml"),
        "RISKBEAT_DATA_DIR": str(folder / "data"),
        "RISKBEAT_SIGNING_KEY_PATH": str(folder / "keys" / "signing.pem"),
        "RISKBEAT_PUBLIC_KEY_PATHS": f'["{folder / "keys" / "public.pem"}"]',
        "RISKBEAT_EVENTS_PARTITIONS": str(PARTITIONS),
        "RISKBEAT_DECISIONS_PARTITIONS": str(PARTITIONS),
        "RISKBEAT_LABELS_PARTITIONS": str(PARTITIONS),
        "RISKBEAT_UPDATES_PARTITIONS": str(UPDATES_PARTITIONS),
        "RISKBEAT_KAFKA_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
        "RISKBEAT_AUTH": "off",
        "RISKBEAT_DEVICE": "cpu",
        "RISKBEAT_HTTP_PORT": str(port),
        "RISKBEAT_HTTP_SPARE": "true",
        "RISKBEAT_DEADLINE_S": str(DEADLINE_S),
        "RISKBEAT_FEATURES_TIMEOUT_S": "0.1",
        "RISKBEAT_ACK_TIMEOUT_S": "0.2",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "",  # else every start compiles anew; an image has it
    }
