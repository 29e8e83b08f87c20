"""Who this host is, without asking the network: resource attributes of OpenTelemetry's semantic conventions 1.44.

Each detector is a function of its `Surroundings`. What the configuration states wins over what is detected; `service.name`
is `unknown_service` where nobody states it, as the conventions demand of whoever must send one.

What is watched may not be where the agent stands. In a container that has the host's root mounted (`host.paths.root`), the
host is the subject: its own machine-id and name count, and the agent's container and pod are left out. In a container
without, machine-id and host name are those of the image or the pod, so host.id is left out and host.name is the node's
where Kubernetes names it.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from novel_agent.inputs.host.kernel import Kernel
from novel_agent.inputs.host.os_release import parse_variables
from novel_agent.model.resource import Resource

UNKNOWN_SERVICE = {"service.name": "unknown_service"}

_LARGEST_FILE_BYTES = 64 << 10
_MACHINE_ID = re.compile(r"[0-9a-f]{32}")
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "ppc64le": "ppc64",
    "ppc64": "ppc64",
    "ppc": "ppc32",
    "s390x": "s390x",
    "ia64": "ia64",
}
_APPLICATION_CONTAINERS = ("/.dockerenv", "/run/.containerenv")

_ID_IN_CGROUP = re.compile(r"[/:-]([0-9a-f]{64})(?=[./\n]|$)")
_TASK_IN_CGROUP = re.compile(r"/ecs/[^/\n]+/([0-9a-f]{32}-[0-9]+)(?=[/\n]|$)")
_ID_IN_MOUNT = re.compile(r"/(?:containers|overlay-containers)/([0-9a-f]{64})/")
_POD_IN_MOUNT = re.compile(r"/pods/([0-9a-f-]{36})/")
_CONTAINER_IN_MOUNT = re.compile(r"/pods/[0-9a-f-]{36}/containers/([^/]+)/")
_HOST_NAME_MOUNT, _HOSTS_MOUNT, _TERMINATION_MOUNT = "/etc/hostname", "/etc/hosts", "/dev/termination-log"

_NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
_DOWNWARD_API = {
    "k8s.cluster.name": ("K8S_CLUSTER_NAME", "CLUSTER_NAME"),
    "k8s.node.name": ("K8S_NODE_NAME", "NODE_NAME", "MY_NODE_NAME", "OTEL_RESOURCE_ATTRIBUTES_NODE_NAME"),
    "k8s.namespace.name": ("K8S_NAMESPACE_NAME", "K8S_NAMESPACE", "POD_NAMESPACE", "MY_POD_NAMESPACE"),
    "k8s.pod.name": ("K8S_POD_NAME", "POD_NAME", "MY_POD_NAME", "OTEL_RESOURCE_ATTRIBUTES_POD_NAME"),
    "k8s.pod.uid": ("K8S_POD_UID", "POD_UID", "MY_POD_UID", "OTEL_RESOURCE_ATTRIBUTES_POD_UID"),
    "k8s.container.name": ("K8S_CONTAINER_NAME", "CONTAINER_NAME", "MY_CONTAINER_NAME"),
}
"""Kubernetes gives these values no names of their own: these are the ones its documentation, the OpenTelemetry operator and
common charts use. Those without K8S_ count only inside a pod, since others use them too (Jenkins sets NODE_NAME)."""
_OF_THE_NODE = ("k8s.cluster.name", "k8s.node.name")

_DMI_FILES = ("sys_vendor", "product_name", "bios_vendor", "bios_version", "board_asset_tag", "chassis_asset_tag")
_AZURE_ASSET_TAG = "7783-7084-3265-9085-8269-3286-77"


class Surroundings(NamedTuple):
    """What the detectors look at.

    `kernel` holds the roots of the host that is watched; `own_root` is the root directory the agent itself sees; `machine`
    is what uname calls the hardware.
    """

    kernel: Kernel
    environ: Mapping[str, str]
    machine: str
    own_root: str = "/"

    @property
    def elsewhere(self) -> bool:
        """Whether the host that is watched has a root of its own, mounted here."""
        return self.kernel.root != self.own_root.rstrip("/")

    def host_file(self, path: str) -> str:
        """A file of the host that is watched, stripped; '' where there is none."""
        return _read(self.kernel.root + path)

    def own_file(self, path: str) -> str:
        """A file of the agent's own file system, stripped; '' where there is none."""
        return _read(self.own_root.rstrip("/") + path)

    def proc_file(self, path: str) -> str:
        """A file below /proc, stripped; '' where there is none."""
        return _read(self.kernel.proc + path)


def detect_resource(surroundings: Surroundings, configured: Mapping[str, str]) -> Resource:
    """Every attribute that can be told; what is configured wins. Reads a dozen small files and closes the kernel's handles."""
    own = container(surroundings)
    cluster = kubernetes(surroundings)
    if surroundings.elsewhere:
        own = {}
        cluster = {key: value for key, value in cluster.items() if key in _OF_THE_NODE}
    detected = (
        host(surroundings, cluster.get("k8s.node.name", "")),
        operating_system(surroundings),
        own,
        cluster,
        cloud(dmi(surroundings.kernel)),
    )
    surroundings.kernel.close()
    return Resource.merged(UNKNOWN_SERVICE, *detected, configured)


def host(surroundings: Surroundings, node_name: str = "") -> dict[str, str]:
    """Identity, name and architecture of the host."""
    found = {"host.arch": _architecture(surroundings.machine)}
    contained = not surroundings.elsewhere and in_application_container(surroundings)
    if not contained:
        found["host.id"] = _machine_id(surroundings)
    name = surroundings.host_file("/etc/hostname") if surroundings.elsewhere else ""
    if contained:
        name = node_name
    found["host.name"] = name or surroundings.proc_file("/sys/kernel/hostname")
    return {key: value for key, value in found.items() if value}


def _architecture(machine: str) -> str:
    if machine in _ARCHITECTURES:
        return _ARCHITECTURES[machine]
    if machine.startswith("arm"):
        return "arm32"
    return "x86" if re.fullmatch(r"i[3-6]86", machine) else machine


def _machine_id(surroundings: Surroundings) -> str:
    """machine-id(5); an image that was not booted yet holds nothing or `uninitialized`."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        found = surroundings.host_file(path)
        if _MACHINE_ID.fullmatch(found):
            return found
    return ""


def operating_system(surroundings: Surroundings) -> dict[str, str]:
    """The distribution, from os-release(5)."""
    text = surroundings.host_file("/etc/os-release") or surroundings.host_file("/usr/lib/os-release")
    try:
        release = parse_variables(text.encode())
    except ValueError:
        release = {}
    found = {
        "os.type": "linux",
        "os.name": release.get("NAME", ""),
        "os.version": release.get("VERSION_ID", ""),
        "os.build_id": release.get("BUILD_ID", ""),
        "os.description": release.get("PRETTY_NAME", ""),
    }
    return {key: value for key, value in found.items() if value}


def in_application_container(surroundings: Surroundings) -> bool:
    """Docker, Podman, Kubernetes and their like, whose images bring a machine-id that is nobody's; not LXC or nspawn."""
    return (
        in_pod(surroundings)
        or bool(container(surroundings))
        or any(_exists(surroundings.own_root.rstrip("/") + path) for path in _APPLICATION_CONTAINERS)
    )


def in_pod(surroundings: Surroundings) -> bool:
    """Whether Kubernetes runs the agent."""
    return "KUBERNETES_SERVICE_HOST" in surroundings.environ


def container(surroundings: Surroundings) -> dict[str, str]:
    """The agent's own container: cgroup v1, v2 in the host's namespace, else what the runtime mounted.

    In a pod the mounts belong to the sandbox, not to the container, and tell nothing.
    """
    cgroup = surroundings.proc_file("/self/cgroup")
    found = _ID_IN_CGROUP.findall(cgroup) or _TASK_IN_CGROUP.findall(cgroup)
    if not found and not in_pod(surroundings):
        found = _ID_IN_MOUNT.findall(_mounts(surroundings).get(_HOST_NAME_MOUNT, ""))
    return {"container.id": found[-1]} if found else {}


def kubernetes(surroundings: Surroundings) -> dict[str, str]:
    """What the downward API, the service account and the kubelet's mounts tell of the pod."""
    inside = in_pod(surroundings)
    found: dict[str, str] = {}
    for attribute, names in _DOWNWARD_API.items():
        values = [surroundings.environ.get(name, "") for name in names if inside or name.startswith("K8S_")]
        found[attribute] = next(filter(None, values), "")
    if inside:
        mounts = _mounts(surroundings)
        found["k8s.namespace.name"] = found["k8s.namespace.name"] or surroundings.own_file(_NAMESPACE_FILE)
        for attribute, pattern, mount in (
            ("k8s.pod.uid", _POD_IN_MOUNT, _HOSTS_MOUNT),
            ("k8s.container.name", _CONTAINER_IN_MOUNT, _TERMINATION_MOUNT),
        ):
            match = pattern.search(mounts.get(mount, ""))
            found[attribute] = found[attribute] or (match[1] if match else "")
    return {key: value for key, value in found.items() if value}


def _mounts(surroundings: Surroundings) -> dict[str, str]:
    """Which part of its file system is mounted where (proc.rst section 3.5: fields 4 and 5 of mountinfo)."""
    lines = [line.split(" ", 5) for line in surroundings.proc_file("/self/mountinfo").splitlines()]
    return {fields[4]: fields[3] for fields in lines if len(fields) == 6}


def dmi(kernel: Kernel) -> dict[str, str]:
    """What the firmware says of the machine, as far as anyone may read it."""
    found = {name: kernel.attribute(f"class/dmi/id/{name}") for name in _DMI_FILES}
    return {name: value.decode("utf-8", "replace").strip() for name, value in found.items() if value}


def cloud(firmware: Mapping[str, str]) -> dict[str, str]:
    """The cloud whose hypervisor made this firmware; {} for bare metal and for clouds that leave no mark."""
    vendor, product = firmware.get("sys_vendor", ""), firmware.get("product_name", "")
    asset = firmware.get("chassis_asset_tag", "")
    if vendor == "Amazon EC2" or "amazon" in firmware.get("bios_version", ""):
        return _amazon(firmware)
    if product == "Google Compute Engine":
        return _of("gcp", "gcp_compute_engine")
    if asset == _AZURE_ASSET_TAG:
        return _of("azure", "azure.vm")
    if asset == "OracleCloud.com":
        return _of("oracle_cloud", "oracle_cloud_compute")
    return _of(*_BY_VENDOR[vendor]) if vendor in _BY_VENDOR else {}


_BY_VENDOR = {
    "Akamai": ("akamai_cloud", "akamai_cloud.compute"),
    "Alibaba Cloud": ("alibaba_cloud", "alibaba_cloud_ecs"),
    "Hetzner": ("hetzner", "hetzner.cloud_server"),
    "Linode": ("akamai_cloud", "akamai_cloud.compute"),
    "Tencent Cloud": ("tencent_cloud", "tencent_cloud_cvm"),
    "Vultr": ("vultr", "vultr.cloud_compute"),
}


def _of(provider: str, platform: str) -> dict[str, str]:
    return {"cloud.provider": provider, "cloud.platform": platform}


def _amazon(firmware: Mapping[str, str]) -> dict[str, str]:
    """EC2; on Nitro the firmware also holds the instance's id, which is its host.id, and its type."""
    found = _of("aws", "aws_ec2")
    if firmware.get("board_asset_tag", "").startswith("i-"):
        found["host.id"] = firmware["board_asset_tag"]
    if firmware.get("sys_vendor") == "Amazon EC2" and "." in firmware.get("product_name", ""):
        found["host.type"] = firmware["product_name"]
    return found


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST_FILE_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _exists(path: str) -> bool:
    try:
        open(path, "rb").close()
    except OSError:
        return False
    return True
