from pathlib import Path

import pytest

from novel_agent.inputs.host.kernel import Kernel
from novel_agent.inputs.resource import Surroundings, cloud, container, detect_resource, host, kubernetes

MACHINE_ID = "fdbf79e8af94cb7f9e8df36789187052"
ID = "0123456789abcdef" * 4
OTHER_ID = "fedcba9876543210" * 4
POD_UID = "2f7a0b56-3c1e-4d5f-8a9b-0c1d2e3f4a5b"
IN_POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
DEBIAN = (
    'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\n'
    'VERSION="12 (bookworm)"\nID=debian\n'
)


def mount(root, point):
    return f"1234 1200 8:1 {root} {point} rw,relatime - ext4 /dev/sda1 rw\n"


@pytest.fixture
def surroundings(tmp_path: Path):
    """Surroundings over files given by path; `root` is the agent's own root, `host` a host's root mounted in a container."""

    def make(files=None, environ=None, machine="x86_64", *, elsewhere=False):
        for name, content in (files or {}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        watched = "host" if elsewhere else "root"
        kernel = Kernel(str(tmp_path / "proc"), str(tmp_path / "sys"), str(tmp_path / watched))
        return Surroundings(kernel, environ or {}, machine, str(tmp_path / "root"))

    return make


PLAIN_HOST = {
    "root/etc/machine-id": MACHINE_ID + "\n",
    "root/etc/os-release": DEBIAN,
    "proc/sys/kernel/hostname": "db-1\n",
    "proc/self/cgroup": "0::/system.slice/novel-engine-agent.service\n",
    "proc/self/mountinfo": mount("/", "/"),
    "sys/class/dmi/id/sys_vendor": "Dell Inc.\n",
}


def test_a_plain_host(surroundings):
    resource = detect_resource(surroundings(PLAIN_HOST), {})
    assert resource.attributes == (
        ("service.name", "unknown_service"),
        ("host.arch", "amd64"),
        ("host.id", MACHINE_ID),
        ("host.name", "db-1"),
        ("os.type", "linux"),
        ("os.name", "Debian GNU/Linux"),
        ("os.version", "12"),
        ("os.description", "Debian GNU/Linux 12 (bookworm)"),
    )


def test_nothing_readable_is_no_error(surroundings):
    resource = detect_resource(surroundings(machine=""), {})
    assert resource.attributes == (("service.name", "unknown_service"), ("os.type", "linux"))


def test_what_is_configured_wins(surroundings):
    configured = {"service.name": "novel-engine", "host.name": "story-7", "deployment.environment.name": "production"}
    resource = detect_resource(surroundings(PLAIN_HOST), configured)
    assert resource.attributes[0] == ("service.name", "novel-engine")
    assert resource["host.name"] == "story-7"
    assert resource["deployment.environment.name"] == "production"


def test_an_empty_configured_value_leaves_an_attribute_out(surroundings):
    assert "host.id" not in dict(detect_resource(surroundings(PLAIN_HOST), {"host.id": ""}).attributes)


def test_no_descriptor_stays_open(surroundings):
    made = surroundings({"sys/class/dmi/id/sys_vendor": "Hetzner\n"})
    detect_resource(made, {})
    assert made.kernel._attributes == {}


@pytest.mark.parametrize(
    ("machine", "architecture"),
    [
        ("x86_64", "amd64"),
        ("aarch64", "arm64"),
        ("armv7l", "arm32"),
        ("i686", "x86"),
        ("ppc64le", "ppc64"),
        ("s390x", "s390x"),
        ("riscv64", "riscv64"),
    ],
)
def test_architectures(surroundings, machine, architecture):
    assert host(surroundings(machine=machine))["host.arch"] == architecture


@pytest.mark.parametrize("content", ["", "uninitialized\n", "not-an-id\n"])
def test_a_machine_id_that_is_none_falls_back_to_dbus(surroundings, content):
    made = surroundings({"root/etc/machine-id": content, "root/var/lib/dbus/machine-id": MACHINE_ID + "\n"})
    assert host(made)["host.id"] == MACHINE_ID


def test_os_release_may_stand_in_usr_lib_or_be_garbage(surroundings):
    made = surroundings({"root/usr/lib/os-release": "NAME=Alpine\nVERSION_ID=3.20\n"})
    assert detect_resource(made, {})["os.version"] == "3.20"
    made = surroundings({"root/etc/os-release": 'NAME="never closed'})
    assert "os.name" not in dict(detect_resource(made, {}).attributes)


@pytest.mark.parametrize(
    ("cgroup", "found"),
    [
        (f"12:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/docker/{ID}\n", ID),
        (f"4:memory:/kubepods/burstable/pod{POD_UID}/{ID}\n", ID),
        (f"0::/system.slice/docker-{ID}.scope\n", ID),
        (f"0::/kubepods.slice/kubepods-besteffort.slice/cri-containerd-{ID}.scope\n", ID),
        (f"0::/machine.slice/libpod-{ID}.scope/container\n", ID),
        (f"11:cpu:/docker/{OTHER_ID}/docker/{ID}\n", ID),
        (f"9:cpu:/ecs/abcdef/{ID[:32]}-3456789012\n", f"{ID[:32]}-3456789012"),
        ("0::/user.slice/user-1000.slice/session-2.scope\n", None),
        ("0::/\n", None),
        ("", None),
    ],
    ids=[
        "docker v1",
        "kubernetes v1",
        "docker systemd",
        "containerd systemd",
        "podman",
        "nested",
        "fargate",
        "session",
        "own namespace",
        "none",
    ],
)
def test_container_id_from_the_control_group(surroundings, cgroup, found):
    assert container(surroundings({"proc/self/cgroup": cgroup})).get("container.id") == found


@pytest.mark.parametrize(
    "root",
    [
        f"/var/lib/docker/containers/{ID}/hostname",
        f"/containers/storage/overlay-containers/{ID}/userdata/hostname",
    ],
)
def test_container_id_from_the_mounts_where_the_cgroup_namespace_hides_it(surroundings, root):
    files = {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": mount("/", "/") + mount(root, "/etc/hostname")}
    assert container(surroundings(files)) == {"container.id": ID}


def test_the_mounts_of_a_host_that_runs_containers_tell_nothing(surroundings):
    files = {
        "proc/self/cgroup": "0::/system.slice/novel-engine-agent.service\n",
        "proc/self/mountinfo": mount("/", f"/var/lib/docker/containers/{ID}/mounts/shm") + "garbage\n",
    }
    assert container(surroundings(files)) == {}


def test_in_a_pod_the_mounts_belong_to_the_sandbox(surroundings):
    files = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": mount(f"/containers/storage/overlay-containers/{ID}/userdata/hostname", "/etc/hostname"),
    }
    assert container(surroundings(files, IN_POD)) == {}


def test_the_machine_id_of_an_image_is_nobodys(surroundings):
    made = surroundings({**PLAIN_HOST, "root/.dockerenv": "", "proc/sys/kernel/hostname": "0123456789ab\n"})
    assert host(made) == {"host.arch": "amd64", "host.name": "0123456789ab"}


def test_a_host_watched_from_a_container_is_the_subject(surroundings):
    files = {
        "host/etc/machine-id": MACHINE_ID,
        "host/etc/hostname": "node-3\n",
        "host/etc/os-release": DEBIAN,
        "root/etc/machine-id": "0" * 32,
        "root/etc/os-release": "NAME=Alpine\n",
        "proc/sys/kernel/hostname": "agent-x7k2p\n",
        "proc/self/cgroup": f"0::/docker/{ID}\n",
    }
    environ = {**IN_POD, "POD_NAME": "agent-x7k2p", "NODE_NAME": "node-3.example"}
    found = dict(detect_resource(surroundings(files, environ, elsewhere=True), {}).attributes)
    assert (found["host.id"], found["host.name"], found["os.name"]) == (MACHINE_ID, "node-3", "Debian GNU/Linux")
    assert found["k8s.node.name"] == "node-3.example"
    assert not {"container.id", "k8s.pod.name", "k8s.namespace.name"} & found.keys()


def test_a_pod_by_the_downward_api(surroundings):
    environ = {
        **IN_POD,
        "POD_NAME": "engine-5d8f-abcde",
        "POD_UID": POD_UID,
        "POD_NAMESPACE": "stories",
        "NODE_NAME": "node-3",
        "CONTAINER_NAME": "agent",
        "K8S_CLUSTER_NAME": "eu-1",
    }
    files = {
        "proc/sys/kernel/hostname": "engine-5d8f-abcde\n",
        "proc/self/cgroup": f"0::/kubepods.slice/cri-containerd-{ID}.scope",
        "root/etc/machine-id": MACHINE_ID,
    }
    assert dict(detect_resource(surroundings(files, environ), {}).attributes) == {
        "service.name": "unknown_service",
        "host.arch": "amd64",
        "host.name": "node-3",
        "os.type": "linux",
        "container.id": ID,
        "k8s.cluster.name": "eu-1",
        "k8s.node.name": "node-3",
        "k8s.namespace.name": "stories",
        "k8s.pod.name": "engine-5d8f-abcde",
        "k8s.pod.uid": POD_UID,
        "k8s.container.name": "agent",
    }


def test_a_pod_that_was_told_nothing(surroundings):
    files = {
        "root/var/run/secrets/kubernetes.io/serviceaccount/namespace": "stories",
        "proc/self/mountinfo": mount(f"/var/lib/kubelet/pods/{POD_UID}/etc-hosts", "/etc/hosts")
        + mount(f"/var/lib/kubelet/pods/{POD_UID}/containers/agent/1a2b3c4d", "/dev/termination-log"),
    }
    assert kubernetes(surroundings(files, IN_POD)) == {
        "k8s.namespace.name": "stories",
        "k8s.pod.uid": POD_UID,
        "k8s.container.name": "agent",
    }


def test_outside_a_pod_only_names_that_are_unmistakable_count(surroundings):
    environ = {"NODE_NAME": "built-in", "POD_NAME": "x", "K8S_NODE_NAME": "node-3"}
    assert kubernetes(surroundings({}, environ)) == {"k8s.node.name": "node-3"}


@pytest.mark.parametrize(
    ("firmware", "found"),
    [
        (
            {"sys_vendor": "Amazon EC2", "product_name": "m7i.large", "board_asset_tag": "i-0abcd1234efgh5678"},
            {
                "cloud.provider": "aws",
                "cloud.platform": "aws_ec2",
                "host.id": "i-0abcd1234efgh5678",
                "host.type": "m7i.large",
            },
        ),
        (
            {"sys_vendor": "Xen", "product_name": "HVM domU", "bios_version": "4.11.amazon"},
            {"cloud.provider": "aws", "cloud.platform": "aws_ec2"},
        ),
        (
            {"sys_vendor": "Google", "product_name": "Google Compute Engine"},
            {"cloud.provider": "gcp", "cloud.platform": "gcp_compute_engine"},
        ),
        (
            {"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77"},
            {"cloud.provider": "azure", "cloud.platform": "azure.vm"},
        ),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"}, {}),
        (
            {"sys_vendor": "QEMU", "chassis_asset_tag": "OracleCloud.com"},
            {"cloud.provider": "oracle_cloud", "cloud.platform": "oracle_cloud_compute"},
        ),
        (
            {"sys_vendor": "Alibaba Cloud", "product_name": "Alibaba Cloud ECS"},
            {"cloud.provider": "alibaba_cloud", "cloud.platform": "alibaba_cloud_ecs"},
        ),
        (
            {"sys_vendor": "Tencent Cloud", "product_name": "CVM"},
            {"cloud.provider": "tencent_cloud", "cloud.platform": "tencent_cloud_cvm"},
        ),
        (
            {"sys_vendor": "Hetzner", "product_name": "vServer"},
            {"cloud.provider": "hetzner", "cloud.platform": "hetzner.cloud_server"},
        ),
        ({"sys_vendor": "Vultr"}, {"cloud.provider": "vultr", "cloud.platform": "vultr.cloud_compute"}),
        ({"sys_vendor": "Akamai"}, {"cloud.provider": "akamai_cloud", "cloud.platform": "akamai_cloud.compute"}),
        ({"sys_vendor": "Dell Inc.", "product_name": "PowerEdge R650", "chassis_asset_tag": "rack 7"}, {}),
        ({}, {}),
    ],
)
def test_clouds_by_their_firmware(firmware, found):
    assert cloud(firmware) == found


def test_the_instance_is_the_hosts_id_in_a_cloud(surroundings):
    dmi = {
        "sys/class/dmi/id/sys_vendor": "Amazon EC2\n",
        "sys/class/dmi/id/product_name": "m7i.large\n",
        "sys/class/dmi/id/board_asset_tag": "i-0abcd1234efgh5678\n",
    }
    resource = detect_resource(surroundings({**PLAIN_HOST, **dmi}), {})
    assert (resource["host.id"], resource["host.type"]) == ("i-0abcd1234efgh5678", "m7i.large")
    assert resource["host.name"] == "db-1"
