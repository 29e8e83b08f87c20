import pytest

from novel_agent.inputs.process import parse

STAT = (
    b"4242 (my (odd) app) S 17 4242 4242 0 -1 4194304 1201 340 7 2 150 60 30 10 20 0 3 0 987654 226115584 1999 "
    b"18446744073709551615 1 2 140737488347136 0 0 0 0 4096 81920 1 0 0 17 1 0 0 0 0 0 5 6 7 140737488348000 9 10 11 0\n"
)


def test_stat_survives_blanks_and_parentheses_in_the_name():
    stat = parse.stat(STAT)
    assert stat.comm == b"my (odd) app"
    assert (stat.state, stat.parent, stat.threads, stat.start) == ("S", 17, 3, 987654)
    assert (stat.user, stat.system, stat.children_user, stat.children_system) == (150, 60, 30, 10)
    assert (stat.minor_faults, stat.children_minor_faults) == (1201, 340)
    assert (stat.major_faults, stat.children_major_faults) == (7, 2)
    assert (stat.virtual_bytes, stat.resident_pages) == (226115584, 1999)
    assert not stat.is_kernel_thread


def test_stat_of_a_kernel_thread():
    line = b"14 (kworker/0:1-events) I 2 0 0 0 -1 69238880 0 0 0 0 0 4 0 0 20 0 1 0 21 0 0 18446744073709551615"
    stat = parse.stat(line + b" 0 0 0 0 0 0 0 2147483647 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n")
    assert (stat.comm, stat.state, stat.system, stat.is_kernel_thread) == (b"kworker/0:1-events", "I", 4, True)


@pytest.mark.parametrize(
    "other",
    [
        STAT.replace(b"my (odd) app", b"sh"),
        STAT.replace(b" 4194304 ", b" 4194368 "),  # PF_FORKNOEXEC
        STAT.replace(b"140737488347136", b"140737488111111"),
        STAT.replace(b"140737488348000", b"140737488222222"),
    ],
)
def test_an_exec_shows_in_the_name_the_fork_mark_or_the_memory_layout(other):
    assert parse.stat(STAT).executed != parse.stat(other).executed
    assert parse.stat(STAT).executed == parse.stat(STAT.replace(b" 150 60 ", b" 151 99 ")).executed


@pytest.mark.parametrize(
    "data", [b"", b"12", b"12 (sh", b"12 (sh) S 1 2 3", b"\0" * 300, STAT.replace(b" 150 ", b" x "), STAT[:120]]
)
def test_stat_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011
        parse.stat(data)


STATUS = (
    b"Name:\tapp\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t42\nUid:\t1000\t33\t1000\t1000\nGid:\t0\t0\t0\t0\n"
    b"VmRSS:\t    900 kB\nVmSwap:\t     12 kB\nThreads:\t1\nvoluntary_ctxt_switches:\t150\n"
    b"nonvoluntary_ctxt_switches:\t7\n"
)


def test_status_tells_the_effective_user_swap_and_switches():
    assert parse.status(STATUS) == (33, 12288, 150, 7)
    assert parse.status(STATUS + b"x86_Thread_features:\t\nx86_Thread_features_locked:\t\n") == (33, 12288, 150, 7)


def test_a_kernel_thread_has_nothing_swapped():
    assert parse.status(STATUS.replace(b"VmSwap:\t     12 kB\n", b"")).swapped_bytes == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        STATUS.replace(b"Uid", b"Gid"),
        STATUS.replace(b"33", b"me"),
        STATUS.replace(b"12 kB", b"kB"),
        STATUS.replace(b"\t150\n", b"\n"),
        STATUS.replace(b"nonvoluntary_ctxt_switches:\t7\n", b""),
    ],
)
def test_status_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011
        parse.status(data)


IO = b"rchar: 10\nwchar: 20\nsyscr: 3\nsyscw: 4\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 1\n"


def test_io_tells_what_reached_storage():
    assert parse.io(IO) == (4096, 8192)


@pytest.mark.parametrize("data", [b"", b"read_bytes: 1\n", IO.replace(b"4096", b"x"), IO.replace(b"rchar: 10\n", b"")])
def test_io_refuses_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011
        parse.io(data)


LIMITS = (
    b"Limit                     Soft Limit           Hard Limit           Units     \n"
    b"Max processes             96365                96365                processes \n"
    b"Max open files            1024                 524288               files     \n"
)


def test_limits_tell_the_soft_limit_of_open_files():
    assert parse.descriptor_limit(LIMITS) == 1024
    assert parse.descriptor_limit(LIMITS.replace(b"1024     ", b"unlimited")) is None


@pytest.mark.parametrize("data", [b"", LIMITS[:150], LIMITS.replace(b"1024", b"many")])
def test_limits_refuse_what_the_kernel_does_not_write(data):
    with pytest.raises(ValueError):  # noqa: PT011
        parse.descriptor_limit(data)


def test_smaps_rollup_tells_proportional_memory():
    rollup = b"55-7f ---p 0 00:00 0  [rollup]\nRss:  1736 kB\nPss:  298 kB\nPss_Dirty: 112 kB\nSwapPss:  4 kB\n"
    assert parse.smaps_rollup(rollup) == (305152, 4096)
    with pytest.raises(ValueError, match="SwapPss"):
        parse.smaps_rollup(b"x\nPss:  298 kB\n")


@pytest.mark.parametrize(
    ("data", "name"), [(b"do_epoll_wait", "do_epoll_wait"), (b"0", ""), (b"", ""), (b"do_wait\n", "do_wait")]
)
def test_wchan_is_empty_where_nothing_is_waited_for(data, name):
    assert parse.wchan(data) == name


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"python3\0-m\0novel\0", "python3 -m novel"),
        (b"nginx: worker process\0\0\0\0\0", "nginx: worker process"),
        (b"", ""),
        (b"a\0\xff\xfe\0", "a ��"),
    ],
)
def test_the_command_line_is_its_words_joined_by_blanks(data, words):
    assert parse.command_line(data) == words


def test_control_groups_put_the_unified_hierarchy_first():
    hybrid = b"9:cpu,cpuacct:/user.slice\n1:name=systemd:/user.slice/a.scope\n0::/user.slice/a.scope\n"
    assert parse.control_groups(hybrid) == ("/user.slice/a.scope", "/user.slice")
    assert parse.control_groups(b"3:memory:/x\n1:name=systemd:/s/b.service\n") == ("/s/b.service", "/x")
    assert parse.control_groups(b"") == ()
    with pytest.raises(ValueError):  # noqa: PT011
        parse.control_groups(b"garbage\n")


@pytest.mark.parametrize(
    ("path", "units"),
    [
        ("/system.slice/nginx.service", ("nginx.service",)),
        ("/system.slice/system-getty.slice/getty@tty1.service", ("getty@tty1.service",)),
        ("/system.slice/docker.service/supervised", ("docker.service",)),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/novel.service",
            ("user@1000.service", "novel.service"),
        ),
        ("/kubepods.slice/kubepods-pod1.slice/cri-containerd-9f.scope", ("cri-containerd-9f.scope",)),
        ("/system.slice/_cpu.service", ("cpu.service",)),
        ("/init.scope", ("init.scope",)),
        ("/", ()),
        ("/docker/0123abc", ()),
    ],
)
def test_units_of_a_control_group(path, units):
    assert parse.units(path) == units
