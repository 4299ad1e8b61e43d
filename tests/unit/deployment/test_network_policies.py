"""The network between the pods, decided as a cluster decides it: each edge of the design, and no other."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

import pytest

SERVICES = ["audit-ledger", "brain-simulator", "connectome-builder", "dicom-ingest", "report-writer", "twin-inference"]

# What is not ours, as a policy sees it: labels of the pod and of its namespace.
BROKER = {"strimzi.io/cluster": "vbt", "strimzi.io/kind": "Kafka", "strimzi.io/component-type": "kafka"}
OPERATOR = {"strimzi.io/cluster": "vbt", "strimzi.io/kind": "Kafka", "strimzi.io/component-type": "entity-operator"}
OURS = {"kubernetes.io/metadata.name": "vbt"}


class Pod:
    """A pod somewhere in the cluster."""

    def __init__(self, labels: dict[str, str], namespace: dict[str, str] | None = None) -> None:
        self.labels = labels
        self.namespace = namespace or OURS


STRANGER = Pod({"app": "stranger"}, {"kubernetes.io/metadata.name": "elsewhere"})
KEDA = Pod({"app": "keda-operator"}, {"kubernetes.io/metadata.name": "keda"})
DNS = Pod({"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"})
COLLECTOR = Pod({"app.kubernetes.io/name": "opentelemetry-collector"}, {"kubernetes.io/metadata.name": "observability"})
NOTEBOOK = Pod({"app": "notebook"}, {"kubernetes.io/metadata.name": "research", "vbt/grpc-client": "true"})

End = Pod | str  # a pod, or an address outside the cluster


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, "this reading of policies knows labels only"
    return selector.get("matchLabels", {}).items() <= labels.items()


def peer_matches(peer: dict[str, Any], end: End) -> bool:
    if isinstance(end, str):
        return "ipBlock" in peer and ipaddress.ip_address(end) in ipaddress.ip_network(peer["ipBlock"]["cidr"])
    if "ipBlock" in peer:
        return False
    namespace = peer.get("namespaceSelector", {"matchLabels": OURS})
    return matches(namespace, end.namespace) and matches(peer.get("podSelector", {}), end.labels)


def allowed(policies: list[dict[str, Any]], pod: Pod, direction: str, other: End, port: int, protocol: str) -> bool:
    """Whether the policies let ``pod`` receive from, or send to, ``other``."""
    ends, key = ("from", "ingress") if direction == "Ingress" else ("to", "egress")
    chosen = [policy["spec"] for policy in policies if matches(policy["spec"]["podSelector"], pod.labels)]
    chosen = [spec for spec in chosen if direction in spec["policyTypes"]]
    if not chosen:
        return True
    return any(
        any(peer_matches(peer, other) for peer in rule.get(ends, [])) or ends not in rule
        for spec in chosen
        for rule in spec.get(key, [])
        if "ports" not in rule or {"port": port, "protocol": protocol} in rule["ports"]
    )


@pytest.fixture
def connects(overlay: Any) -> Callable[..., bool]:
    """Whether a connection is let through at both of its ends."""
    policies = list(overlay.of("NetworkPolicy").values())

    def decide(source: End, target: End, port: int, protocol: str = "TCP") -> bool:
        leaves = isinstance(source, str) or source.namespace != OURS
        leaves = leaves or allowed(policies, source, "Egress", target, port, protocol)
        arrives = isinstance(target, str) or target.namespace != OURS
        return leaves and (arrives or allowed(policies, target, "Ingress", source, port, protocol))

    return decide


def pods(overlay: Any) -> Iterator[tuple[str, Pod]]:
    for name, template in overlay.services().items():
        yield name, Pod(template["metadata"]["labels"])


@pytest.fixture
def service(overlay: Any) -> dict[str, Pod]:
    """The six services' pods."""
    found = dict(pods(overlay))
    assert sorted(found) == SERVICES
    return found


def test_everything_is_denied_first(built: Any) -> None:
    spec = built.of("NetworkPolicy")["default-deny"]["spec"]
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_every_service_reaches_the_bus_names_and_telemetry(
    service: dict[str, Pod], connects: Callable[..., bool]
) -> None:
    for pod in service.values():
        assert connects(pod, Pod(BROKER), 9093)
        assert connects(pod, DNS, 53, "UDP")
        assert connects(pod, COLLECTOR, 4318)


def test_the_bus_lives_and_the_autoscaler_reads_its_lag(connects: Callable[..., bool]) -> None:
    for port in (9090, 9091, 9093):
        assert connects(Pod(BROKER), Pod(BROKER), port)
    assert connects(Pod(OPERATOR), Pod(BROKER), 9091)
    assert connects(Pod(OPERATOR), "10.96.0.1", 443)
    assert connects(KEDA, Pod(BROKER), 9093)


def test_no_service_calls_another(service: dict[str, Pod], connects: Callable[..., bool]) -> None:
    for source in service.values():
        for target in service.values():
            assert not connects(source, target, 50051)
            assert not connects(source, target, 11112)


def test_grpc_is_for_namespaces_that_are_named_its_clients(
    service: dict[str, Pod], connects: Callable[..., bool]
) -> None:
    for pod in service.values():
        assert connects(NOTEBOOK, pod, 50051)
        assert not connects(NOTEBOOK, pod, 50052)
        assert not connects(STRANGER, pod, 50051)


def test_strangers_reach_nothing_but_the_dicom_port(
    overlay: Any, service: dict[str, Pod], connects: Callable[..., bool]
) -> None:
    for name, pod in service.items():
        open_to_cluster = overlay.name == "local" and name == "dicom-ingest"
        assert connects(STRANGER, pod, 11112) is open_to_cluster
    assert not connects(STRANGER, Pod(BROKER), 9093)


def test_nothing_of_ours_reaches_the_internet(service: dict[str, Pod], connects: Callable[..., bool]) -> None:
    for pod in [*service.values(), Pod(BROKER)]:
        for address in ("203.0.113.9", "169.254.169.254", "10.96.0.1"):
            assert not connects(pod, address, 443)


def test_a_hospital_s_edges_are_its_neighbours(build: Callable[[str], Any]) -> None:
    hospital = build("hospital")
    policies = list(hospital.of("NetworkPolicy").values())
    pacs, postgresql, objects, ehr = "192.0.2.10", "192.0.2.20", "192.0.2.30", "192.0.2.40"
    for name, pod in pods(hospital):
        assert allowed(policies, pod, "Egress", postgresql, 5432, "TCP")
        assert allowed(policies, pod, "Egress", objects, 443, "TCP")
        assert allowed(policies, pod, "Ingress", pacs, 11112, "TCP") is (name == "dicom-ingest")
        assert allowed(policies, pod, "Egress", ehr, 443, "TCP") is (name == "report-writer")
        assert allowed(policies, pod, "Egress", pacs, 104, "TCP") is (name == "report-writer")
    assert hospital.of("Service")["pacs-gateway"]["spec"]["loadBalancerSourceRanges"] == [f"{pacs}/32"]


def test_on_the_desk_the_services_reach_the_database(build: Callable[[str], Any]) -> None:
    local = build("local")
    policies = list(local.of("NetworkPolicy").values())
    database = Pod(local.pods()["postgresql"]["metadata"]["labels"])
    for _, pod in pods(local):
        assert allowed(policies, pod, "Egress", database, 5432, "TCP")
        assert allowed(policies, database, "Ingress", pod, 5432, "TCP")
    assert not allowed(policies, database, "Egress", "203.0.113.9", 443, "TCP")
