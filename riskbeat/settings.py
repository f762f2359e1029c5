"""environment → Settings: everything a deployment may choose, read once, checked, frozen.

Every key is `RISKBEAT_` and the field's name in capitals. The page
`docs/settings.md` is made from this file (`riskbeat settings --markdown`); a test keeps them equal.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from features.topics import Topics
from pipeline.tls_files import TlsFiles
from riskbeat.settings_again import AgainPassword, login_in, secret_again
from riskbeat.settings_audit import AuditSettings
from riskbeat.settings_breaker import BreakerSettings
from riskbeat.settings_door import DoorSettings
from riskbeat.settings_files import SecretFiles
from riskbeat.settings_gates import GateSettings
from riskbeat.settings_judge import JudgeSettings
from riskbeat.settings_keys import KeysSettings
from riskbeat.settings_learners import LearnersSettings
from riskbeat.settings_lookup import LookupSettings
from riskbeat.settings_policy import PolicySettings
from riskbeat.settings_publish import PublishSettings
from riskbeat.settings_rollout import RolloutSettings
from riskbeat.settings_safety import SafetySettings
from riskbeat.settings_serve import ServeSettings
from riskbeat.settings_trace import TraceSettings

PREFIX = "RISKBEAT_"
DAY_S = 86_400.0
MIB = 1024 * 1024


class KafkaSettings(BaseSettings):
    """How to reach the log, and the shape of its topics."""

    kafka_bootstrap_servers: str = Field(
        min_length=1, description="Kafka brokers, `host:port` separated by commas"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="As in Kafka clients; SSL and SASL_SSL check the server's name"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="Used with SASL_PLAINTEXT and SASL_SSL"
    )
    kafka_username: str | None = Field(None, description="SASL user; required with SASL")
    kafka_password: SecretStr | None = Field(
        None, description="SASL password; required with SASL; or `…_FILE`, a file that holds it"
    )
    kafka_ssl_cafile: Path | None = Field(
        None, description="PEM of the authority that signed the brokers; the system's if absent"
    )
    kafka_ssl_certfile: Path | None = Field(None, description="PEM of the client certificate")
    kafka_ssl_keyfile: Path | None = Field(None, description="PEM of the client's private key")
    kafka_request_timeout_s: float = Field(
        15.0, ge=1, le=600, description="Longest wait for one answer of a broker"
    )
    kafka_session_timeout_s: float = Field(
        6.0, ge=6, le=300, description="A silent group member is declared dead after this"
    )
    kafka_instance_id: str | None = Field(
        None,
        pattern=r"^[a-zA-Z0-9._-]{1,249}$",
        description="A featurize worker's own name in its group: started again within the session "
        "timeout, it goes on with its partitions and no other worker stops for it",
    )
    topic_prefix: str = Field(
        "riskbeat.", pattern=r"^[a-zA-Z0-9._-]*$", description="Put before every topic's name"
    )
    topic_replication: int = Field(
        1, ge=1, le=7, description="Replicas of each topic that `riskbeat topics` makes; 3 for real"
    )
    events_partitions: int = Field(4, ge=1, le=1024, description="Of `events.v1`")
    updates_partitions: int = Field(
        8, ge=1, le=1024, description="Of `updates.v1`; fixed for the life of a store epoch"
    )
    decisions_partitions: int = Field(4, ge=1, le=1024, description="Of `decisions.v1`")
    labels_partitions: int = Field(
        4, ge=1, le=1024, description="Of `labels.v1` and `label_updates.v1`"
    )
    events_retention_s: float = Field(
        90 * DAY_S, gt=0, description="Of `events.v1` and `label_updates.v1`; ≥ the longest window"
    )
    updates_retention_s: float = Field(12 * 3600.0, gt=0, description="Of `updates.v1`")
    weights_retention_s: float = Field(
        3 * DAY_S, gt=0, description="Of `weights.v1.…`: how long decisions can be recomputed"
    )
    dead_retention_s: float = Field(14 * DAY_S, gt=0, description="Of `dead.v1`")

    @property
    def topics(self) -> Topics:
        """The names of the topics."""
        return Topics(self.topic_prefix)

    def kafka_options(self) -> dict[str, Any]:
        """Return what every aiokafka client is constructed with: address and identity."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.kafka_bootstrap_servers,
            "security_protocol": self.kafka_security_protocol,
            "request_timeout_ms": round(self.kafka_request_timeout_s * 1000),
        }
        if self.kafka_security_protocol.startswith("SASL"):
            assert self.kafka_password is not None
            options["sasl_mechanism"] = self.kafka_sasl_mechanism
            options["sasl_plain_username"] = self.kafka_username
            password = self.kafka_password.get_secret_value()
            options["sasl_plain_password"] = AgainPassword(
                password, secret_again(PREFIX, "kafka_password", password)
            )
        if self.kafka_security_protocol.endswith("SSL"):
            context = ssl.create_default_context(cafile=self.kafka_ssl_cafile)
            if self.kafka_ssl_certfile is not None:
                context.load_cert_chain(self.kafka_ssl_certfile, self.kafka_ssl_keyfile)
            options["ssl_context"] = context
        return options


class RedisSettings(BaseSettings):
    """How to reach the store."""

    redis_url: SecretStr = Field(
        description="`redis://[user:password@]host:port/db`, `rediss://…` for TLS; or `…_FILE`"
    )
    redis_cluster: bool = Field(False, description="The URL names a node of a Redis Cluster")
    redis_ca: Path | None = Field(
        None, description="PEM of the authority that signed a `rediss://` server"
    )
    redis_prefix: str = Field(
        "riskbeat:", pattern=r"^[^\s{}]*$", description="Put before every key in the store"
    )
    redis_timeout_s: float = Field(
        5.0, gt=0, le=60, description="Longest wait for one answer of the store (not of scoring)"
    )

    @property
    def redis_address(self) -> str:
        """The URL with its secrets and authority, as Redis clients take it."""
        url = self.redis_url.get_secret_value()
        if self.redis_ca is None:
            return url
        return f"{url}{'&' if '?' in url else '?'}ssl_ca_certs={quote(str(self.redis_ca), safe='')}"

    def redis_login(self) -> Callable[[], tuple[str, str]] | None:
        """Return what reads user and password from the URL's file again; None without either."""
        url = secret_again(PREFIX, "redis_url", self.redis_url.get_secret_value())
        return (lambda: login_in(url())) if login_in(url())[1] else None


class LearnSettings(BaseSettings):
    """What the learner may take and keep."""

    model_name: str = Field("champion", pattern=r"^[a-z][a-z0-9_-]{0,63}$", description="Its name")
    legit_after_s: float = Field(
        7 * DAY_S, ge=0, description="Event time after which silence counts as legit; 0 = never"
    )
    label_horizon_s: float = Field(
        60 * DAY_S, gt=0, description="Event time for which a decision waits for its label"
    )
    learn_sends_labels: bool = Field(
        True, description="Off for a learner beside another one; one must send label transitions"
    )


class FeaturizeSettings(BaseSettings):
    """Limits of the featurize worker."""

    fetch_max_records: int = Field(5_000, ge=1, description="Records of one fetched batch")
    update_record_max_bytes: int = Field(512 * 1024, ge=4096, description="One record of updates")
    commit_max_bytes: int = Field(MIB, ge=65_536, description="States written by one commit")
    range_heartbeat_s: float = Field(
        0.25, gt=0, le=60, description="A quiet partition hears of the source's progress this often"
    )
    fresh_heartbeat_s: float = Field(
        0.5, gt=0, le=60, description="An idle worker says that its partitions are fresh this often"
    )
    cache_max_bytes: int = Field(
        512 * MIB, ge=MIB, description="States that a worker keeps in memory, over all partitions"
    )
    stall_s: float = Field(
        60.0, gt=0, le=3600, description="A worker with lag and no progress for so long ends itself"
    )
    store_wait_s: float = Field(
        30.0, ge=0, le=3600, description="A worker waits so long for an absent store, then ends"
    )


class Settings(
    KafkaSettings,
    RedisSettings,
    FeaturizeSettings,
    LearnSettings,
    LearnersSettings,
    KeysSettings,
    LookupSettings,
    SafetySettings,
    PublishSettings,
    PolicySettings,
    GateSettings,
    JudgeSettings,
    BreakerSettings,
    AuditSettings,
    RolloutSettings,
    ServeSettings,
    DoorSettings,
    TraceSettings,
):
    """The settings of one process. A value: read once at start, handed out piece by piece."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, env_ignore_empty=True, allow_inf_nan=False
    )

    spec_path: Path = Field(Path("features.yaml"), description="The feature spec")
    policy_path: Path = Field(Path("policy.yaml"), description="The decision policy")
    data_dir: Path = Field(Path("data"), description="Join store, checkpoints, spools, indexes")
    metrics_host: str = Field("127.0.0.1", description="Address of a worker's metrics page")
    metrics_port: int = Field(
        0, ge=0, le=65_535, description="Port of a worker's metrics page; 0 takes a free one"
    )
    metrics_tls_certfile: Path | None = Field(
        None, description="PEM of the certificate that it answers with; absent: no TLS"
    )
    metrics_tls_keyfile: Path | None = Field(
        None, description="PEM of its private key; absent: it stands in the certificate's file"
    )
    log_format: Literal["logfmt", "json"] = Field(
        "logfmt", description="`logfmt` for people, `json` for log stores"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Quietest line that is still written"
    )
    stop_timeout_s: float = Field(
        10.0, gt=0, le=600, description="A process that was asked to stop may finish for this long"
    )

    @property
    def topics(self) -> Topics:
        """The names of the topics, and of those of this learner's line."""
        return Topics(self.topic_prefix, self.line)

    @property
    def http_tls(self) -> TlsFiles | None:
        """What HTTP shows its callers; None without TLS."""
        path = self.http_tls_certfile
        return None if path is None else TlsFiles(path, self.http_tls_keyfile)

    @property
    def metrics_tls(self) -> TlsFiles | None:
        """What a worker's metrics page shows; None without TLS."""
        path = self.metrics_tls_certfile
        return None if path is None else TlsFiles(path, self.metrics_tls_keyfile)

    @model_validator(mode="after")
    def _complete(self) -> "Settings":
        """Ask for what the other choices make necessary."""
        if self.kafka_security_protocol.startswith("SASL"):
            _require("kafka_username", self.kafka_username)
            _require("kafka_password", self.kafka_password)
        if self.kafka_ssl_certfile is not None:
            _require("kafka_ssl_keyfile", self.kafka_ssl_keyfile)
        if self.line and "model_name" not in self.model_fields_set:
            _require("model_name", None)
        if self.http_tls_keyfile is not None:
            _require("http_tls_certfile", self.http_tls_certfile)
        if self.metrics_tls_keyfile is not None:
            _require("metrics_tls_certfile", self.metrics_tls_certfile)
        if self.trace_sample:
            _require("trace_exporter", self.trace_exporter)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then the environment, then the files that `…_FILE` keys name."""
        return init_settings, env_settings, SecretFiles(settings_cls, PREFIX)


def _require(field: str, value: object) -> None:
    if value is None:
        raise PydanticCustomError("missing", "required by the other settings", {"field": field})
