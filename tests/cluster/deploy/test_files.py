"""The files that start real clusters: each is checked against its schema or linter, and against this project."""

import contextlib
import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from pipeline.cli import commands
from pipeline.cli.parser import build_parser
from tests.cluster.conftest import ROOT
from tests.cluster.deploy import kuberay

FILES = ROOT / "cluster" / "deploy"
MANIFESTS = ("raycluster.yaml", "rayjob.yaml")
POLICY = "networkpolicy.yaml"
LABELS = {"app.kubernetes.io/name": "m3d-condense"}
WRITABLE = ("/tmp", "/dev/shm")
DRAIN_S = 30
"""Seconds for which Ray drains a node that is asked to stop."""


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pinned_ray() -> str:
    found = {match[1] for each in dependencies() if (match := re.fullmatch(r"ray\[.*\]==([\d.]+)", each))}
    (version,) = found  # the same in every extra
    return version


def dependencies() -> list[str]:
    """What the image installs: the core and every extra but test."""
    extras = project()["optional-dependencies"]
    every = [each for name in ("run", "s3", "tune") for each in extras[name] if not each.startswith("m3d-condense")]
    return [*project()["dependencies"], *every]


def image_tag() -> str:
    return f":{project()['version']}-ray{pinned_ray()}"


def loaded(name: str) -> dict[str, Any]:
    return yaml.safe_load((FILES / name).read_text())


# KubeRay


def manifest(name: str) -> dict[str, Any]:
    return loaded(f"kuberay/{name}")


def cluster_spec(document: dict[str, Any]) -> dict[str, Any]:
    return document["spec"].get("rayClusterSpec", document["spec"])


def pods(spec: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def submitters(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [document["spec"]["submitterPodTemplate"]["spec"]] if document["kind"] == "RayJob" else []


@pytest.mark.parametrize("name", [*MANIFESTS, POLICY])
def test_manifests_have_the_fields_of_kuberay(name: str) -> None:
    document = manifest(name)
    jsonschema.validate(document, kuberay.schema(document["kind"]))


@pytest.mark.parametrize("name", MANIFESTS)
@pytest.mark.skipif("KUBERAY_CRDS" not in os.environ, reason="KUBERAY_CRDS names no folder with KubeRay's CRDs")
def test_manifests_fit_the_crds(name: str) -> None:
    document = manifest(name)
    path = Path(os.environ["KUBERAY_CRDS"], f"ray.io_{document['kind'].lower()}s.yaml")
    (version,) = [each for each in yaml.safe_load(path.read_text())["spec"]["versions"] if each["name"] == "v1"]
    jsonschema.validate(document, _closed(version["schema"]["openAPIV3Schema"]))


def _closed(schema: Any) -> Any:
    """A CRD's schema, in which unknown keys are errors, since the API server would silently drop them."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    copied = {key: _closed(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        copied.pop("type", None)
        copied["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        copied.setdefault("additionalProperties", False)
    if isinstance(copied.get("properties"), dict) and {"apiVersion", "kind", "spec"} <= set(copied["properties"]):
        copied["properties"]["metadata"] = {"type": "object"}
    return copied


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec.update(rayVerison="2.60.0"),
        lambda spec: spec["workerGroupSpecs"][0].update(minReplica=0),
        lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
        lambda spec: spec["workerGroupSpecs"][0]["template"]["spec"]["containers"][0].update(resource={}),
        lambda spec: spec["workerGroupSpecs"][0]["template"]["spec"].pop("containers"),
    ],
)
def test_typing_errors_are_detected(change: Any) -> None:
    document = copy.deepcopy(manifest("rayjob.yaml"))
    change(cluster_spec(document))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, kuberay.schema("RayJob"))


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_run_this_project(name: str) -> None:
    spec = cluster_spec(manifest(name))
    assert spec["rayVersion"] == pinned_ray() == ray.__version__
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for pod in pods(spec):
        (container,) = pod["containers"]
        assert container["image"].endswith(image_tag())
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["nodeSelector"]
        mounted = {each["name"] for each in container.get("volumeMounts", [])}
        named = {each["name"] for each in pod.get("volumes", [])}
        assert mounted == named - {"autoscaler-token"}
    for group, pod in zip(spec["workerGroupSpecs"], pods(spec)[1:], strict=True):
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert pod["terminationGracePeriodSeconds"] > DRAIN_S
        assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert any(each["key"] == "nvidia.com/gpu" for each in pod["tolerations"])
        assert any(each.get("emptyDir", {}).get("medium") == "Memory" for each in pod["volumes"])
    assert spec["enableInTreeAutoscaling"] is True


@pytest.mark.parametrize("name", MANIFESTS)
def test_pods_meet_the_restricted_profile(name: str) -> None:
    document = manifest(name)
    everything = [*pods(cluster_spec(document)), *submitters(document)]
    for pod in everything:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    containers = [container for pod in everything for container in pod["containers"]]
    containers.append(cluster_spec(document)["autoscalerOptions"])
    assert len(containers) == len(everything) + 1
    for container in containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]
        paths = {each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")}
        assert "/tmp" in paths
        assert paths <= set(WRITABLE)


@pytest.mark.parametrize("name", MANIFESTS)
def test_only_the_autoscaler_has_a_token_of_the_api_server(name: str) -> None:
    spec = cluster_spec(manifest(name))
    holders = [volume["name"] for pod in pods(spec) for volume in pod["volumes"] if "projected" in volume]
    assert holders == ["autoscaler-token"]
    mounts = {each["name"]: each for each in spec["autoscalerOptions"]["volumeMounts"]}
    assert mounts["autoscaler-token"]["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    assert mounts["autoscaler-token"]["readOnly"] is True
    for pod in pods(spec):
        assert "autoscaler-token" not in {each["name"] for each in pod["containers"][0]["volumeMounts"]}


def test_the_network_policy_covers_all_pods_and_admits_no_others() -> None:
    policy = manifest(POLICY)["spec"]
    assert policy["podSelector"] == {"matchLabels": LABELS}
    assert policy["policyTypes"] == ["Ingress"]
    for name in MANIFESTS:
        document = manifest(name)
        spec = cluster_spec(document)
        groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
        templates = [(group["template"], "ray") for group in groups]
        if submitters(document):
            templates.append((document["spec"]["submitterPodTemplate"], "submitter"))
        for template, component in templates:
            assert template["metadata"]["labels"] == {**LABELS, "app.kubernetes.io/component": component}
    among, jobs = policy["ingress"]
    assert among == {"from": [{"podSelector": {"matchLabels": {**LABELS, "app.kubernetes.io/component": "ray"}}}]}
    assert jobs["ports"] == [{"protocol": "TCP", "port": 8265}]
    assert all(each["podSelector"]["matchLabels"] for each in jobs["from"])


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_hold_no_secrets(name: str) -> None:
    def walk(node: Any, path: str = "") -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(value, f"{path}.{key}")
        elif isinstance(node, list):
            for each in node:
                walk(each, path)
        else:
            secret = re.search(r"secret|password|token|access_key", path, re.IGNORECASE)
            reference = re.search(r"(secretKeyRef|secretRef)\.(name|key|optional)$", path)
            # The kubelet writes the token of a service account; a manifest says only where.
            place = re.search(r"\.(automountServiceAccountToken|serviceAccountToken\.(path|expirationSeconds))$", path)
            assert not secret or reference or place, path

    walk(manifest(name)["spec"])


def test_the_head_of_a_cluster_that_stays_is_fault_tolerant() -> None:
    options = manifest("raycluster.yaml")["spec"]["gcsFaultToleranceOptions"]
    assert options["redisAddress"]
    assert "valueFrom" in options["redisPassword"]


def test_what_the_manifests_presume_is_listed() -> None:
    text = (FILES / "kuberay" / "prerequisites.yaml").read_text()
    documents = list(yaml.safe_load_all(text))
    named = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    for name in MANIFESTS:
        document = manifest(name)
        for pod in [*pods(cluster_spec(document)), *submitters(document)]:
            if "serviceAccountName" in pod:
                assert ("ServiceAccount", pod["serviceAccountName"]) in named
            claims = [each["persistentVolumeClaim"] for each in pod["volumes"] if "persistentVolumeClaim" in each]
            for claim in claims:
                assert ("PersistentVolumeClaim", claim["claimName"]) in named
    options = manifest("raycluster.yaml")["spec"]["gcsFaultToleranceOptions"]
    host, _, port = options["redisAddress"].partition(":")
    service = named["Service", host.partition(".")[0]]
    assert service["spec"]["ports"][0]["port"] == int(port)
    redis = named["StatefulSet", "m3d-redis"]["spec"]["template"]
    policy = named["NetworkPolicy", "m3d-redis"]["spec"]["podSelector"]["matchLabels"]
    assert redis["metadata"]["labels"] == service["spec"]["selector"] == policy
    (container,) = redis["spec"]["containers"]
    assert container["env"][0]["valueFrom"] == options["redisPassword"]["valueFrom"]
    assert f"kubectl create secret generic {options['redisPassword']['valueFrom']['secretKeyRef']['name']}" in text
    assert redis["spec"]["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_entrypoint_parses() -> None:
    spec = manifest("rayjob.yaml")["spec"]
    words = spec["entrypoint"].split()
    assert words[:3] == ["python", "-m", "pipeline"]
    options = build_parser().parse_args(words[3:])
    assert options.out.startswith("s3://")
    commands.configuration(options)
    assert spec["backoffLimit"] > 0
    assert yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == "30"


# The cluster launcher


def launcher_schema() -> dict[str, Any]:
    return json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())


def test_the_launcher_file_fits_the_schema_of_ray() -> None:
    jsonschema.validate(loaded("aws.yaml"), launcher_schema())


@pytest.mark.parametrize("place", [[], ["available_node_types", "gpu"], ["docker"]])
def test_the_schema_of_ray_finds_typing_errors(place: list[str]) -> None:
    document: Any = loaded("aws.yaml")
    node = document
    for key in place:
        node = node[key]
    node["max_worker"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, launcher_schema())


def test_the_launcher_takes_the_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(loaded("aws.yaml")))


def test_the_launcher_file_runs_this_project() -> None:
    document = loaded("aws.yaml")
    head, gpu = (document["available_node_types"][name] for name in (document["head_node_type"], "gpu"))
    assert document["docker"]["image"].endswith(image_tag())
    assert head["resources"]["CPU"] == 0
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert gpu["min_workers"] == 0
    assert all(each["node_config"]["IamInstanceProfile"] for each in (head, gpu))
    starts = [document[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker")]
    assert all(each.startswith("RAY_AUTH_MODE=token ray start") for each in starts)


# The image


def tool(name: str) -> str:
    document = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    assert document, f"{name} is not installed: pip install --editable '.[test]'"
    return document


def test_the_dockerfile_is_clean() -> None:
    done = subprocess.run(
        [tool("hadolint"), "--no-color", str(FILES / "Dockerfile")], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_pinned_and_runs_as_nobody_special() -> None:
    text = (FILES / "Dockerfile").read_text()
    (base,) = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-runtime-ubuntu\d+\.\d+@sha256:[0-9a-f]{64}", base)
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "1000"
    assert "g++" in text
    for source in re.findall(r"^COPY \S+ (.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in source.split())


def test_every_dependency_is_pinned() -> None:
    pinned = dict(line.split("==") for line in (FILES / "constraints.txt").read_text().splitlines() if "==" in line)
    names = [re.split(r"[\[<>=]", each)[0].replace("_", "-").lower() for each in dependencies()]
    assert [name for name in names if name not in pinned] == []
    assert pinned["ray"] == pinned_ray()


# Slurm


def test_the_slurm_script_is_clean() -> None:
    done = subprocess.run([tool("shellcheck"), str(FILES / "slurm.sbatch")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


STUBS = {
    "scontrol": 'printf "gpu-a\\ngpu-b\\ngpu-c\\n"',
    "ray": 'exit "${RAY_STATUS:-0}"',
    "srun": r'case "$*" in *hostname*) echo "10.0.0.1 fe80::1";; *) echo "srun $*" >> "$CALLS"; echo $$ >> "$HOME/nodes"; trap "kill \$!; sleep ${NODES_END_AFTER:-0} > /dev/null 2>&1 & wait; exit 0" TERM; sleep 60 & wait;; esac',
    "run-python": r"""
if [ "$1" = -c ]; then printf secret-of-this-run; exit; fi
trap 'kill $! 2> /dev/null; exit 130' TERM
until [ "$(grep -c ^srun "$CALLS")" = 2 ]; do sleep 0.02; done
echo "python $* at $RAY_ADDRESS" >> "$CALLS"
echo "mode $RAY_AUTH_MODE, token $(cat "$RAY_AUTH_TOKEN_PATH")" >> "$CALLS"
sleep "${SLEEP:-0}" &
wait
exit "${CODE:-0}"
""",
}


def slurm(folder: Path, *arguments: str, **more: str) -> tuple["subprocess.Popen[str]", Path]:
    """Starts the script with stand-ins for the programs it calls, which record their arguments."""
    (folder / "bin").mkdir()
    for name, text in STUBS.items():
        (folder / "bin" / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / "bin" / name).chmod(0o755)
    calls = folder / "calls"
    calls.touch()
    environment = {
        "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
        "HOME": str(folder),
        "CALLS": str(calls),
        "M3D_PYTHON": "run-python",
        "M3D_WAIT_S": "5",
        "SLURM_JOB_ID": "123456",
        "SLURM_JOB_NODELIST": "gpu-[a-c]",
        "SLURM_JOB_NUM_NODES": "3",
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_GPUS_ON_NODE": "4",
        **more,
    }
    process = subprocess.Popen(
        ["bash", str(FILES / "slurm.sbatch"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={key: value for key, value in environment.items() if value},
    )
    return process, calls


def test_slurm_starts_a_raylet_per_node_and_one_driver(tmp_path: Path) -> None:
    process, calls = slurm(tmp_path, "run", "--out", "/shared/my run", CODE="7")
    _, output = process.communicate(timeout=60)
    assert (process.returncode, output) == (7, "")
    lines = calls.read_text().splitlines()
    start = "ray start --block --num-cpus=8 --num-gpus=4 --disable-usage-stats"
    head = (
        f"srun --overlap --nodes=1 --ntasks=1 --nodelist=gpu-a {start} --head --node-ip-address=10.0.0.1 --port=23456"
    )
    workers = (
        f"srun --overlap --nodes=2 --ntasks=2 --ntasks-per-node=1 --exclude=gpu-a {start} --address=10.0.0.1:23456"
    )
    driver = "python -m pipeline run --set resources.actors=12 --out /shared/my run --set resources.wait_s=5 at 10.0.0.1:23456"
    assert sorted(lines) == sorted([head, workers, driver, "mode token, token secret-of-this-run"])
    assert list(tmp_path.glob(".m3d-*")) == []


def test_slurm_passes_the_end_of_its_time_on_to_the_driver(tmp_path: Path) -> None:
    process, calls = slurm(tmp_path, "run", SLEEP="60")
    wait_for(lambda: "mode token" in calls.read_text(), process)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert list(tmp_path.glob(".m3d-*")) == []


def test_slurm_deletes_the_token_before_it_waits_for_the_nodes(tmp_path: Path) -> None:
    process, calls = slurm(tmp_path, "run", SLEEP="60", NODES_END_AFTER="8")
    wait_for(lambda: "mode token" in calls.read_text(), process)
    process.terminate()
    wait_for(lambda: list(tmp_path.glob(".m3d-*")) == [], process)
    assert process.poll() is None  # as scancel would kill it now
    for pid in map(int, (tmp_path / "nodes").read_text().split()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=30)


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Waits until a condition is true while the process runs."""
    ends = time.monotonic() + 20
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("arguments", "more", "code", "message"),
    [
        ([], {}, 2, "error: nothing to run; write the command after the script"),
        (["run"], {"SLURM_CPUS_PER_TASK": ""}, 2, "error: SLURM_CPUS_PER_TASK is not set; start this with sbatch"),
        (
            ["run"],
            {"RAY_STATUS": "1", "M3D_WAIT_S": "1"},
            1,
            "error: Ray did not start on gpu-a within 1 s; see above",
        ),
    ],
)
def test_slurm_says_what_is_wrong(
    tmp_path: Path, arguments: list[str], more: dict[str, str], code: int, message: str
) -> None:
    process, _ = slurm(tmp_path, *arguments, **more)
    _, output = process.communicate(timeout=60)
    assert process.returncode == code
    assert len(output.splitlines()) == 1
    assert output.startswith(message)
