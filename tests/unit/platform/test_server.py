"""What stands around every call, and how a service ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from vbt.errors import NotYet, Rejected, TwinError, Unsound
from vbt.platform.grpc_channel import error_info, open_channel
from vbt.platform.server import Server
from vbt.platform.settings import GrpcSettings

CANARY = "Mustermann^Erika"
FACTS = {"rule": "6 directions are needed", "got": "5", "action": "send again"}
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def _raise(error: Exception) -> Any:
    def method(_request: bytes, _context: Any) -> bytes:
        raise error

    return method


def _count(_request: bytes, _context: Any) -> Iterator[bytes]:
    yield b"1"
    raise NotYet("later", **FACTS)


def _add(server: grpc.Server) -> None:
    unary = {
        "Echo": lambda request, _context: request,
        "Rejected": _raise(Rejected("too-few", **FACTS)),
        "NotYet": _raise(NotYet("too-few", **FACTS)),
        "Unsound": _raise(Unsound("too-few", **FACTS)),
        "Foreign": _raise(ValueError(CANARY)),
        "Abort": lambda _request, context: context.abort(grpc.StatusCode.NOT_FOUND, "not here"),
    }
    methods = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in unary.items()}
    methods["Count"] = grpc.unary_stream_rpc_method_handler(_count)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.Test", methods),))


class Job:
    """A worker that takes a while to finish what it has in hand."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.alive = True
        self.drained = threading.Event()
        self.finished = False
        self._seconds = seconds

    def start(self) -> None:
        """Nothing to start."""

    def drain(self) -> None:
        self.drained.set()

    def stop(self, grace: float) -> bool:
        time.sleep(min(grace, self._seconds))
        self.finished = grace >= self._seconds
        return self.finished


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("t.Test", [_add], [], None, GrpcSettings(drain_seconds=1.0, max_message_bytes=100_000))
    server.start()
    yield server
    server.stop()


def _call(channel: grpc.Channel, name: str, request: bytes = b"", **options: Any) -> Any:
    return channel.unary_unary(f"/t.Test/{name}")(request, **options)


def _health(port: int, service: str = "t.Test") -> int:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return int(health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status)


def test_a_call_without_a_deadline_is_refused(server: Server) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(grpc.RpcError) as refused:
            _call(channel, "Echo")
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "deadline" in refused.value.details()
        assert _call(channel, "Echo", b"x", timeout=5) == b"x"


def test_health_asks_for_no_deadline(server: Server) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == SERVING


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (Rejected, grpc.StatusCode.INVALID_ARGUMENT),
        (NotYet, grpc.StatusCode.UNAVAILABLE),
        (Unsound, grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
def test_our_errors_have_one_status_each(server: Server, kind: type[TwinError], code: grpc.StatusCode) -> None:
    with open_channel(f"127.0.0.1:{server.port}") as channel, pytest.raises(grpc.RpcError) as refused:
        _call(channel, kind.__name__)
    facts = error_info(refused.value)
    assert refused.value.code() is code
    assert facts is not None
    assert (facts.reason, dict(facts.metadata)) == ("too-few", FACTS)


def test_a_foreign_error_is_not_quoted(server: Server) -> None:
    with open_channel(f"127.0.0.1:{server.port}") as channel, pytest.raises(grpc.RpcError) as refused:
        _call(channel, "Foreign")
    assert refused.value.code() is grpc.StatusCode.INTERNAL
    assert CANARY not in refused.value.details()


def test_a_method_may_abort_by_itself(server: Server) -> None:
    with open_channel(f"127.0.0.1:{server.port}") as channel, pytest.raises(grpc.RpcError) as refused:
        _call(channel, "Abort")
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.NOT_FOUND, "not here")


def test_a_stream_ends_with_its_error(server: Server) -> None:
    with open_channel(f"127.0.0.1:{server.port}") as channel:
        answers = channel.unary_stream("/t.Test/Count")(b"")
        assert next(answers) == b"1"
        with pytest.raises(grpc.RpcError) as refused:
            next(answers)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_too_large_a_message_is_refused(server: Server) -> None:
    with open_channel(f"127.0.0.1:{server.port}") as channel, pytest.raises(grpc.RpcError) as refused:
        _call(channel, "Echo", b"x" * 200_000)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_health_tells_of_the_end_before_it_comes() -> None:
    job = Job(seconds=0.5)
    server = Server("t.Test", [_add], [job], None, GrpcSettings(drain_seconds=5.0))
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="t.Test"))
        assert next(watch).status == SERVING
        ending = threading.Thread(target=server.stop)
        ending.start()
        assert next(watch).status == NOT_SERVING
        assert not job.finished
        watch.cancel()
    ending.join()
    assert job.finished


def test_a_dead_worker_shows_in_health(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vbt.platform.server._WATCH_SECONDS", 0.05)
    job = Job()
    server = Server("t.Test", [], [job], None, GrpcSettings(drain_seconds=0.1))
    server.start()
    assert _health(server.port) == SERVING
    job.alive = False
    deadline = time.monotonic() + 5
    while _health(server.port) == SERVING:
        assert time.monotonic() < deadline
    server.stop()


def test_a_certificate_makes_it_tls(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    _self_signed(key, certificate)
    settings = GrpcSettings(tls_certificate=certificate, tls_key=key, tls_client_ca=certificate, drain_seconds=0.1)
    server = Server("t.Test", [_add], [], None, settings)
    server.start()
    address = f"localhost:{server.port}"
    with open_channel(address, ca=certificate, certificate=certificate, key=key) as channel:
        assert _call(channel, "Echo", b"x") == b"x"
    for stranger in (open_channel(address, deadline=2), open_channel(address, deadline=2, ca=certificate)):
        with stranger, pytest.raises(grpc.RpcError):
            _call(stranger, "Echo", b"x")
    server.stop()


def test_sigterm_drains_a_process(tmp_path: Path) -> None:
    code = f"""
import time
from vbt.platform.server import serve
from vbt.platform.settings import GrpcSettings
class Job:
    alive = True
    def start(self): print("ready", flush=True)
    def drain(self): print("drain", flush=True)
    def stop(self, grace): time.sleep(0.2); open({str(tmp_path / "done")!r}, "w").close(); return True
serve("t", [], [Job()], None, GrpcSettings(drain_seconds=5))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    assert process.stdout.read() == "drain\n"
    assert (tmp_path / "done").exists()


def _self_signed(key_file: Path, certificate_file: Path) -> None:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key_file.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    certificate_file.write_bytes(certificate.public_bytes(pem))
