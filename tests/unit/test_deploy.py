"""The container files keep their promises: loopback only, pinned images, one holder of the key."""

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
