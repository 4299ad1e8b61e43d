"""Access tokens by SMART Backend Services (SMART App Launch 2.2): a signed assertion instead of a password."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from report_writer.fhir_endpoint import EhrNotReady
from vbt.errors import Rejected

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_P384_BYTES = 48


class BackendToken:
    """The Authorization header for a `FhirEndpoint`: call it, with True for a token that was not used before.

    Parameters
    ----------
    token_url : token endpoint, also the audience of the assertion
    client_id : as registered with the EHR
    private_key : PEM; RSA signs RS384, P-384 signs ES384
    key_id : ``kid`` under which the EHR finds the public key in our JWKS
    scope : e.g. ``"system/DiagnosticReport.cs system/Patient.s"``
    clock : seconds since the epoch
    """

    def __init__(
        self,
        token_url: str,
        *,
        client_id: str,
        private_key: bytes,
        key_id: str,
        scope: str,
        timeout_seconds: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        key = load_pem_private_key(private_key, password=None)
        if not isinstance(key, rsa.RSAPrivateKey) and not (
            isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp384r1"
        ):
            raise ValueError("SMART Backend Services needs an RSA or a P-384 key")
        self._key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = key
        self._token_url = token_url
        self._client_id = client_id
        self._key_id = key_id
        self._scope = scope
        self._timeout = timeout_seconds
        self._clock = clock
        self._header = ""
        self._valid_until = 0.0

    def __call__(self, renew: bool) -> str:
        """``"Bearer …"``, fetched again a minute before it expires, or at once with `renew`."""
        if renew or self._clock() >= self._valid_until:
            self._fetch()
        return self._header

    def _fetch(self) -> None:
        form = {
            "grant_type": "client_credentials",
            "scope": self._scope,
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": self._assertion(),
        }
        try:
            answer = httpx.post(
                self._token_url, data=form, timeout=self._timeout, follow_redirects=False, trust_env=False
            )
        except httpx.TransportError as error:
            raise EhrNotReady(got=f"no answer of the token endpoint ({type(error).__name__})") from None
        if answer.status_code >= 500 or answer.status_code == 429:
            raise EhrNotReady(got=f"status {answer.status_code} of the token endpoint")
        try:
            token: dict[str, Any] = answer.json() if answer.is_success else {}
            self._header = f"Bearer {token['access_token']}"
        except (ValueError, KeyError):
            raise Rejected(
                "ehr-access-refused",
                rule="the EHR must give the suite an access token",
                got=f"status {answer.status_code} of the token endpoint",
                action="check client id, key id and scope, then replay the dead letter",
            ) from None
        self._valid_until = self._clock() + float(token.get("expires_in", 60)) - 60

    def _assertion(self) -> str:
        """A JWT that lives five minutes at most and is never used twice."""
        elliptic = isinstance(self._key, ec.EllipticCurvePrivateKey)
        header = {"alg": "ES384" if elliptic else "RS384", "kid": self._key_id, "typ": "JWT"}
        claims = {
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": self._token_url,
            "exp": int(self._clock()) + 240,
            "jti": str(uuid.uuid4()),
        }
        signed = f"{_base64url(json.dumps(header).encode())}.{_base64url(json.dumps(claims).encode())}"
        return f"{signed}.{_base64url(self._sign(signed.encode()))}"

    def _sign(self, content: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(content, padding.PKCS1v15(), hashes.SHA384())
        # JWS wants r and s side by side, not DER (RFC 7518, 3.4).
        r, s = decode_dss_signature(self._key.sign(content, ec.ECDSA(hashes.SHA384())))
        return r.to_bytes(_P384_BYTES, "big") + s.to_bytes(_P384_BYTES, "big")


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
