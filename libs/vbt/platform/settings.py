"""What a site chooses: read once at the start from environment variables, never changed, secrets never shown.

``VBT_STATE__URL`` sets ``settings.state.url``. A service adds its own section by subclassing ``Settings``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

PREFIX = "VBT_"

_Settings = TypeVar("_Settings", bound="Settings")


class Section(BaseModel):
    """A group of settings that belong together."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class StateSettings(Section):
    """Where the durable state is: ``sqlite:///FILE`` or ``postgresql+psycopg://USER@HOST/DATABASE``."""

    url: SecretStr = SecretStr("")


class KafkaSettings(Section):
    """Which Kafka carries the events; none: the SQLite bus in the state's file does."""

    bootstrap_servers: str = ""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    session_timeout_seconds: float = Field(default=12.0, ge=6, le=300)


class ObjectsSettings(Section):
    """Where artifacts are: ``file:///DIRECTORY`` or ``s3://BUCKET/PREFIX``; empty: beside the state."""

    url: str = ""
    endpoint: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: SecretStr = SecretStr("")


class KeysSettings(Section):
    """The directory of the site's secret keys; empty: beside the state."""

    directory: Path | None = None


class TelemetrySettings(Section):
    """Where traces go; the audit trail does not depend on it."""

    otlp_endpoint: str = ""
    spans_path: Path | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class PolicySettings(Section):
    """What holds for a study about which no consent was recorded."""

    consent_default: Literal["permit", "deny"] = "permit"


class RetentionSettings(Section):
    """How many days messages are kept that all services have read; that they were read is remembered twice as long.

    A Kafka trims its topics by itself; it must not keep them for more than twice these days.
    """

    days: float = Field(default=30.0, ge=1.0)


class GrpcSettings(Section):
    """The service's own port; with a certificate it speaks TLS, with a client CA only to those it signed."""

    address: str = "127.0.0.1:0"
    max_message_bytes: int = Field(default=4 * 1024 * 1024, ge=64 * 1024, le=64 * 1024 * 1024)
    workers: int = Field(default=8, ge=1, le=256)
    drain_seconds: float = Field(default=20.0, ge=0, le=600)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None

    @model_validator(mode="after")
    def _certificate_and_key_together(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key are set together or not at all")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate")
        return self


class Settings(BaseSettings):
    """What every service is told.

    Parameters
    ----------
    data : the directory of everything that is not placed elsewhere: state, artifacts, keys
    retry_delays : seconds before the second, third, ... attempt at an event
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    data: Path = Path("vbt-data")
    retry_delays: tuple[float, ...] = (5.0, 60.0, 600.0)
    state: StateSettings = StateSettings()
    kafka: KafkaSettings = KafkaSettings()
    objects: ObjectsSettings = ObjectsSettings()
    keys: KeysSettings = KeysSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    policy: PolicySettings = PolicySettings()
    retention: RetentionSettings = RetentionSettings()
    grpc: GrpcSettings = GrpcSettings()

    @property
    def state_url(self) -> str:
        """Where the state is."""
        return self.state.url.get_secret_value() or f"sqlite:///{(self.data / 'vbt.db').absolute()}"

    @property
    def objects_url(self) -> str:
        """Where the artifacts are."""
        return self.objects.url or (self.data / "objects").absolute().as_uri()

    @property
    def keys_directory(self) -> Path:
        """Where the site's keys are."""
        return self.keys.directory or self.data / "keys"

    @property
    def bus_kind(self) -> Literal["sqlite", "kafka"]:
        """Which bus carries the events."""
        return "kafka" if self.kafka.bootstrap_servers else "sqlite"

    @model_validator(mode="after")
    def _bus_fits_state(self) -> Self:
        if self.bus_kind == "sqlite" and not self.state_url.startswith("sqlite"):
            raise ValueError(
                "a state that is not SQLite needs VBT_KAFKA__BOOTSTRAP_SERVERS, because SQLite is the bus otherwise"
            )
        return self


def read_settings(kind: type[_Settings], **given: Any) -> _Settings:
    """The settings from the environment; what is wrong ends the process with the variable's name, not its value.

    Parameters
    ----------
    given : settings that a command line overrides
    """
    try:
        return kind(**given)
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            name = PREFIX + "__".join(str(part) for part in problem["loc"]).upper() if problem["loc"] else "settings"
            print(f"{name}: {problem['msg']}", file=sys.stderr)
        raise SystemExit(2) from None
    except SettingsError as error:  # a variable that holds a list or a section is JSON
        field = re.search(r'field "(\w+)"', str(error))
        print(f"{PREFIX}{field.group(1).upper() if field else '*'}: must be JSON", file=sys.stderr)
        raise SystemExit(2) from None
