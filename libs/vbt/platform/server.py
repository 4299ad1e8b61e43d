"""A service from start to end: it serves calls and reads events; on SIGTERM it says so first and then drains."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from vbt.platform.grpc_guard import Guard
from vbt.platform.settings import GrpcSettings

_log = logging.getLogger("vbt.platform")

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_WATCH_SECONDS = 2.0

AddServicers = Callable[[grpc.Server], None]


class Worker(Protocol):
    """What runs beside the gRPC server: a ``Consumer``, or a service's own listener."""

    @property
    def alive(self) -> bool:
        """Whether it still works."""

    def start(self) -> None:
        """Begin to work."""

    def drain(self) -> None:
        """Take no new work."""

    def stop(self, grace: float) -> bool:
        """Finish what is in hand within ``grace`` seconds."""


class Background(Protocol):
    """What outlives the workers, because it carries away what they leave: the outbox ``Relay``."""

    def start(self) -> None:
        """Begin to work."""

    def stop(self, grace: float = ...) -> None:
        """Carry away what is there, then end."""


class Server:
    """The gRPC server and the workers of one process; several services may share it.

    Parameters
    ----------
    add_servicers : functions that register servicers, as ``lambda server: add_XServicer_to_server(X(), server)``
    """

    def __init__(
        self,
        name: str,
        add_servicers: Sequence[AddServicers],
        workers: Sequence[Worker],
        relay: Background | None,
        settings: GrpcSettings,
    ) -> None:
        self._name = name
        self._workers = tuple(workers)
        self._relay = relay
        self._drain_seconds = settings.drain_seconds
        self._health = HealthServicer()
        self._ended = threading.Event()
        self._server = grpc.server(
            ThreadPoolExecutor(settings.workers, thread_name_prefix="grpc"),
            interceptors=[Guard()],
            options=[
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                ("grpc.max_send_message_length", settings.max_message_bytes),
                ("grpc.so_reuseport", 0),
            ],
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for add in add_servicers:
            add(self._server)
        self.port: int = _bind(self._server, settings)

    def start(self) -> None:
        """Serve and work, without blocking the caller."""
        if self._relay:
            self._relay.start()
        for worker in self._workers:
            worker.start()
        self._server.start()
        self._tell(_SERVING)
        threading.Thread(target=self._watch, name="health", daemon=True).start()
        _log.info("server.started", extra={"vbt.service": self._name, "vbt.port": self.port})

    def stop(self) -> bool:
        """Say NOT_SERVING, take nothing new, finish what is in hand; True where all of it was finished in time."""
        self._ended.set()
        self._health.enter_graceful_shutdown()
        for worker in self._workers:
            worker.drain()
        closed = self._server.stop(self._drain_seconds)
        deadline = time.monotonic() + self._drain_seconds
        unfinished = [worker for worker in self._workers if not worker.stop(max(0.0, deadline - time.monotonic()))]
        closed.wait()
        if self._relay:
            self._relay.stop()
        _log.info("server.stopped", extra={"vbt.service": self._name, "vbt.unfinished": len(unfinished)})
        return not unfinished

    def _watch(self) -> None:
        while not self._ended.wait(_WATCH_SECONDS):
            if not all(worker.alive for worker in self._workers):
                _log.error("worker.dead", extra={"vbt.service": self._name})
                self._tell(_NOT_SERVING)
                return

    def _tell(self, status: int) -> None:
        for name in ("", self._name):
            self._health.set(name, status)


def serve(
    name: str,
    add_servicers: Sequence[AddServicers],
    workers: Sequence[Worker],
    relay: Background | None,
    settings: GrpcSettings,
) -> None:
    """Run a service until SIGTERM or SIGINT, then drain; what every ``__main__`` calls."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = Server(name, add_servicers, workers, relay, settings)
    server.start()
    stop.wait()
    server.stop()


def _bind(server: grpc.Server, settings: GrpcSettings) -> int:
    if settings.tls_certificate is None or settings.tls_key is None:
        return int(server.add_insecure_port(settings.address))
    pair = (settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())
    ca = settings.tls_client_ca.read_bytes() if settings.tls_client_ca else None
    credentials = grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=ca is not None)
    return int(server.add_secure_port(settings.address, credentials))
