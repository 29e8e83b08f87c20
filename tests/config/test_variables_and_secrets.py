import pytest

EXPORT = "export:\n  - name: a\n    endpoint: https://h:4318\n"


def headers(place, text, **environ):
    place.write("agent.yaml", EXPORT + f"    headers: {text}\n")
    return place.load(environ=environ).config.export[0].headers


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "one"),
        ("x${A}y${A}z", "xoneyonez"),
        ("'${A}'", "one"),
        ("${B:-two}", "two"),
        ("${EMPTY:-two}", "two"),
        ("${EMPTY}", ""),
        ("${NUMBER}", "5"),
        ("${SWITCH}", "off"),
        ("${B:-}", ""),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("a$b$", "a$b$"),
        ("$$$$", "$$"),
        ("${YAML}", "{a: [b"),
        ("${B:-a:-b}", "a:-b"),
    ],
)
def test_variables_are_filled_in(place, text, value):
    place.write("agent.yaml", f"resource:\n  attributes:\n    x: {text}\n")
    environ = {"A": "one", "EMPTY": "", "NUMBER": "5", "SWITCH": "off", "YAML": "{a: [b"}
    assert place.load(environ=environ).config.resource.attributes == {"x": value}


def test_what_a_variable_holds_has_the_type_that_is_wanted(place):
    place.write(
        "agent.yaml",
        """\
        agent: {budget: {cpu_percent: "${CPU}", memory: "${MEMORY:-64MiB}"}, listen: "${HOST}:${PORT:-9090}"}
        processes: [{name: a, children: "${CHILDREN}"}]
        """,
    )
    config = place.load(environ={"CPU": "2.5", "HOST": "127.0.0.1", "CHILDREN": "no"}).config
    assert (config.agent.budget.cpu_percent, config.agent.budget.memory_bytes) == (2.5, 67_108_864)
    assert config.agent.listen == "127.0.0.1:9090"
    assert config.processes[0].children is False


def test_an_empty_variable_unsets_what_may_be_unset(place):
    place.write("agent.yaml", "agent: {auth: {token_file: '${TOKEN_FILE:-}'}}\n")
    assert place.load().config.agent.auth.token_file is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("${A}", "the environment variable A is not set; set it or write ${A:-default}"),
        ("'${A B}'", '"${A B}" is not ${VAR} or ${VAR:-default}; a dollar sign itself is $$'),
        ("'${1A}'", '"${1A}" is not ${VAR} or ${VAR:-default}; a dollar sign itself is $$'),
        ("'${}'", '"${}" is not ${VAR} or ${VAR:-default}; a dollar sign itself is $$'),
        ("'${A'", '"${A" is not ${VAR} or ${VAR:-default}; a dollar sign itself is $$'),
    ],
)
def test_a_variable_that_cannot_be_filled_in_is_a_mistake(mistakes_in, text, problem):
    assert mistakes_in(f"resource:\n  attributes:\n    x: {text}\n") == [f"3: resource.attributes.x: {problem}"]


def test_variables_in_keys_stay(place):
    place.write("agent.yaml", "resource: {attributes: {'${A}': b}}\n")
    assert place.load(environ={"A": "x"}).config.resource.attributes == {"${A}": "b"}


def test_a_secret_may_stand_in_a_file(place):
    place.write("token", "Bearer abc\n")
    assert headers(place, "{authorization_file: token, x: y}") == {"authorization": "Bearer abc", "x": "y"}
    origin = place.load().origins["export[a].headers.authorization"]
    assert origin == f"{place.config}:4, read from {place.root}/token"


def test_only_one_newline_is_taken_off_a_secret(place):
    place.write("token", b" abc \r\n")
    assert headers(place, "{k_file: token}") == {"k": " abc "}


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("{k_file: gone}", "headers.k_file: gone cannot be read: it does not exist"),
        ("{k_file: conf.d}", "headers.k_file: conf.d cannot be read: is not a regular file"),
        ("{k_file: binary}", "headers.k_file: binary is not UTF-8"),
        ("{k_file: large}", "headers.k_file: large is larger than 64KiB"),
        ("{k_file: two}", "headers.k: holds a line break or a control character"),
        ("{k_file: [two]}", "headers.k_file: is a list; write the path of a file that holds the secret"),
        ("{k_file: }", "headers.k_file: is empty; write the path of a file that holds the secret"),
        ("{k: a, k_file: one}", "headers.k_file: is given beside k (line 4); keep one of the two"),
    ],
)
def test_a_secret_that_cannot_be_read_is_a_mistake(place, text, mistake):
    place.write("binary", b"\xff")
    place.write("large", "x" * 65_537)
    place.write("one", "1")
    place.write("two", "1\n2\n")
    place.write("agent.yaml", EXPORT + f"    headers: {text}\n")
    assert place.mistakes() == [f"agent.yaml:4: export[a].{mistake}"]


def test_mistakes_never_show_a_secret(mistakes_in):
    assert mistakes_in(EXPORT + '    headers: {a: 12345, b: off, c: [x], d: "x\\ny"}\n') == [
        "4: export[a].headers.a: is a number where a text is wanted; put it in quotes",
        "4: export[a].headers.b: is a boolean in YAML, as on, off, yes, no, true and false are; put it in quotes",
        "4: export[a].headers.c: is a list; write a secret",
        "4: export[a].headers.d: holds a line break or a control character",
    ]


def test_mistakes_never_show_the_password_of_a_url(mistakes_in):
    (mistake,) = mistakes_in("export: [{name: a, endpoint: 'ftp://me:hunter2@h?token=hunter2'}]\n")
    assert "hunter2" not in mistake
    assert '"ftp://me:********@h?token=********" is not an http:// or https:// URL' in mistake
