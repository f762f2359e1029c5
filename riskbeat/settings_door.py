"""environment → the HTTP door: workers, connections, and how long anything may take."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class DoorSettings(BaseSettings):
    """Who answers on the port, and the bounds of connections and queues."""

    http_workers: int = Field(
        1, ge=1, le=256, description="Processes that answer on `http_port`; about one for each core"
    )
    http_spare: bool = Field(
        False,
        description="Keep one more process loaded, which answers at once when another dies",
    )
    http_tls_certfile: Path | None = Field(
        None, description="PEM of the certificate that HTTP answers with; absent: no TLS"
    )
    http_tls_keyfile: Path | None = Field(
        None, description="PEM of its private key; absent: it stands in the certificate's file"
    )
    http_face: Literal["socket", "asgi"] = Field(
        "socket", description="`asgi`: hot routes, too, go through uvicorn's ASGI; costs more"
    )
    http_keep_alive_s: float = Field(
        75.0, gt=0, le=3600, description="A quiet connection is closed after this"
    )
    http_drain_grace_s: float = Field(
        3.0, ge=0, le=600, description="And after this where its process stops"
    )
    http_head_timeout_s: float = Field(
        10.0, gt=0, le=600, description="A request's head must come within this, else 408"
    )
    http_body_timeout_s: float = Field(
        10.0, gt=0, le=600, description="And its body within this, else 408"
    )
    http_pipeline_max: int = Field(
        64, ge=1, le=4096, description="Requests of one connection that are worked on at once"
    )
    http_connections_max: int = Field(
        10_000, ge=1, description="Connections of one worker; one more is told to come again"
    )
    queue_target_s: float = Field(
        0.020,
        gt=0,
        le=10,
        description="While a queue stands, requests that would wait longer are refused",
    )
    list_deadline_s: float = Field(
        5.0, gt=0, le=300, description="Wait of a whole request that holds a list"
    )
    list_queue_max_events: int = Field(
        4_000, ge=1_000, description="Events of lists that may wait before refusal"
    )
