"""The bus in the cluster: each topic of the code, kept safely, and nobody reads what is not theirs."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vbt.platform import events
from vbt.platform.events import TOPICS
from vbt.platform.retries import retry_topics


@pytest.fixture(scope="session")
def topics_of_the_code(reads: dict[str, tuple[str, ...]]) -> set[str]:
    retries = {name for group, topics in reads.items() for name in retry_topics(topics, group)}
    return set(TOPICS) | retries


def test_every_topic_of_the_code_is_made_and_no_other(built: Any, topics_of_the_code: set[str]) -> None:
    made = [topic["spec"]["topicName"] for topic in built.of("KafkaTopic").values()]
    assert len(made) == len(set(made))
    assert set(made) == topics_of_the_code


def test_compose_makes_the_same_topics(compose: dict[str, Any], topics_of_the_code: set[str]) -> None:
    script = compose["services"]["topics"]["command"][-1]
    lines = script.split("<<TOPICS\n")[1].split("\nTOPICS")[0].splitlines()
    assert {line.split()[0] for line in lines} == topics_of_the_code


def test_compose_keeps_each_topic_as_long_as_the_cluster_does(
    compose: dict[str, Any], build: Callable[[str], Any]
) -> None:
    script = compose["services"]["topics"]["command"][-1]
    lines = script.split("<<TOPICS\n")[1].split("\nTOPICS")[0].splitlines()
    kept = {
        topic["spec"]["topicName"]: topic["spec"]["config"]["retention.ms"]
        for topic in build("base").of("KafkaTopic").values()
    }
    assert {line.split()[0]: line.split()[2] for line in lines} == kept


def topics_read_by(source: Path) -> set[str]:
    """The topics that a service's __main__ names when it composes its step."""
    named = [
        keyword.value
        for call in ast.walk(ast.parse(source.read_text()))
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg in ("takes", "also_takes")
    ]
    names = [name.id for value in named for name in ast.walk(value) if isinstance(name, ast.Name)]
    return {getattr(events, name) for name in names}


def test_each_service_reads_what_the_design_gives_it(reads: dict[str, tuple[str, ...]], root: Path) -> None:
    for service, topics in reads.items():
        assert topics_read_by(root / "services" / service / "__main__.py") == set(topics)


def test_every_reader_of_a_topic_is_one_of_the_six_services(reads: dict[str, tuple[str, ...]], root: Path) -> None:
    services = {path.name for path in (root / "services").iterdir() if path.is_dir() and path.name != "standalone"}
    assert set(reads) == {name for name in services if not name.startswith(("_", "."))}


def test_a_write_survives_the_loss_of_a_broker(build: Callable[[str], Any]) -> None:
    base = build("base")
    (pool,) = base.of("KafkaNodePool").values()
    assert pool["spec"]["replicas"] == 3
    config = base.of("Kafka")["vbt"]["spec"]["kafka"]["config"]
    assert config["auto.create.topics.enable"] is False
    assert config["unclean.leader.election.enable"] is False
    assert (config["default.replication.factor"], config["min.insync.replicas"]) == (3, 2)
    for topic in base.of("KafkaTopic").values():
        assert topic["spec"]["replicas"] == 3
        assert topic["spec"]["config"]["min.insync.replicas"] == 2
        assert topic["spec"]["config"]["cleanup.policy"] == "delete"


def test_one_broker_is_asked_for_one_copy_only(build: Callable[[str], Any]) -> None:
    local = build("local")
    (pool,) = local.of("KafkaNodePool").values()
    config = local.of("Kafka")["vbt"]["spec"]["kafka"]["config"]
    copies = {value for key, value in config.items() if "replica" in key or "min.isr" in key}
    for topic in local.of("KafkaTopic").values():
        copies |= {topic["spec"]["replicas"], topic["spec"]["config"]["min.insync.replicas"]}
    assert {pool["spec"]["replicas"]} == copies == {1}


def test_events_of_the_audit_trail_are_never_deleted(built: Any) -> None:
    audit = built.of("KafkaTopic")["vbt.audit.recorded.v1"]["spec"]["config"]
    assert audit["retention.ms"] == "-1"


def test_every_kafka_object_belongs_to_the_cluster(built: Any) -> None:
    for found in built.of("KafkaTopic", "KafkaUser", "KafkaNodePool").values():
        assert found["metadata"]["labels"]["strimzi.io/cluster"] in built.of("Kafka")


def rules(user: dict[str, Any], operation: str, kind: str) -> set[tuple[str, str]]:
    """(pattern, name) of the resources of ``kind`` on which the user may do ``operation``."""
    return {
        (rule["resource"]["patternType"], rule["resource"]["name"])
        for rule in user["spec"]["authorization"]["acls"]
        if operation in rule["operations"] and rule["resource"]["type"] == kind
    }


def test_a_service_reads_its_own_topics_and_group_only(built: Any, reads: dict[str, tuple[str, ...]]) -> None:
    users = built.of("KafkaUser")
    assert set(users) == {group.replace("_", "-") for group in reads} | {"keda"}
    for group, topics in reads.items():
        user = users[group.replace("_", "-")]
        assert user["spec"]["authentication"] == {"type": "tls"}
        own = {("literal", topic) for topic in topics} | {("prefix", f"{topic}.{group}.retry.") for topic in topics}
        assert rules(user, "Read", "topic") == own
        assert rules(user, "Read", "group") == ({("literal", group)} if topics else set())
        assert rules(user, "Write", "topic") == {("prefix", "vbt.")}


def test_the_autoscaler_reads_no_message(built: Any) -> None:
    keda = built.of("KafkaUser")["keda"]
    assert {operation for rule in keda["spec"]["authorization"]["acls"] for operation in rule["operations"]} == {
        "Describe"
    }


def test_nobody_may_delete_or_alter_on_the_bus(built: Any) -> None:
    for user in built.of("KafkaUser").values():
        for rule in user["spec"]["authorization"]["acls"]:
            assert set(rule["operations"]) <= {"Describe", "Read", "Write"}


def test_the_bus_takes_no_client_without_a_certificate(built: Any) -> None:
    kafka = built.of("Kafka")["vbt"]["spec"]["kafka"]
    (listener,) = kafka["listeners"]
    assert listener["tls"] is True
    assert listener["authentication"] == {"type": "tls"}
    assert kafka["authorization"] == {"type": "simple"}
