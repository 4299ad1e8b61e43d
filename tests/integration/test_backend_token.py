"""Access tokens by signed assertion, against a token endpoint that checks the signature with another library."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from report_writer.backend_token import BackendToken
from report_writer.fhir_endpoint import EhrNotReady
from vbt.errors import Rejected

KEYS = {
    "RS384": (rsa.generate_private_key(65537, 2048), RSAKey),
    "ES384": (ec.generate_private_key(ec.SECP384R1()), ECKey),
}


def pem(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class TokenServer(ThreadingHTTPServer):
    """Gives token-1, token-2, … for assertions of "vbt" that it has not seen before."""

    def __init__(self, algorithm):
        super().__init__(("127.0.0.1", 0), Handler)
        key, kind = KEYS[algorithm]
        self.algorithm = algorithm
        self.public = kind.import_key(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        self.url = f"http://127.0.0.1:{self.server_port}/token"
        self.assertions = []
        self.status = 200


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        token = jwt.decode(form["client_assertion"][0], self.server.public, algorithms=[self.server.algorithm])
        claims = token.claims
        fresh = claims["jti"] not in [seen["jti"] for seen in self.server.assertions]
        good = fresh and claims["aud"] == self.server.url and claims["iss"] == claims["sub"] == "vbt"
        self.server.assertions.append({**claims, **token.header})
        status = self.server.status if good else 400
        body = json.dumps({"access_token": f"token-{len(self.server.assertions)}", "expires_in": 300}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(params=KEYS)
def server(request):
    with TokenServer(request.param) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def now():
    return [1_000_000.0]


@pytest.fixture
def token(server, now):
    key, _ = KEYS[server.algorithm]
    return BackendToken(
        server.url, client_id="vbt", private_key=pem(key), key_id="key-1", scope="system/*.c", clock=lambda: now[0]
    )


def test_assertion_is_signed_short_lived_and_names_its_key(server, token, now):
    assert token(False) == "Bearer token-1"
    (assertion,) = server.assertions
    assert assertion["kid"] == "key-1"
    assert now[0] < assertion["exp"] <= now[0] + 300


def test_token_is_kept_until_a_minute_before_it_expires(token, now):
    token(False)
    now[0] += 239
    assert token(False) == "Bearer token-1"
    now[0] += 2
    assert token(False) == "Bearer token-2"


def test_refused_token_is_replaced_at_once_with_a_new_assertion(server, token):
    token(False)
    assert token(True) == "Bearer token-2"
    assert len({assertion["jti"] for assertion in server.assertions}) == 2


def test_refusal_is_final_and_outage_is_not(server, token):
    server.status = 400
    with pytest.raises(Rejected):
        token(False)
    server.status = 503
    with pytest.raises(EhrNotReady):
        token(False)
    server.shutdown()
    server.server_close()
    with pytest.raises(EhrNotReady):
        token(False)


def test_other_keys_are_refused():
    with pytest.raises(ValueError, match="P-384"):
        BackendToken(
            "https://ehr.example/token",
            client_id="vbt",
            private_key=pem(ec.generate_private_key(ec.SECP256R1())),
            key_id="k",
            scope="s",
        )
