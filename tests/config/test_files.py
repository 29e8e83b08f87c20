import os
from types import SimpleNamespace

import pytest

from novel_agent.config import files
from novel_agent.config.model import Sources

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")


def test_reads_the_main_file_and_then_drop_ins_by_name(place):
    place.write("agent.yaml", "agent: {listen: '127.0.0.1:1'}")
    place.write("conf.d/20-b.yaml", "agent: {listen: '127.0.0.1:3'}")
    place.write("conf.d/10-a.yaml", "agent: {listen: '127.0.0.1:2'}")
    loaded = place.load()
    assert loaded.config.agent.listen == "127.0.0.1:3"
    assert loaded.files == [str(place.root / name) for name in ("agent.yaml", "conf.d/10-a.yaml", "conf.d/20-b.yaml")]


def test_says_which_files_it_does_not_read(place):
    for name in ("a.yml", "b.json", ".hidden.yaml", "README", "c.yaml~"):
        place.write(f"conf.d/{name}", "x: {")
    (place.conf_dir / "d.yaml").mkdir()
    loaded = place.load()
    assert loaded.files == []
    assert sorted(notice.replace(f"{place.root}/", "") for notice in loaded.notices) == [
        "conf.d/a.yml is not read: only files named *.yaml are",
        "conf.d/b.json is not read: only files named *.yaml are",
        "conf.d/d.yaml is a directory and is not read",
    ]


def test_a_path_that_is_named_must_exist(place):
    errors, notices = [], []
    sources = Sources(config=str(place.root / "no.yaml"), conf_dir=str(place.root / "no.d"))
    assert files.read_sources(sources, errors, notices) == []
    assert [str(error).replace(f"{place.root}/", "") for error in errors] == [
        "no.d: cannot be read: it does not exist",
        "no.yaml: cannot be read: it does not exist",
    ]


def test_default_places_need_not_exist(place, monkeypatch):
    monkeypatch.setattr(files, "DEFAULT_CONFIG", str(place.config))
    monkeypatch.setattr(files, "DEFAULT_CONF_DIR", str(place.root / "none"))
    errors = []
    assert files.read_sources(Sources(), errors, []) == []
    place.write("agent.yaml", "agent:")
    assert [file.path for file in files.read_sources(Sources(), errors, [])] == [str(place.config)]
    assert files.read_sources(Sources(config=""), errors, []) == []
    assert errors == []


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(place):
    os.mkfifo(place.conf_dir / "a.yaml")
    assert place.mistakes() == ["conf.d/a.yaml: cannot be read: is not a regular file"]


def test_a_link_to_nowhere_is_a_mistake(place):
    (place.conf_dir / "a.yaml").symlink_to(place.root / "gone")
    assert place.mistakes() == ["conf.d/a.yaml: cannot be read: it does not exist"]


def test_a_link_to_a_file_is_followed(place):
    place.write("real", "agent: {listen: ':1'}")
    (place.conf_dir / "a.yaml").symlink_to(place.root / "real")
    assert place.load().config.agent.listen == ":1"


def test_a_file_that_everyone_may_write_is_refused_with_the_remedy(place):
    path = place.write("conf.d/a.yaml", "agent:")
    path.chmod(0o646)
    (mistake,) = place.mistakes()
    assert mistake == ("conf.d/a.yaml: may be written by everyone; run: chmod go-w conf.d/a.yaml")


def test_a_drop_in_directory_that_everyone_may_write_is_refused_even_when_sticky(place):
    place.conf_dir.chmod(0o1777)
    assert place.mistakes() == [
        "conf.d: may be written by everyone; run: chmod go-w conf.d",
    ]


def test_the_directory_of_the_main_file_may_be_shared_when_sticky(place):
    place.write("agent.yaml", "agent:")
    place.root.chmod(0o1777)
    place.load()
    place.root.chmod(0o777)
    wrong = f"stands in {place.root}, which may be written by everyone; run: chmod go-w {place.root}"
    assert place.mistakes() == [f"agent.yaml: {wrong}", f"conf.d: {wrong}"]


def test_every_mistake_is_reported_beside_a_refused_file(place):
    place.write("conf.d/a.yaml", "agnt:").chmod(0o666)
    assert [mistake.split(":")[0] for mistake in place.mistakes()] == ["conf.d/a.yaml", "conf.d/a.yaml"]


def test_a_secret_or_certificate_that_everyone_may_write_is_refused(place):
    place.write("token", "x").chmod(0o666)
    place.write("agent.yaml", "agent: {auth: {token_file: token}}\n")
    assert place.mistakes() == [
        'agent.yaml:1: agent.auth.token_file: "token" may be written by everyone; run: chmod go-w token'
    ]
    place.write("agent.yaml", "export: [{name: a, endpoint: 'http://h', headers: {k_file: token}}]\n")
    assert place.mistakes() == [
        "agent.yaml:1: export[a].headers.k_file: token may be written by everyone; run: chmod go-w token"
    ]


@as_root
def test_a_group_that_may_write_must_be_private(place):
    path = place.write("agent.yaml", "agent:")
    path.chmod(0o664)
    os.chown(path, 0, 54321)
    assert place.mistakes() == ["agent.yaml: may be written by group 54321; run: chmod g-w agent.yaml"]
    os.chown(path, 0, 0)
    place.load()
    os.chown(path, 54321, 54321)
    assert place.load().notices == [f"{path} belongs to user 54321, who can change what this agent does"]


@pytest.mark.parametrize(
    ("group", "members", "is_private"),
    [("alice", [], True), ("alice", ["alice"], True), ("alice", ["alice", "bob"], False), ("staff", [], False)],
)
def test_a_private_group_is_named_as_its_owner_and_has_no_other_member(monkeypatch, group, members, is_private):
    import grp
    import pwd

    monkeypatch.setattr(pwd, "getpwuid", lambda user_id: SimpleNamespace(pw_name="alice", pw_gid=1000))
    monkeypatch.setattr(grp, "getgrgid", lambda group_id: SimpleNamespace(gr_name=group, gr_mem=members))
    assert files.is_private_group(1000, 1000) is is_private


def test_the_mode_does_not_matter_where_nobody_can_write(place, monkeypatch):
    place.write("agent.yaml", "agent:").chmod(0o666)
    place.conf_dir.chmod(0o777)
    monkeypatch.setattr(files.os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_RDONLY))
    place.load()


def test_a_name_that_is_no_text_is_passed_over(place):
    with open(os.fsencode(place.conf_dir) + b"/\xff.yaml", "w") as file:
        file.write("x: {")
    assert place.load().files == []


def test_a_drop_in_that_is_a_list_is_a_mistake(place):
    place.write("conf.d/a.yaml", "- a\n")
    place.write("conf.d/b.yaml", "hello\n")
    place.write("conf.d/c.yaml", "~\n")
    wrong = "a configuration is a mapping of sections, such as agent: and host:"
    assert place.mistakes() == [f"conf.d/a.yaml:1: {wrong}", f"conf.d/b.yaml:1: {wrong}"]


def test_a_link_into_a_directory_that_others_may_write_is_refused(place):
    (place.root / "open").mkdir()
    place.write("open/real.yaml", "agent: {log_level: debug}\n")
    (place.root / "agent.yaml").symlink_to("open/real.yaml")
    (place.conf_dir / "a.yaml").symlink_to("../open/real.yaml")
    place.load()
    (place.root / "open").chmod(0o777)
    refused = f"stands in {place.root}/open, which may be written by everyone; run: chmod go-w {place.root}/open"
    refused = refused.replace(f"{place.root}/", "")
    assert place.mistakes() == [f"agent.yaml: {refused}", f"conf.d/a.yaml: {refused}"]


def test_a_token_or_secret_that_others_may_replace_is_refused(place):
    (place.root / "open").mkdir()
    place.write("open/token", "secret\n").chmod(0o600)
    place.write(
        "agent.yaml",
        """\
        agent: {auth: {token_file: open/token}}
        export: [{name: a, endpoint: 'http://h', headers: {b_file: open/token}}]
        """,
    )
    assert place.load().config.export[0].headers == {"b": "secret"}
    (place.root / "open").chmod(0o777)
    refused = "stands in open, which may be written by everyone; run: chmod go-w open"
    token, secret = (mistake.replace(f"{place.root}/", "") for mistake in place.mistakes())
    assert token == f'agent.yaml:1: agent.auth.token_file: "open/token" {refused} (looked for open/token)'
    assert secret == f"agent.yaml:2: export[a].headers.b_file: open/token {refused}"
    (place.root / "open").chmod(0o1777)
    place.load()
