"""What every service stands on, opened from its settings: state, bus, relay, artifacts, keys, vault and policy."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from vbt.platform.bus import Bus
from vbt.platform.bus_kafka import KafkaBus
from vbt.platform.bus_sqlite import SqliteBus
from vbt.platform.identity import Vault
from vbt.platform.keys import SiteKeys
from vbt.platform.logs import start_logging
from vbt.platform.objects import Objects, S3Options
from vbt.platform.outbox import Relay
from vbt.platform.policy import ConsentPolicy
from vbt.platform.retention import Retention
from vbt.platform.settings import Settings
from vbt.platform.state import open_state
from vbt.platform.telemetry import Telemetry


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One per process, shared by the services in it."""

    engine: sa.Engine
    bus: Bus
    relay: Relay
    objects: Objects
    keys: SiteKeys
    vault: Vault
    policy: ConsentPolicy
    telemetry: Telemetry

    def close(self) -> None:
        """Close what the services no longer need; the server has stopped before."""
        self.bus.close()
        self.engine.dispose()
        self.telemetry.stop()


def open_runtime(service: str, settings: Settings, *, log: bool = True) -> Runtime:
    """Open everything; ``log`` False leaves logging to the caller, e.g. a command line that draws on the terminal."""
    if log:
        start_logging(settings.telemetry.log_level)
    telemetry = Telemetry(service, settings.telemetry)
    engine = open_state(settings.state_url)
    bus: Bus = KafkaBus(settings.kafka) if settings.bus_kind == "kafka" else SqliteBus(engine)
    keys = SiteKeys(settings.keys_directory)
    return Runtime(
        engine=engine,
        bus=bus,
        relay=Relay(engine, bus, retention=Retention(days=settings.retention.days)),
        objects=open_objects(settings),
        keys=keys,
        vault=Vault(keys),
        policy=ConsentPolicy(settings.policy.consent_default),
        telemetry=telemetry,
    )


def open_objects(settings: Settings) -> Objects:
    """The object store of these settings."""
    chosen = settings.objects
    s3 = S3Options(
        endpoint=chosen.endpoint,
        region=chosen.region,
        access_key_id=chosen.access_key_id,
        secret_access_key=chosen.secret_access_key.get_secret_value(),
    )
    return Objects(settings.objects_url, s3)
