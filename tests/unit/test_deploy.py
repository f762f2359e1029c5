"""The container files keep their promises: loopback only, pinned images, one holder of the key.

And those of the secured stack: TLS for everybody, and nobody sees another's secrets.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("${")]


def volumes_of(service: dict[str, Any]) -> dict[str, str]:
    """Where a service sees each volume, with its mode."""
    return dict(volume.split(":", 1) for volume in service.get("volumes", []))


def test_only_the_learner_and_the_key_maker_see_the_private_key() -> None:
    holders = {name for name, service in SERVICES.items() if "learner" in volumes_of(service)}
    assert holders == {"init", "learn"}
    assert volumes_of(SERVICES["serve"])["keys"].endswith(":ro")


@pytest.mark.parametrize("name", SERVICES)
def test_every_port_is_on_loopback(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_few_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - set(OURS)))
def test_every_other_image_is_pinned_and_asked_for_its_health(name: str) -> None:
    assert SERVICES[name]["image"].partition(":")[2] not in ("", "latest")
    assert "test" in SERVICES[name]["healthcheck"]


def test_every_file_that_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for source in volumes_of(service):
            assert not source.startswith("./") or (ROOT / source).exists()


def test_every_volume_is_declared() -> None:
    named = {v for s in SERVICES.values() for v in volumes_of(s) if v[0] not in "./$"}
    assert named == set(COMPOSE["volumes"])


def test_every_worker_is_scraped() -> None:
    page = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    assert {job["job_name"] for job in page["scrape_configs"]} == {"featurize", "learn", "serve"}


def test_the_image_runs_as_nobody_special() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER riskbeat"]


def test_nothing_but_sources_enters_the_build() -> None:
    first, *allowed = (ROOT / ".dockerignore").read_text().split()
    assert first == "*"
    for line in allowed:
        if line.startswith("!"):
            assert (ROOT / line[1:]).exists(), line


def test_a_scorer_on_a_gpu_asks_for_one_and_starts_only_when_it_is_wanted() -> None:
    service = SERVICES["serve-gpu"]
    assert service["profiles"] == ["gpu"]
    assert service["command"] == ["serve"]
    assert service["environment"]["RISKBEAT_DEVICE"] == "cuda"
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert service["image"] != SERVICES["serve"]["image"]
    assert service["ports"] != SERVICES["serve"]["ports"]
    assert set(volumes_of(service)) & set(volumes_of(SERVICES["serve"])) == {"keys", "cache"}


SECURE = yaml.safe_load((ROOT / "docker-compose.secure.yml").read_text())["services"]
SECRETS = "${RISKBEAT_SECRETS:-./secrets}/"
FOLDERS = {
    "valkey": "redis",
    "access": "operate",
    "init": "operate",
    "serve-gpu": "serve",
}


@pytest.mark.parametrize("name", SECURE)
def test_a_container_sees_its_own_secrets_only(name: str) -> None:
    seen = [volume for volume in SECURE[name]["volumes"] if volume.startswith(SECRETS)]
    assert seen == [f"{SECRETS}{FOLDERS.get(name, name)}:/secrets:ro"]


def test_every_container_is_secured() -> None:
    asks_prometheus_alone = {"grafana"}  # which has no password of its own, on loopback
    assert set(SERVICES) - set(SECURE) == asks_prometheus_alone
    assert not any("ports" in service for service in SECURE.values())


@pytest.mark.parametrize("name", [*OURS, "access", "operate"])
def test_every_process_comes_to_kafka_and_to_the_store_over_tls_as_itself(name: str) -> None:
    told = SECURE[name]["environment"]
    assert told["RISKBEAT_KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
    assert told["RISKBEAT_KAFKA_USERNAME"] == FOLDERS.get(name, name)
    assert told["RISKBEAT_REDIS_URL"] == ""
    assert told["RISKBEAT_REDIS_URL_FILE"] == "/secrets/redis.url"


@pytest.mark.parametrize("name", ["access", "operate"])
def test_the_added_containers_have_few_rights_too(name: str) -> None:
    service = SECURE[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_everybody_is_scraped_over_tls() -> None:
    page = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.secure.yml").read_text())
    assert {job["job_name"] for job in page["scrape_configs"]} == {"featurize", "learn", "serve"}
    for job in page["scrape_configs"]:
        assert job["scheme"] == "https"
        assert job["tls_config"] == {"ca_file": "/secrets/ca.pem", "server_name": job["job_name"]}


def test_the_secured_broker_differs_by_its_security_alone() -> None:
    def lines(name: str) -> set[str]:
        text = (ROOT / "deploy" / "kafka" / name).read_text().splitlines()
        return {line for line in text if line and not line.startswith("#")}

    about = ("listeners=", "advertised.listeners=", "inter.broker", "listener.")
    added = ("sasl.", "ssl.", "authorizer.", "allow.", "super.users=", *about)
    usual, secured = lines("server.properties"), lines("secure.properties")
    assert {line for line in usual - secured if not line.startswith(about)} == set()
    assert {line for line in secured - usual if not line.startswith(added)} == set()
    assert "PLAINTEXT" not in "".join(secured)
