"""The fields of KubeRay's custom resources (ray.io/v1) that the manifests use, copied by hand.

Every object is closed: a key that is missing here is either a typing error or must be looked up and added.
"""

from typing import Any

TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
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
CONTAINER = closed(
    ["name", "image", "resources"],
    name=TEXT,
    image=TEXT,
    ports=many(closed(["containerPort", "name"], containerPort=COUNT, name=TEXT)),
    env=many(
        {
            "oneOf": [
                closed(["name", "value"], name=TEXT, value=TEXT),
                closed(["name", "valueFrom"], name=TEXT, valueFrom=KEY_OF_SECRET),
            ]
        }
    ),
    envFrom=many(closed(["secretRef"], secretRef=closed(["name"], name=TEXT, optional={"type": "boolean"}))),
    resources=RESOURCES,
    volumeMounts=many(closed(["name", "mountPath"], name=TEXT, mountPath=TEXT, readOnly={"type": "boolean"})),
)
VOLUME = closed(
    ["name"],
    name=TEXT,
    emptyDir=closed(medium={"enum": ["", "Memory"]}, sizeLimit=QUANTITY),
    persistentVolumeClaim=closed(["claimName"], claimName=TEXT, readOnly={"type": "boolean"}),
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
    terminationGracePeriodSeconds=COUNT,
    securityContext=closed(runAsNonRoot={"type": "boolean"}, runAsUser=COUNT, fsGroup=COUNT),
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
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=closed(
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=COUNT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        resources=RESOURCES,
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
    shutdownAfterJobFinishes={"type": "boolean"},
    ttlSecondsAfterFinished=COUNT,
    entrypointNumCpus={"type": "number", "minimum": 0},
    entrypointNumGpus={"type": "number", "minimum": 0},
    entrypointResources=TEXT,
    runtimeEnvYAML=TEXT,
    metadata=TEXTS,
    suspend={"type": "boolean"},
    rayClusterSpec=CLUSTER,
)
SPECS = {"RayCluster": CLUSTER, "RayJob": JOB}


def schema(kind: str) -> dict[str, Any]:
    """Of a whole manifest."""
    name = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]{0,45}[a-z0-9])?$"}
    return closed(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=closed(["name"], name=name, namespace=name, labels=TEXTS, annotations=TEXTS),
        spec=SPECS[kind],
    )
