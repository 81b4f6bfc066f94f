"""The fields of KubeRay's custom resources (ray.io/v1), and of Kubernetes, that the manifests use, copied by hand.

Every object is closed: a key that is missing here is either a typing error or must be looked up and added.
"""

from typing import Any

TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
BOOLEAN: dict[str, Any] = {"type": "boolean"}
QUANTITY: dict[str, Any] = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"}
QUANTITIES: dict[str, Any] = {"type": "object", "additionalProperties": QUANTITY}


def closed(required: list[str] | None = None, /, **properties: Any) -> dict[str, Any]:
    """An object with these properties and no others."""
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": required or []}


def many(of: dict[str, Any]) -> dict[str, Any]:
    """A list with at least one entry."""
    return {"type": "array", "items": of, "minItems": 1}


RESOURCES = closed(["requests", "limits"], requests=QUANTITIES, limits=QUANTITIES)
KEY_OF_SECRET = closed(["secretKeyRef"], secretKeyRef=closed(["name", "key"], name=TEXT, key=TEXT))
CONTAINER_SECURITY = closed(
    allowPrivilegeEscalation=BOOLEAN,
    readOnlyRootFilesystem=BOOLEAN,
    capabilities=closed(drop=many(TEXT), add=many(TEXT)),
)
MOUNTS = many(closed(["name", "mountPath"], name=TEXT, mountPath=TEXT, readOnly=BOOLEAN))
CONTAINER = closed(
    ["name", "image", "resources"],
    name=TEXT,
    image=TEXT,
    securityContext=CONTAINER_SECURITY,
    ports=many(closed(["containerPort", "name"], containerPort=COUNT, name=TEXT)),
    env=many(
        {
            "oneOf": [
                closed(["name", "value"], name=TEXT, value=TEXT),
                closed(["name", "valueFrom"], name=TEXT, valueFrom=KEY_OF_SECRET),
            ]
        }
    ),
    envFrom=many(closed(["secretRef"], secretRef=closed(["name"], name=TEXT, optional=BOOLEAN))),
    resources=RESOURCES,
    volumeMounts=MOUNTS,
)
PROJECTED = closed(
    ["sources"],
    sources=many(
        closed(
            serviceAccountToken=closed(["path"], path=TEXT, expirationSeconds={"type": "integer", "minimum": 600}),
            configMap=closed(["name"], name=TEXT, items=many(closed(["key", "path"], key=TEXT, path=TEXT))),
            downwardAPI=closed(
                ["items"],
                items=many(closed(["path", "fieldRef"], path=TEXT, fieldRef=closed(["fieldPath"], fieldPath=TEXT))),
            ),
        )
    ),
)
VOLUME = closed(
    ["name"],
    name=TEXT,
    projected=PROJECTED,
    emptyDir=closed(medium={"enum": ["", "Memory"]}, sizeLimit=QUANTITY),
    persistentVolumeClaim=closed(["claimName"], claimName=TEXT, readOnly=BOOLEAN),
)
TOLERATION = closed(
    key=TEXT,
    operator={"enum": ["Exists", "Equal"]},
    value=TEXT,
    effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
)
POD = closed(
    ["containers"],
    serviceAccountName=TEXT,
    automountServiceAccountToken=BOOLEAN,
    restartPolicy={"enum": ["Always", "OnFailure", "Never"]},
    terminationGracePeriodSeconds=COUNT,
    securityContext=closed(
        runAsNonRoot=BOOLEAN,
        runAsUser=COUNT,
        fsGroup=COUNT,
        seccompProfile=closed(["type"], type={"enum": ["RuntimeDefault", "Localhost", "Unconfined"]}),
    ),
    nodeSelector=TEXTS,
    tolerations=many(TOLERATION),
    containers=many(CONTAINER),
    volumes=many(VOLUME),
)
TEMPLATE = closed(["spec"], metadata=closed(labels=TEXTS, annotations=TEXTS), spec=POD)
HEAD = closed(["rayStartParams", "template"], serviceType=TEXT, rayStartParams=TEXTS, template=TEMPLATE)
WORKERS = closed(
    ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    numOfHosts=COUNT,
    idleTimeoutSeconds=COUNT,
    rayStartParams=TEXTS,
    template=TEMPLATE,
)
CLUSTER = closed(
    ["headGroupSpec", "rayVersion"],
    rayVersion=TEXT,
    authOptions=closed(["mode"], mode={"enum": ["token", "disabled"]}),
    enableInTreeAutoscaling=BOOLEAN,
    autoscalerOptions=closed(
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=COUNT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        resources=RESOURCES,
        securityContext=CONTAINER_SECURITY,
        volumeMounts=MOUNTS,
    ),
    gcsFaultToleranceOptions=closed(
        ["redisAddress"],
        redisAddress=TEXT,
        redisPassword={"oneOf": [closed(["value"], value=TEXT), closed(["valueFrom"], valueFrom=KEY_OF_SECRET)]},
        externalStorageNamespace=TEXT,
    ),
    headGroupSpec=HEAD,
    workerGroupSpecs=many(WORKERS),
)
JOB = closed(
    ["entrypoint", "rayClusterSpec"],
    entrypoint=TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]},
    backoffLimit=COUNT,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    preRunningDeadlineSeconds={"type": "integer", "minimum": 1},
    shutdownAfterJobFinishes=BOOLEAN,
    ttlSecondsAfterFinished=COUNT,
    entrypointNumCpus={"type": "number", "minimum": 0},
    entrypointNumGpus={"type": "number", "minimum": 0},
    entrypointResources=TEXT,
    runtimeEnvYAML=TEXT,
    metadata=TEXTS,
    suspend=BOOLEAN,
    submitterPodTemplate=TEMPLATE,
    rayClusterSpec=CLUSTER,
)
SELECTOR = closed(matchLabels=TEXTS)
PEER = closed(podSelector=SELECTOR, namespaceSelector=SELECTOR)
POLICY = closed(
    ["podSelector", "policyTypes", "ingress"],
    podSelector=SELECTOR,
    policyTypes=many({"enum": ["Ingress", "Egress"]}),
    ingress=many(
        closed(
            # Without senders a rule would admit everybody.
            ["from"],
            **{"from": many(PEER)},
            ports=many(closed(["port"], protocol={"enum": ["TCP", "UDP"]}, port=COUNT)),
        )
    ),
)
SPECS = {"RayCluster": CLUSTER, "RayJob": JOB, "NetworkPolicy": POLICY}
VERSIONS = {"NetworkPolicy": "networking.k8s.io/v1"}


def schema(kind: str) -> dict[str, Any]:
    """Of a whole manifest."""
    name = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]{0,45}[a-z0-9])?$"}
    return closed(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": VERSIONS.get(kind, "ray.io/v1")},
        kind={"const": kind},
        metadata=closed(["name"], name=name, namespace=name, labels=TEXTS, annotations=TEXTS),
        spec=SPECS[kind],
    )
