"""Workers' figures lie in memory where there is such a place, else on disk; and begin empty."""

from pathlib import Path

import pytest

from riskbeat import shared_metrics
from riskbeat.settings import Settings
from riskbeat.settings_load import load_settings
from riskbeat.shared_metrics import metrics_folder


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("RISKBEAT_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("RISKBEAT_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("RISKBEAT_DATA_DIR", str(tmp_path / "data"))
    return load_settings()


def test_it_is_in_memory_and_what_was_left_there_is_gone(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_metrics, "IN_MEMORY", tmp_path)
    first = metrics_folder(settings)
    (first / "counter_0.db").write_bytes(b"old")
    again = metrics_folder(settings)
    assert again == first
    assert again.parent == tmp_path
    assert list(again.iterdir()) == []
    assert again.stat().st_mode & 0o077 == 0


def test_without_such_a_place_it_is_on_disk(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_metrics, "IN_MEMORY", tmp_path / "none")
    assert metrics_folder(settings).parent == settings.data_dir / "metrics"
    assert not (tmp_path / "none").exists()


def test_another_ones_place_is_left_alone(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link in a place for all might lead anywhere."""
    monkeypatch.setattr(shared_metrics, "IN_MEMORY", tmp_path)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "kept").write_text("")
    name = metrics_folder(settings)
    name.rmdir()
    name.symlink_to(theirs)
    assert metrics_folder(settings).parent == settings.data_dir / "metrics"
    assert (theirs / "kept").exists()
