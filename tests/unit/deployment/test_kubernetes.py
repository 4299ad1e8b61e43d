"""What the manifests promise: valid objects, locked-down pods, every topic, and only the edges that are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

# The oldest Kubernetes that the manifests are written for; the namespace enforces the same version's pod standard.
KUBERNETES = "1.33"
# Kinds of operators, whose schemas no Kubernetes ships. Their fields are checked one by one below.
CUSTOM = {"kafka.strimzi.io/v1", "keda.sh/v1alpha1", "cert-manager.io/v1", "external-secrets.io/v1"}
MEMORY_LIMITS = {
    "dicom-ingest": "1Gi",
    "connectome-builder": "4Gi",
    "twin-inference": "4Gi",
    "brain-simulator": "4Gi",
    "report-writer": "1Gi",
    "audit-ledger": "1Gi",
}
SERVICES = sorted(MEMORY_LIMITS)
SCALED = ["brain-simulator", "connectome-builder", "report-writer", "twin-inference"]


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def every_container(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def test_every_object_is_valid_under_the_strict_schema(built: Any) -> None:
    checked = 0
    for found in built.objects:
        if found["apiVersion"] not in CUSTOM:
            kubernetes_validate.validate(found, KUBERNETES, strict=True)
            checked += 1
    assert checked > 30


def test_the_strict_schema_refuses_a_misspelt_field(build: Callable[[str], Any]) -> None:
    pod = build("base").workloads()["report-writer"]
    wrong = {**pod, "spec": {**pod["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


@pytest.mark.parametrize("folder", ["k8s/base", "k8s/overlays/local", "k8s/overlays/hospital"])
def test_every_file_is_used_by_its_kustomization(root: Path, folder: str) -> None:
    here = root / folder
    kustomization = yaml.safe_load((here / "kustomization.yaml").read_text())
    used = {
        *kustomization["resources"],
        *(patch["path"] for patch in kustomization.get("patches", []) if "path" in patch),
    }
    assert {path.name for path in here.glob("*.yaml")} - {"kustomization.yaml"} == used - {"../../base"}


def test_the_namespace_enforces_the_restricted_standard(built: Any) -> None:
    labels = built.of("Namespace")["vbt"]["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"
        assert labels[f"pod-security.kubernetes.io/{mode}-version"] == f"v{KUBERNETES}"


def test_every_object_is_in_the_namespace(built: Any) -> None:
    outside = [found["metadata"]["name"] for found in built.objects if found["metadata"].get("namespace") != "vbt"]
    assert outside == ["vbt"]


def test_each_service_runs_its_own_script(built: Any, scripts: dict[str, str]) -> None:
    assert sorted(built.services()) == SERVICES
    for name, pod in built.services().items():
        assert container(pod)["command"] == [f"vbt-{name}"]
        assert f"vbt-{name}" in scripts


def test_every_pod_is_locked_down(built: Any) -> None:
    for name, pod in built.pods().items():
        spec = pod["spec"]
        assert spec["serviceAccountName"] == name
        assert name in built.of("ServiceAccount")
        assert spec["automountServiceAccountToken"] is False
        assert built.of("ServiceAccount")[name]["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for each in every_container(pod):
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)


def test_no_volume_is_on_the_node_and_every_scratch_folder_has_a_limit(built: Any) -> None:
    for pod in built.pods().values():
        for volume in pod["spec"]["volumes"]:
            assert "hostPath" not in volume
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"]


def test_every_mount_has_its_volume_and_the_root_is_writable_at_tmp(built: Any) -> None:
    for name, workload in built.workloads().items():
        pod = workload["spec"]["template"]
        claimed = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        mounted = {mount["name"] for each in every_container(pod) for mount in each["volumeMounts"]}
        assert mounted == claimed | {volume["name"] for volume in pod["spec"]["volumes"]}, name
        assert {"name": "tmp", "mountPath": "/tmp"} in container(pod)["volumeMounts"]


def test_every_path_in_the_settings_is_on_a_volume(overlay: Any) -> None:
    for name, pod in overlay.services().items():
        mounts = [mount["mountPath"] for mount in container(pod)["volumeMounts"]]
        settings = overlay.settings_of(name)
        paths = [value for value in settings.values() if value.startswith("/")]
        paths += [part.split("=", 1)[1] for part in settings["VBT_STATE__URL"].split("?")[1].split("&") if "=/" in part]
        paths += [settings["VBT_OBJECTS__URL"].removeprefix("file://")] if overlay.name == "local" else []
        assert len(paths) >= 7
        assert not [path for path in paths if not any(f"{path}/".startswith(f"{mount}/") for mount in mounts)]


def test_keys_are_their_owner_s_alone_and_cannot_be_made_anew_in_a_pod(built: Any) -> None:
    for name, pod in built.services().items():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        # In memory, filled with mode 0400 before the service starts, and read-only to it: a missing key stops the
        # service instead of being made up.
        assert volumes["keys"]["emptyDir"]["medium"] == "Memory"
        (mount,) = [mount for mount in container(pod)["volumeMounts"] if mount["name"] == "keys"]
        assert mount == {"name": "keys", "mountPath": built.settings_of(name)["VBT_KEYS__DIRECTORY"], "readOnly": True}
        (fill,) = pod["spec"]["initContainers"]
        assert fill["command"][-1] == f"install -m 0400 /run/secrets/vbt/mounted-keys/* {mount['mountPath']}"
        given = {item["key"] for item in volumes["mounted-keys"]["secret"]["items"]}
        signing = {"log.pem"} if name == "audit-ledger" else set()
        assert given == {"pseudonym.key", "vault.key"} | signing


def test_a_pod_gets_the_time_that_draining_takes(built: Any) -> None:
    relay_grace = 10
    for name, pod in built.services().items():
        wait = container(pod)["lifecycle"]["preStop"]["sleep"]["seconds"]
        drain = float(built.settings_of(name)["VBT_GRPC__DRAIN_SECONDS"])
        assert wait + drain + relay_grace < pod["spec"]["terminationGracePeriodSeconds"]


def test_each_service_asks_for_what_it_needs_and_is_held_to_its_memory(built: Any) -> None:
    for name, pod in built.services().items():
        resources = container(pod)["resources"]
        assert set(resources["requests"]) >= {"cpu", "memory"}
        assert resources["limits"]["memory"] == MEMORY_LIMITS[name]


def test_each_service_is_asked_for_its_health_over_grpc(built: Any) -> None:
    for name, pod in built.services().items():
        only = container(pod)
        ports = {port["name"]: port["containerPort"] for port in only["ports"]}
        assert built.settings_of(name)["VBT_GRPC__ADDRESS"] == f"0.0.0.0:{ports['grpc']}"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert only[probe]["grpc"]["port"] == ports["grpc"]
        # A start that compiles its models for a minute is no failure, nor is one slow answer under load.
        assert only["startupProbe"]["periodSeconds"] * only["startupProbe"]["failureThreshold"] >= 120
        assert only["livenessProbe"]["periodSeconds"] * only["livenessProbe"]["failureThreshold"] >= 60


def test_a_scaled_service_is_never_without_a_replica(built: Any) -> None:
    for name in SCALED:
        spec = built.workloads()[name]["spec"]
        assert "replicas" not in spec, "the autoscaler owns the number of replicas"
        assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        budget = built.of("PodDisruptionBudget")[name]["spec"]
        assert budget["minAvailable"] == 1
        assert budget["selector"] == spec["selector"]
        assert spec["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"] == spec["selector"]


def test_the_receiver_and_the_sequencer_are_single(built: Any) -> None:
    # A StatefulSet, unlike a Deployment, never has two pods of one name, not even while it is updated.
    for name in ("dicom-ingest", "audit-ledger"):
        assert built.of("StatefulSet")[name]["spec"]["replicas"] == 1
    assert not {"dicom-ingest", "audit-ledger"} & set(built.of("ScaledObject"))


def test_replicas_follow_the_lag_of_the_service_s_own_group(built: Any, reads: dict[str, tuple[str, ...]]) -> None:
    scalers = built.of("ScaledObject")
    assert sorted(scalers) == SCALED
    partitions = {topic["spec"]["topicName"]: topic["spec"]["partitions"] for topic in built.of("KafkaTopic").values()}
    for name, scaler in scalers.items():
        spec, group = scaler["spec"], name.replace("-", "_")
        assert spec["scaleTargetRef"] == {"name": name}
        assert {trigger["type"] for trigger in spec["triggers"]} == {"kafka"}
        facts = [trigger["metadata"] for trigger in spec["triggers"]]
        assert {fact["topic"] for fact in facts} == set(reads[group])
        assert {fact["consumerGroup"] for fact in facts} == {group}
        assert {fact["bootstrapServers"] for fact in facts} == {built.settings_of(name)["VBT_KAFKA__BOOTSTRAP_SERVERS"]}
        assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"]
        assert all(spec["maxReplicaCount"] <= partitions[fact["topic"]] for fact in facts)
    assert not built.of("HorizontalPodAutoscaler")


def test_every_kubernetes_service_finds_its_pods_and_ports(built: Any) -> None:
    for service in built.of("Service").values():
        selector = service["spec"]["selector"]
        chosen = [pod for pod in built.pods().values() if selector.items() <= pod["metadata"]["labels"].items()]
        assert len(chosen) == 1
        named = {port["name"] for port in container(chosen[0])["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named


def test_the_pacs_finds_the_dicom_port(built: Any) -> None:
    (port,) = built.of("Service")["pacs-gateway"]["spec"]["ports"]
    named = {entry["name"]: entry["containerPort"] for entry in container(built.pods()["dicom-ingest"])["ports"]}
    assert str(port["port"]) == str(named[port["targetPort"]]) == built.settings_of("dicom-ingest")["VBT_DICOM__PORT"]


def test_no_secret_is_in_the_manifests(built: Any) -> None:
    assert not built.of("Secret")
    for name, pod in built.pods().items():
        settings = built.settings_of(name)
        assert not [key for key in settings if key.endswith(("PASSWORD", "SECRET", "SECRET_ACCESS_KEY", "TOKEN"))]
        assert not any(entry.get("valueFrom") for each in every_container(pod) for entry in each.get("env", []))
        state = settings.get("VBT_STATE__URL", "")
        assert ":" not in state.removeprefix("postgresql+psycopg://").split("@")[0]


def test_every_mounted_secret_has_a_maker(overlay: Any) -> None:
    made = {
        "vbt-cluster-ca-cert",
        *overlay.of("KafkaUser"),
        *(found["spec"]["target"]["name"] for found in overlay.of("ExternalSecret").values()),
        *(found["spec"]["secretName"] for found in overlay.of("Certificate").values()),
    }
    if overlay.name == "local":
        made.add("vbt-keys")  # made once by hand, as k8s/README.md tells
    for pod in overlay.pods().values():
        for volume in pod["spec"]["volumes"]:
            names = [
                source["secret"]["name"]
                for source in volume.get("projected", {}).get("sources", [])
                if "secret" in source
            ]
            names += [volume["secret"]["secretName"]] if "secret" in volume else []
            assert set(names) <= made


def test_a_hospital_runs_images_by_digest_only(build: Callable[[str], Any]) -> None:
    for pod in build("hospital").pods().values():
        for each in every_container(pod):
            name, _, digest = each["image"].partition("@sha256:")
            assert name == "registry.hospital.example/vbt"
            assert len(digest) == 64


def test_every_setting_in_the_manifests_is_read_and_every_required_one_is_given(
    overlay: Any, variables: Callable[[str], Any]
) -> None:
    for name in SERVICES:
        given = {key for key in overlay.settings_of(name) if key.startswith("VBT_")}
        read = variables(name.replace("-", "_"))
        assert given - read.known == set(), f"{name} does not read these"
        assert read.required - given == set(), f"{name} needs these"
