import pytest

from novel_agent.inputs.host.cgroup_tree import (
    Group,
    Hierarchy,
    Search,
    find_hierarchies,
    group_at,
    own_groups,
    parse_mount_roots,
    parse_own_paths,
)
from novel_agent.inputs.host.kernel import Kernel

V2 = [Hierarchy("", "fs/cgroup")]


def kernel_of(root) -> Kernel:
    return Kernel(str(root / "proc"), str(root / "sys"), str(root / "root"))


def directories(*paths: str) -> dict[str, str]:
    return {f"sys/fs/cgroup/{path}/cgroup.procs": "" for path in paths}


def test_one_hierarchy_has_everything_under_v2(tree):
    root = tree({"sys/fs/cgroup/cgroup.controllers": "cpu memory\n", **directories("memory")})
    assert find_hierarchies(kernel_of(root)) == V2


def test_each_controller_has_its_own_under_v1_and_v2_may_stand_beside_them(tree):
    root = tree(directories("cpu", "cpuacct", "memory", "systemd", "unified"))
    assert find_hierarchies(kernel_of(root)) == [
        Hierarchy("", "fs/cgroup/unified"),
        Hierarchy("cpu", "fs/cgroup/cpu"),
        Hierarchy("cpuacct", "fs/cgroup/cpuacct"),
        Hierarchy("memory", "fs/cgroup/memory"),
    ]


def test_reads_own_paths_of_v1_and_v2():
    assert parse_own_paths(b"9:name=systemd:/\n4:memory:/a:b\n3:cpu,cpuacct:/a\n0::/c\n") == {
        "name=systemd": "/",
        "memory": "/a:b",
        "cpu": "/a",
        "cpuacct": "/a",
        "": "/c",
    }


@pytest.mark.parametrize("data", [b"nonsense\n", b"0:\n", b"0::relative\n", b"\xff\n"])
def test_refuses_own_paths_the_kernel_does_not_write(data):
    with pytest.raises(ValueError, match="not a line"):
        parse_own_paths(data)


def test_reads_which_group_is_mounted_where():
    mountinfo = (
        b"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
        b"35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,nosuid shared:5 - cgroup cgroup rw,memory\n"
        b"41 31 0:38 /../.. /host/sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
        b"torn"
    )
    assert parse_mount_roots(mountinfo) == {"/sys/fs/cgroup/memory": "/docker/abc", "/host/sys/fs/cgroup": "/../.."}


def test_own_group_under_v2(tree):
    root = tree({"proc/self/cgroup": "0::/system.slice/a.service\n", **directories("system.slice/a.service")})
    assert own_groups(kernel_of(root), V2) == [
        Group("/system.slice/a.service", {"": "fs/cgroup/system.slice/a.service"})
    ]


def test_controllers_of_v1_that_disagree_make_two_groups(tree):
    root = tree({"proc/self/cgroup": "3:cpu:/\n2:memory:/a\n", **directories("cpu", "memory/a")})
    hierarchies = [Hierarchy("cpu", "fs/cgroup/cpu"), Hierarchy("memory", "fs/cgroup/memory")]
    assert own_groups(kernel_of(root), hierarchies) == [
        Group("/", {"cpu": "fs/cgroup/cpu"}),
        Group("/a", {"memory": "fs/cgroup/memory/a"}),
    ]


def test_a_container_without_a_namespace_finds_itself_at_the_mount(tree):
    root = tree({"proc/self/cgroup": "2:memory:/docker/abc\n", **directories("memory")})
    hierarchy = Hierarchy("memory", "fs/cgroup/memory", "/docker/abc")
    assert own_groups(kernel_of(root), [hierarchy]) == [Group("/docker/abc", {"memory": "fs/cgroup/memory"})]


def test_the_mount_is_found_in_mountinfo(tree):
    root = tree(directories("memory"))
    tree({"proc/self/mountinfo": f"35 31 0:32 /docker/abc {root}/sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"})
    assert find_hierarchies(kernel_of(root)) == [Hierarchy("memory", "fs/cgroup/memory", "/docker/abc")]


@pytest.mark.parametrize(
    ("path", "hierarchy"),
    [
        ("/../other", V2[0]),
        ("/", Hierarchy("", "fs/cgroup", "/../..")),
        ("/elsewhere", Hierarchy("", "fs/cgroup", "/docker/abc")),
        ("/docker/abcd", Hierarchy("", "fs/cgroup", "/docker/abc")),
        ("/gone", V2[0]),
    ],
)
def test_a_group_out_of_sight_is_not_taken_for_another(tree, path, hierarchy):
    root = tree({"proc/self/cgroup": f"0::{path}\n", **directories("other", ".")})
    assert own_groups(kernel_of(root), [hierarchy]) == []


SLICES = directories(
    "system.slice/novel-engine.service",
    "system.slice/novel-engine-agent.service",
    "system.slice/other.service/novel-engine.service",
    "user.slice/user-1000.slice/user@1000.service/app.slice/novel-engine.service",
    "docker/aaa",
    "docker/bbb",
)


@pytest.mark.parametrize(
    ("patterns", "paths"),
    [
        (
            ("novel-engine.service",),
            [
                "/system.slice/novel-engine.service",
                "/user.slice/user-1000.slice/user@1000.service/app.slice/novel-engine.service",
            ],
        ),
        (("novel-engine-*.service",), ["/system.slice/novel-engine-agent.service"]),
        (("/docker/*",), ["/docker/aaa", "/docker/bbb"]),
        (("/docker/[!a]*", "docker/aaa/"), ["/docker/aaa", "/docker/bbb"]),
        (("/*/*-agent.service",), ["/system.slice/novel-engine-agent.service"]),
        (("/",), ["/"]),
        (("/docker/ccc", "nothing.service", "cgroup.procs", "/docker/aaa/cgroup.procs"), []),
        ((), []),
    ],
)
def test_finds_groups_by_path_and_by_unit(tree, patterns, paths):
    search = Search(kernel_of(tree(SLICES)), patterns)
    assert search.find(V2) == paths


def test_knows_when_looking_again_could_find_others(tree):
    root = tree(SLICES)
    search = Search(kernel_of(root), ("novel-*.service", "/docker/*"))
    search.find(V2)
    assert not search.is_stale()
    tree(directories("docker/ccc"))
    assert search.is_stale()
    assert "/docker/ccc" in search.find(V2)
    assert not search.is_stale()


def test_searches_a_bounded_number_of_directories(tree):
    root = tree(directories(*[f"s{number}.slice" for number in range(600)]))
    search = Search(kernel_of(root), ("*.slice",))
    assert len(search.find(V2)) == 600  # all in the first directory; of the 600 below it, 511 are looked into
    assert len(search._looked_in) == 512


def test_a_group_has_the_hierarchies_that_know_it(tree):
    kernel = kernel_of(tree(directories("memory/a", "pids")))
    hierarchies = [Hierarchy("memory", "fs/cgroup/memory"), Hierarchy("pids", "fs/cgroup/pids")]
    assert group_at(kernel, hierarchies, "/a") == Group("/a", {"memory": "fs/cgroup/memory/a"})
