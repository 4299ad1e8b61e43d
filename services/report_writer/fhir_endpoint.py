"""One FHIR server: what it can do, and what each of its answers means for the caller.

answer                              the caller does
2xx                                 goes on
401                                 asks for a new token once, then Rejected
403, 404, 405, 410, 3xx             Rejected: a person has to change something
409, 412                            Conflict: look what is there, then go on
400, 413, 422, other 4xx            Rejected, never sent again
408, 425, 429, 5xx, no answer       EhrNotReady: NotYet, after Retry-After when the server says so
"""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from vbt.errors import NotYet, Rejected
from vbt.fhir import Json, from_json, to_json

MEDIA_TYPE = "application/fhir+json"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_TRANSIENT = frozenset({408, 425, 429})
# R4 IssueType: the only part of an OperationOutcome that cannot repeat what was sent.
_ISSUE_TYPES = frozenset(
    {"invalid", "structure", "required", "value", "invariant", "security", "login", "unknown", "expired", "forbidden"}
    | {"suppressed", "processing", "not-supported", "duplicate", "multiple-matches", "not-found", "deleted", "too-long"}
    | {"code-invalid", "extension", "too-costly", "business-rule", "conflict", "transient", "lock-error", "no-store"}
    | {"exception", "timeout", "incomplete", "throttled", "informational"}
)


class EhrNotReady(NotYet):
    """The FHIR server cannot take the report now.

    Parameters
    ----------
    retry_after : seconds the server asked to wait; None when it did not say
    """

    def __init__(self, *, got: str, retry_after: float | None = None) -> None:
        super().__init__(
            "ehr-not-ready", rule="the FHIR server must answer", got=got, action="the report is sent again later"
        )
        self.retry_after = retry_after


class Conflict(Exception):
    """The server says that the resource exists already, or more than once (409, 412)."""


@dataclass(frozen=True)
class Capabilities:
    """What the server's CapabilityStatement offers: transactions, and resource types by interaction."""

    transaction: bool
    creatable: frozenset[str]
    searchable: frozenset[str]


class FhirEndpoint:
    """A FHIR R4 server, reached with explicit time limits, no redirects, and only at allowed hosts.

    Parameters
    ----------
    base_url : R4 base; https, except on this machine or with `allow_http`
    allowed_hosts : hosts that may be reached; empty allows the host of `base_url` only
    authorization : gives the Authorization header, e.g. ``"Bearer …"``; called with True for a fresh one after a 401
    timeout_seconds : for connecting, and for each read and write
    headers : sent with every request, e.g. ``traceparent`` and ``X-Request-Id``
    """

    def __init__(
        self,
        base_url: str,
        *,
        allowed_hosts: Collection[str] = (),
        authorization: Callable[[bool], str] | None = None,
        timeout_seconds: float = 30.0,
        allow_http: bool = False,
        headers: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        parts = urlsplit(base_url)
        host = parts.hostname or ""
        if not host or host not in (allowed_hosts or {host}):
            raise ValueError("the host of the FHIR base URL is not among the allowed hosts")
        if parts.scheme != "https" and not (parts.scheme == "http" and (allow_http or host in _LOOPBACK)):
            raise ValueError("patient data needs https; plain http is for this machine only")
        self._authorization = authorization
        self._clock = clock
        self._client = httpx.Client(
            base_url=base_url.rstrip("/") + "/",
            timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, 10.0)),
            headers={"Accept": MEDIA_TYPE, **(headers or {})},
            follow_redirects=False,
            trust_env=False,
        )

    def __enter__(self) -> FhirEndpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def capabilities(self) -> Capabilities:
        """Read the CapabilityStatement; Rejected when the server does not speak R4."""
        statement = self._read("GET", "metadata")
        if not str(statement.get("fhirVersion", "")).startswith("4.0"):
            raise Rejected(
                "ehr-not-r4",
                rule="the report is FHIR R4 (4.0.1)",
                got="a server of another version",
                action="configure the R4 base URL of the EHR",
            )
        server: Json = next((rest for rest in objects(statement, "rest") if rest.get("mode") == "server"), {})
        offered = {
            str(resource.get("type")): {str(item.get("code")) for item in objects(resource, "interaction")}
            for resource in objects(server, "resource")
        }
        return Capabilities(
            transaction="transaction" in {str(item.get("code")) for item in objects(server, "interaction")},
            creatable=frozenset(kind for kind, codes in offered.items() if "create" in codes),
            searchable=frozenset(kind for kind, codes in offered.items() if "search-type" in codes),
        )

    def search(self, kind: str, query: str) -> list[Json]:
        """The first matches of a search; `query` is already percent-encoded.

        By POST: record numbers in a URL end up in the logs of every proxy on the way.
        """
        bundle = self._read("POST", f"{kind}/_search", f"{query}&_count=3")
        found = [entry.get("resource") for entry in objects(bundle, "entry")]
        return [
            resource
            for resource in found
            if isinstance(resource, dict) and resource.get("resourceType") == kind and "id" in resource
        ]

    def create(self, resource: Json, if_none_exist: str) -> str:
        """Create a resource unless its business key is there; its reference, e.g. ``"Task/7"``."""
        kind: str = resource["resourceType"]
        answer = self._send("POST", kind, resource, {"If-None-Exist": if_none_exist, "Prefer": "return=minimal"})
        reference = reference_at(answer.headers.get("Location", ""), kind)
        if reference is None and answer.content:
            body = self._json(answer)
            reference = f"{kind}/{body['id']}" if body.get("resourceType") == kind and "id" in body else None
        if reference is None:
            raise Conflict
        return reference

    def transact(self, bundle: Json) -> Json:
        """Send a transaction; the response Bundle, whose entries the caller checks one by one."""
        return self._json(self._send("POST", "", bundle, {"Prefer": "return=minimal"}))

    def _read(self, method: str, path: str, body: str | None = None) -> Json:
        try:
            return self._json(self._send(method, path, body))
        except Conflict:
            raise EhrNotReady(got="a conflict about something that was only read") from None

    def _send(
        self, method: str, path: str, body: Json | str | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        answer = self._exchange(method, path, body, headers, fresh_token=False)
        if answer.status_code == 401 and self._authorization is not None:
            answer = self._exchange(method, path, body, headers, fresh_token=True)
        raise_for_status(answer.status_code, _issue_codes(answer), self._retry_after(answer))
        return answer

    def _exchange(
        self, method: str, path: str, body: Json | str | None, headers: Mapping[str, str] | None, *, fresh_token: bool
    ) -> httpx.Response:
        sent = dict(headers or {})
        if self._authorization is not None:
            sent["Authorization"] = self._authorization(fresh_token)
        if isinstance(body, str):
            content, sent["Content-Type"] = body.encode(), "application/x-www-form-urlencoded"
        elif body is not None:
            content, sent["Content-Type"] = to_json(body), MEDIA_TYPE
        else:
            content = None
        try:
            return self._client.request(method, path, content=content, headers=sent)
        except httpx.TransportError as error:
            # The name of the class only: a message may hold the URL.
            raise EhrNotReady(got=f"no answer ({type(error).__name__})") from None

    def _retry_after(self, answer: httpx.Response) -> float | None:
        """Seconds, from either form of RFC 9110 section 10.2.3."""
        text = answer.headers.get("Retry-After", "").strip()
        if text.isdecimal():
            return float(text)
        parsed = email.utils.parsedate_tz(text)
        return max(0.0, email.utils.mktime_tz(parsed) - self._clock()) if parsed else None

    def _json(self, answer: httpx.Response) -> Json:
        try:
            found: Any = from_json(answer.content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise EhrNotReady(got="an answer that is not FHIR JSON")
        return found


def raise_for_status(status: int, issues: str, retry_after: float | None) -> None:
    """The meaning of a status, as in the table above."""
    if 200 <= status < 300:
        return
    if status in (409, 412):
        raise Conflict
    if status in _TRANSIENT or (status >= 500 and status != 501):
        raise EhrNotReady(got=f"status {status}{issues}", retry_after=retry_after)
    if status in (401, 403):
        raise Rejected(
            "ehr-access-refused",
            rule="the EHR must let the suite write reports",
            got=f"status {status}{issues}",
            action="check the credentials and scopes, then replay the dead letter",
        )
    raise Rejected(
        "ehr-refused-report",
        rule="the EHR must accept the report",
        got=f"status {status}{issues}",
        action="compare the bundle artifact with what the EHR accepts, then replay the dead letter",
    )


def reference_at(location: str, kind: str) -> str | None:
    """``"Task/7"`` out of a Location such as ``https://ehr/fhir/Task/7/_history/1``."""
    parts = urlsplit(location).path.split("/")
    if kind in parts:
        position = len(parts) - 1 - parts[::-1].index(kind)
        if position + 1 < len(parts) and parts[position + 1]:
            return f"{kind}/{parts[position + 1]}"
    return None


def _issue_codes(answer: httpx.Response) -> str:
    """The codes of an OperationOutcome; its texts may repeat patient data and are dropped."""
    if answer.is_success:
        return ""
    try:
        body: Any = from_json(answer.content)
    except ValueError:
        return ""
    return issue_codes(body)


def issue_codes(outcome: Any) -> str:
    """ " (structure, value)" for an OperationOutcome, "" for anything else."""
    codes = {str(issue.get("code")) for issue in objects(outcome, "issue")}
    known = sorted(codes & _ISSUE_TYPES)
    return f" ({', '.join(known)})" if known else ""


def objects(node: Any, name: str) -> list[Json]:
    """The objects of an array that a server sent, without what is none."""
    items = node.get(name) if isinstance(node, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def backoff_seconds(attempt: int, least: float = 1.0, most: float = 60.0) -> float:
    """How long to wait before attempt n + 1 when the server did not say."""
    return min(most, least * math.pow(2.0, attempt))
