"""A small FHIR R4 server in memory: transactions, conditional create, search by identifier and tag, and faults."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

KINDS = (
    "Device",
    "DiagnosticReport",
    "DocumentReference",
    "ImagingStudy",
    "Observation",
    "Patient",
    "Provenance",
    "Task",
)


@dataclass
class Fault:
    """What the server does instead, for the next `times` requests whose "METHOD path" matches.

    `commit` : whether the request takes effect before the answer is spoilt
    `drop` : close the connection without an answer
    `delay` : seconds before the answer
    """

    matches: str
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    times: int = 1
    commit: bool = False
    drop: bool = False
    delay: float = 0.0


@dataclass
class Seen:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    at: float


class Refused(Exception):
    """The request cannot be done; the status says why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class FhirServer:
    """Start with `with FhirServer() as server:`; the attributes may be changed at any time."""

    def __init__(self) -> None:
        self.fhir_version = "4.0.1"
        self.transaction = True
        self.creatable = set(KINDS) - {"Patient"}
        self.searchable = set(KINDS)
        self.ignores_search = False
        self.ignores_conditions = False
        self.token: str | None = None
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.resources: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fhir": self}))
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/fhir"

    def __enter__(self) -> FhirServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, resource: dict[str, Any]) -> str:
        """Put a resource there as if it had always been; its reference."""
        reference = f"{resource['resourceType']}/{len(self.resources) + 1}"
        self.resources[reference] = {**resource, "id": reference.partition("/")[2]}
        return reference

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Every resource of a type."""
        return [resource for resource in self.resources.values() if resource["resourceType"] == kind]

    def count(self, matches: str) -> int:
        """How many requests came whose "METHOD path" matches."""
        return sum(bool(re.search(matches, f"{seen.method} {seen.path}")) for seen in self.seen)

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body for a request."""
        if self.token is not None and headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {}, None
        with self._lock:
            before = dict(self.resources)
            try:
                return self._route(method, path, headers, body)
            except Refused as refused:
                self.resources = before
                outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "processing"}]}
                return refused.status, {}, outcome

    def _route(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], Any]:
        if (method, path) == ("GET", "metadata"):
            return 200, {}, self._capabilities()
        if method == "POST" and path.endswith("/_search"):
            return 200, {}, self._search(path.partition("/")[0], body.decode())
        if (method, path) == ("POST", ""):
            return 200, {}, self._transact(json.loads(body))
        if method == "POST":
            resource = json.loads(body)
            if path not in self.creatable or resource["resourceType"] != path:
                raise Refused(405)
            status, reference = self._create(resource, headers.get("If-None-Exist", ""))
            return status, {"Location": f"{self.base_url}/{reference}/_history/1"}, None
        raise Refused(404)

    def _capabilities(self) -> dict[str, Any]:
        def interactions(kind: str) -> list[dict[str, str]]:
            offered = [("create", self.creatable), ("search-type", self.searchable)]
            return [{"code": code} for code, kinds in offered if kind in kinds]

        return {
            "resourceType": "CapabilityStatement",
            "fhirVersion": self.fhir_version,
            "rest": [
                {
                    "mode": "server",
                    "interaction": [{"code": "transaction"}] if self.transaction else [],
                    "resource": [{"type": kind, "interaction": interactions(kind)} for kind in KINDS],
                }
            ],
        }

    def _search(self, kind: str, query: str) -> dict[str, Any]:
        found = self._matching(kind, query)
        return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": resource} for resource in found]}

    def _matching(self, kind: str, query: str) -> list[dict[str, Any]]:
        terms = {name: values[0] for name, values in parse_qs(query).items() if name != "_count"}
        return [
            resource
            for resource in self.all(kind)
            if self.ignores_search or all(_matches(resource, name, value) for name, value in terms.items())
        ]

    def _create(self, resource: dict[str, Any], condition: str) -> tuple[int, str]:
        kind = resource["resourceType"]
        there = self._matching(kind, condition) if condition and not self.ignores_conditions else []
        if len(there) > 1:
            raise Refused(412)
        if there:
            return 200, f"{kind}/{there[0]['id']}"
        return 201, self.add(resource)

    def _transact(self, bundle: dict[str, Any]) -> dict[str, Any]:
        if not self.transaction:
            raise Refused(405)
        became: dict[str, str] = {}
        answers = []
        for entry in bundle["entry"]:
            if entry["resource"]["resourceType"] not in self.creatable:
                raise Refused(422)
            status, reference = self._create(entry["resource"], unquote(entry["request"].get("ifNoneExist", "")))
            became[entry["fullUrl"]] = reference
            answers.append({"response": {"status": f"{status} Created", "location": f"{reference}/_history/1"}})
        for reference in became.values():
            text = json.dumps(self.resources[reference])
            for full_url, target in became.items():
                text = text.replace(f'"reference": "{full_url}"', f'"reference": "{target}"')
            self.resources[reference] = json.loads(text)
        return {"resourceType": "Bundle", "type": "transaction-response", "entry": answers}


def _matches(resource: dict[str, Any], name: str, value: str) -> bool:
    system, _, code = value.partition("|")
    if name == "identifier":
        return any((i.get("system"), i["value"]) == (system, code) for i in resource.get("identifier", []))
    if name == "_tag":
        return any((t.get("system"), t["code"]) == (system, code) for t in resource["meta"]["tag"])
    raise Refused(400)


class _Handler(BaseHTTPRequestHandler):
    """HTTP in front of the `FhirServer` that a subclass names."""

    protocol_version = "HTTP/1.1"
    # Headers and body in one packet, or every answer waits for a delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    fhir: FhirServer

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path.removeprefix("/fhir").strip("/")
        headers = dict(self.headers.items())
        self.fhir.seen.append(Seen(self.command, path, headers, time.monotonic()))
        fault = self._fault(path)
        if fault is None or fault.commit:
            status, sent, content = self.fhir.answer(self.command, path, headers, body)
        if fault is not None:
            status, sent, content = fault.status, fault.headers, fault.body
            time.sleep(fault.delay)
            if fault.drop:
                self.close_connection = True
                self.connection.close()
                return
        self._reply(status, sent, b"" if content is None else json.dumps(content).encode())

    def _reply(self, status: int, headers: dict[str, str], payload: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(payload))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def _fault(self, path: str) -> Fault | None:
        for fault in self.fhir.faults:
            if fault.times > 0 and re.search(fault.matches, f"{self.command} {path}"):
                fault.times -= 1
                return fault
        return None
