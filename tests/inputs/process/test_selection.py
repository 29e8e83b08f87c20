import pwd

import pytest
from fake_proc import NOW, group

from novel_agent.inputs.process.selection import Users


def names(watched) -> dict[str, int]:
    return {name: reading.processes for name, reading in watched.read().items()}


@pytest.mark.parametrize(
    ("criterion", "fits"),
    [
        ({"cmdline": "uvicorn api:app"}, True),
        ({"cmdline": "^python3 -m"}, True),
        ({"cmdline": "gunicorn"}, False),
        ({"exe": "/usr/bin/python3.*"}, True),
        ({"exe": "python3"}, False),
        ({"comm": "python3"}, True),
        ({"comm": "python"}, False),
        ({"user": "novel"}, True),
        ({"user": "1000"}, True),
        ({"user": "root"}, False),
        ({"unit": "novel.service"}, True),
        ({"unit": "user@1000.service"}, True),
        ({"unit": "novel"}, False),
        ({"cgroup": "app.slice/"}, True),
        ({"cgroup": "^/app"}, False),
        ({}, True),
        ({"comm": "python3", "user": "novel", "cmdline": "api"}, True),
        ({"comm": "python3", "user": "root", "cmdline": "api"}, False),
    ],
)
def test_every_given_criterion_must_hold(fake, watch, criterion, fits):
    fake.spawn(
        40,
        comm="python3",
        cmdline="python3 -m uvicorn api:app",
        exe="/usr/bin/python3.11",
        cgroup="0::/user.slice/user@1000.service/app.slice/novel.service\n",
    )
    assert names(watch(group("g", **criterion))) == {"g": int(fits)}


def test_the_first_group_that_fits_wins(fake, watch):
    fake.spawn(40, cmdline="nginx -g daemon off;")
    fake.spawn(41, cmdline="redis-server")
    watched = watch(group("web", cmdline="nginx"), group("rest", cmdline="."), group("never", cmdline="redis"))
    assert names(watched) == {"web": 1, "rest": 1, "never": 0}


def test_a_name_with_places_makes_one_group_a_value(fake, watch):
    fake.spawn(40, comm="nginx", exe="/usr/sbin/nginx", uid=33, cgroup="0::/system.slice/nginx.service\n")
    fake.spawn(41, comm="python3", exe="/usr/bin/python3.11 (deleted)", cgroup="0::/\n")
    fake.kernel_thread(9, "kworker/0:1-events")
    fake.kernel_thread(10, "kworker/3:0H")
    watched = watch(group("{comm}|{exe}|{user}|{unit}"))
    assert names(watched) == {
        "nginx|nginx|33|nginx.service": 1,
        "python3|python3.11|novel|none": 1,
        "kworker|none|root|none": 2,
    }


def test_other_braces_in_a_name_stay(fake, watch):
    fake.spawn(40, comm="a")
    assert names(watch(group("{pid}{comm}{0}"))) == {"{pid}a{0}": 1}


def test_kernel_threads_have_no_command_line(fake, watch):
    fake.kernel_thread(9, "kswapd0")
    assert names(watch(group("user", cmdline=".+"), group("kernel", comm="kswapd0"))) == {"user": 0, "kernel": 1}


def test_a_pid_file_names_the_process_of_now(fake, watch):
    pid_file = fake.root / "root" / "app.pid"
    fake.spawn(40)
    fake.spawn(41)
    watched = watch(group("app", pid_file="/app.pid", children=False))
    assert names(watched) == {"app": 0}
    pid_file.write_text("40\n")
    assert names(watched) == {"app": 1}
    assert watched.missing() == {}
    pid_file.write_text("41\n")
    fake.use(41, user=7)
    watched.read()
    fake.use(40, user=100)
    fake.use(41, user=5)
    assert watched.read()["app"].used[0] == 12
    pid_file.unlink()
    assert names(watched) == {"app": 0}


def test_a_pid_file_that_tells_nothing_is_counted(fake, watch):
    (fake.root / "root" / "app.pid").write_text("soon")
    watched = watch(group("app", pid_file="/app.pid"))
    assert names(watched) == {"app": 0}
    assert watched.missing() == {("pid_file", "unparsable"): 1}


@pytest.mark.parametrize(
    "executed",
    [
        {"comm": "nginx", "cmdline": "nginx"},
        {"flags": 0x400000, "cmdline": "nginx"},
        {"image": (1, 2), "cmdline": "nginx"},
    ],
)
def test_an_exec_is_noticed(fake, watch, executed):
    fake.spawn(40, comm="sh", cmdline="sh -c nginx", flags=0x400040)
    watched = watch(group("shell", cmdline="^sh"), group("web", cmdline="^nginx"))
    assert names(watched) == {"shell": 1, "web": 0}
    fake.change(40, **executed)
    assert names(watched) == {"shell": 0, "web": 1}


def test_facts_are_read_once(fake, watch):
    fake.spawn(40, cmdline="nginx")
    watched = watch(group("web", cmdline="nginx"))
    watched.read()
    fake.use(40, user=1)
    fake.change(40, cmdline="renamed")
    assert names(watched) == {"web": 1}


def test_a_young_process_that_renames_itself_is_noticed(fake, watch, clock):
    fake.spawn(40, cmdline="python3 launch", start=int((clock() - 1_700_000_000 - 5) * 100))
    watched = watch(group("web", cmdline="^web-worker"))
    assert names(watched) == {"web": 0}
    fake.change(40, cmdline="web-worker 1", user=1)
    clock.seconds += 15
    assert names(watched) == {"web": 1}
    fake.change(40, cmdline="something else", user=2)
    clock.seconds += 60
    assert names(watched) == {"web": 1}


def test_a_change_of_user_is_noticed_at_the_next_reading(fake, watch):
    fake.spawn(40, uid=0)
    watched = watch(group("privileged", user="root"), group("others"))
    assert names(watched) == {"privileged": 1, "others": 0}
    fake.change(40, uid=1000)
    watched.read()
    assert names(watched) == {"privileged": 0, "others": 1}


def test_what_the_kernel_does_not_tell_is_not_guessed(fake, watch, monkeypatch):
    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("novel_agent.inputs.process.selection.os.readlink", refuse)
    fake.spawn(40)
    watched = watch(group("any", exe=".*"), group("{exe}", comm="app"))
    assert names(watched) == {"any": 0, "unknown": 1}
    assert [entry for entry in watched.reading.missing if entry.figure == "exe"] == [
        ("exe", "permission", "CAP_SYS_PTRACE", 1)
    ]


def test_a_garbled_control_group_is_counted_and_does_not_fit(fake, watch):
    fake.spawn(40, cgroup="garbage\n")
    watched = watch(group("unit", unit="app.service"), group("{unit}"))
    assert names(watched) == {"unit": 0, "unknown": 1}
    assert watched.missing() == {("cgroup", "unparsable"): 1}


def test_users_are_asked_of_the_system_once_in_five_minutes(monkeypatch):
    asked = []

    def look_up(uid: int) -> pwd.struct_passwd:
        asked.append(uid)
        if uid == 7:
            raise KeyError(uid)
        return pwd.struct_passwd(("novel", "x", uid, uid, "", "/", "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwuid", look_up)
    users = Users("")
    for seconds in (NOW, NOW + 299):
        users.refresh(seconds)
        assert [users.name(1000), users.name(1000), users.name(7)] == ["novel", "novel", "7"]
    assert asked == [1000, 7]
    users.refresh(NOW + 300)
    assert (users.name(7), asked) == ("7", [1000, 7, 7])
    users.refresh(NOW - 9000)
    assert (users.name(7), asked) == ("7", [1000, 7, 7, 7])


def test_users_of_a_mounted_root_are_in_its_passwd(tmp_path):
    assert Users(str(tmp_path)).name(12) == "12"
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_bytes(b"broken\n\xff:x:11:1::/:\nnovel:x:12:12::/:\n")
    users = Users(str(tmp_path))
    assert (users.name(12), users.name(13)) == ("novel", "13")
