"""environment → how versions of the weights are made and kept."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings


class PublishSettings(BaseSettings):
    """How often the learner publishes, in which form, and by which right."""

    publish_interval_s: float = Field(
        1.0, ge=0.1, le=3600, description="A new version this often, while something was learned"
    )
    publish_quiet_s: float = Field(
        0.1, ge=0.02, le=3600, description="And at most this often, when all that came was learned"
    )
    learn_lease_ttl_s: float = Field(
        3.0, ge=0.3, le=600, description="A standby takes over so long after a learner's last sign"
    )
    weights_full_every: int = Field(
        64, ge=1, le=64, description="Versions between may be deltas to the one before; 1 = none"
    )
    weights_kept: int = Field(64, ge=2, description="Newest versions that the registry keeps")
    signing_key_path: Path = Field(
        Path("data/keys/signing.pem"), description="Ed25519 private key; only the learner reads it"
    )
    public_key_paths: tuple[Path, ...] = Field(
        (Path("data/keys/public.pem"),),
        min_length=1,
        description="JSON list of public keys that scorers trust (two while one is rotated)",
    )
