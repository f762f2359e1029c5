"""Apache Kafka from Maven Central's jars: one KRaft process, where Java is but not Docker."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from riskbeat.ports import LOOPBACK, free_ports
from tests.live.servers import (
    CLUSTER_ID,
    KAFKA_CONFIG,
    Door,
    ProcessHost,
    Server,
    Unavailable,
    with_doors,
)

POM = Path(__file__).with_name("kafka-server-jars.pom.xml")
HEAP = ("-Xms128m", "-Xmx512m")
MAVEN_TIMEOUT_S = 300.0
FORMAT_TIMEOUT_S = 60.0


def kafka_from_maven(folder: Path, *, doors: Sequence[Door] = ()) -> Server:
    """Start a broker on a free port, its log in `folder`; jars are kept in the user's cache."""
    java, maven = shutil.which("java"), shutil.which("mvn")
    if java is None or maven is None:
        raise Unavailable("java and mvn are not both on the path")
    jars = _jars(maven)
    port, controller = free_ports(2)
    properties = folder / "server.properties"
    text = (
        (KAFKA_CONFIG / "server.properties")
        .read_text()
        .replace("INTERNAL://:9092,", "")
        .replace("INTERNAL://localhost:9092,", "")
        .replace("INTERNAL:PLAINTEXT,", "")
        .replace("name=INTERNAL", "name=HOST")
        .replace("HOST://:", f"HOST://{LOOPBACK}:")
        .replace("CONTROLLER://:", f"CONTROLLER://{LOOPBACK}:")
        .replace("9093", str(controller))
        .replace("19099", str(port))
        .replace("/var/lib/kafka/data", str(folder / "log"))
    )
    listens = [f"{LOOPBACK}:{door.port}" for door in doors]
    properties.write_text(with_doors(text, doors, listens))
    logging = f"-Dlog4j2.configurationFile={KAFKA_CONFIG / 'log4j2.yaml'}"
    command = [java, *HEAP, logging, f"-Dkafka.logs.dir={folder}", "-cp", f"{jars}/*"]
    _run(
        [*command, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)],
        FORMAT_TIMEOUT_S,
    )
    host = ProcessHost([*command, "kafka.Kafka", str(properties)], folder / "kafka.log")
    return Server(f"{LOOPBACK}:{port}", "Apache Kafka 4.1.0 from Maven Central", host)


def _jars(maven: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    digest = sha256(POM.read_bytes()).hexdigest()[:12]
    jars = cache / "riskbeat" / f"kafka-{digest}"
    if not (jars / "complete").exists():
        copy = ("dependency:copy-dependencies", f"-DoutputDirectory={jars}")
        _run([maven, "-q", "-B", "-f", str(POM), *copy, "-DincludeScope=runtime"], MAVEN_TIMEOUT_S)
        (jars / "complete").touch()
    return jars


def _run(command: list[str], timeout_s: float) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{command[0]} took longer than {timeout_s:g} s") from error
    if done.returncode != 0:
        raise Unavailable(f"{command[0]} failed: {(done.stdout + done.stderr)[-500:]}")
