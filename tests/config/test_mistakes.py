"""Every kind of mistake, as an operator makes it."""

import pytest

EXPORT = "export:\n  - name: a\n    endpoint: http://h:4318\n"

UNKNOWN_KEYS = [
    ("agnt: {}", "1: agnt: unknown key; did you mean agent?"),
    ("agent: {log-level: info}", "1: agent.log-level: unknown key; did you mean log_level?"),
    ("agent: {Listen: ':1'}", "1: agent.Listen: unknown key; did you mean listen?"),
    (
        "zebra: 1",
        "1: zebra: unknown key; known here: agent, resource, host, processes, otlp_receiver, traces, logs, export",
    ),
    ("resource: {zebra: 1}", "1: resource.zebra: unknown key; only attributes is known here"),
    ("logz: []", "1: logz: unknown key; did you mean logs?"),
    ("'': 1", "1: unknown key; known here: agent, resource, host, processes, otlp_receiver, traces, logs, export"),
    (
        "processes: [{name: a, match: {cmd_line: x}}]",
        "1: processes[a].match.cmd_line: unknown key; did you mean cmdline?",
    ),
]
TYPES = [
    ("agent: x", '1: agent: is the text "x"; write a mapping, its options one a line below it'),
    ("agent:\n  - listen: x", "1: agent: is a list; write a mapping, its options one a line below it"),
    ("processes: {name: a}", "1: processes: is a mapping; write a list, each item beginning with - name:"),
    ("processes: a", '1: processes: is the text "a"; write a list, each item beginning with - name:'),
    ("processes: [a]", '1: processes[0]: is the text "a"; write a mapping, its options one a line below it'),
    ("agent: {allowed_hosts: a}", '1: agent.allowed_hosts: is the text "a"; write a list: [a]'),
    ("agent: {allowed_hosts: {a: b}}", "1: agent.allowed_hosts: is a mapping; write a list"),
    ("agent: {allowed_hosts: [[a]]}", "1: agent.allowed_hosts[0]: is a list; write a host"),
    (
        "resource: {attributes: [a]}",
        "1: resource.attributes: is a list; write a mapping of names to values "
        "such as {service.name: novel-engine, deployment.environment.name: production}",
    ),
    ("resource: {attributes: {'': b}}", "1: resource.attributes: holds an empty name"),
    ("agent: {listen: [a]}", "1: agent.listen: is a list; write HOST:PORT"),
    ("agent: {log_level: [a]}", "1: agent.log_level: is a list; write one of debug, error, info, warning"),
    ("agent: {budget: {cpu_percent: [5]}}", "1: agent.budget.cpu_percent: is a list; write a decimal number"),
    ("agent: {budget: {memory: {a: b}}}", "1: agent.budget.memory: is a mapping; write a size"),
]
NOTHING = [
    ("host:\n  interval:", "2: host.interval: has no value; write a duration, or remove the line"),
    ("host: {interval: ~}", "1: host.interval: has no value; write a duration, or remove the line"),
    (
        "agent:\n  log_level:\n",
        "2: agent.log_level: has no value; write one of debug, error, info, warning, or remove the line",
    ),
    ("resource:\n  attributes:\n    a:\n", "3: resource.attributes.a: has no value; write a text, or remove the line"),
    (EXPORT + "    signals:\n", "4: export[a].signals: holds 0 values; at least 1 must be given"),
    ("processes: [{name: ''}]", '1: processes[].name: "" is empty'),
]
BOOLEANS = [
    ("processes: [{name: a, threads: 'yes'}]", "1: processes[a].threads: is text; write yes without quotes"),
    ("processes: [{name: a, threads: 1}]", "1: processes[a].threads: is the number 1; write true or false"),
    ("processes: [{name: a, threads: maybe}]", '1: processes[a].threads: is the text "maybe"; write true or false'),
    (
        "resource: {attributes: {a: off}}",
        '1: resource.attributes.a: is a boolean in YAML, as on, off, yes, no, true and false are; put it in quotes: "off"',
    ),
    (
        "processes: [{name: a, match: {comm: yes}}]",
        "1: processes[a].match.comm: is a boolean in YAML, as on, off, yes, no, true and false are; "
        'put it in quotes: "yes"',
    ),
]
NUMBERS = [
    (
        "resource: {attributes: {a: 1.10}}",
        '1: resource.attributes.a: is a number where a text is wanted; put it in quotes: "1.10"',
    ),
    (
        "resource: {attributes: {a: 010}}",
        '1: resource.attributes.a: is a number where a text is wanted; put it in quotes: "010"',
    ),
    ("processes: [{name: '{comm}', top: '5'}]", "1: processes[{comm}].top: is text; write 5 without quotes"),
    (
        "processes: [{name: '{comm}', top: 5.5}]",
        "1: processes[{comm}].top: is the number 5.5; write a whole decimal number such as 10",
    ),
    (
        "processes: [{name: '{comm}', top: 010}]",
        "1: processes[{comm}].top: is the number 010; write a whole decimal number such as 10",
    ),
    (
        "processes: [{name: '{comm}', top: 0x10}]",
        "1: processes[{comm}].top: is the number 0x10; write a whole decimal number such as 10",
    ),
    (
        "processes: [{name: '{comm}', top: on}]",
        "1: processes[{comm}].top: is the boolean on; write a whole decimal number such as 10",
    ),
    ("processes: [{name: '{comm}', top: 0}]", "1: processes[{comm}].top: is 0; it must be at least 1"),
    ("processes: [{name: '{comm}', top: 1001}]", "1: processes[{comm}].top: is 1001; it must be at most 1000"),
    (
        f"processes: [{{name: '{{comm}}', top: {'9' * 19}}}]",
        f'1: processes[{{comm}}].top: "{"9" * 19}" is too large',
    ),
    ("agent: {budget: {cpu_percent: .nan}}", '1: agent.budget.cpu_percent: is the text ".nan"; write a decimal number'),
    ("agent: {budget: {cpu_percent: 1e999}}", '1: agent.budget.cpu_percent: "1e999" is too large'),
    ("agent: {budget: {cpu_percent: 0}}", "1: agent.budget.cpu_percent: is 0; it must be more than 0"),
    ("agent: {budget: {memory: 1MiB}}", "1: agent.budget.memory: is 1MiB; it must be at least 32MiB"),
    ("agent: {budget: {memory: 64M}}", '1: agent.budget.memory: "64M" has the unknown unit M; write 64MiB'),
    ("host: {interval: 15}", '1: host.interval: "15" has no unit; write 15s if seconds are meant'),
    ("host: {interval: 500ms}", "1: host.interval: is 500ms; it must be at least 1s"),
    (
        "host: {interval: 1:30}",
        '1: host.interval: "1:30" is not a duration; write one such as 500ms, 15s, 5m, 1h30m or 7d',
    ),
]
TEXTS = [
    (
        "agent: {log_level: verbose}",
        '1: agent.log_level: "verbose" is not known; write one of debug, error, info, warning',
    ),
    ("agent: {log_level: INFO}", '1: agent.log_level: "INFO" is not known; did you mean info?'),
    ("agent: {log_level: warn}", '1: agent.log_level: "warn" is not known; did you mean warning?'),
    (
        EXPORT + "    signals: [metrics, metric]",
        '4: export[a].signals[1]: "metric" is not known; did you mean metrics?',
    ),
    ("agent: {listen: localhost}", '1: agent.listen: "localhost" has no port; write localhost:9090'),
    ("agent: {listen: 9090}", '1: agent.listen: "9090" has no host; write 127.0.0.1:9090, or :9090 for every address'),
    (
        "agent: {listen: '::1:9090'}",
        '1: agent.listen: "::1:9090" is not HOST:PORT; an IPv6 address stands in brackets, as [::1]:9090',
    ),
    ("agent: {listen: 'a:65536'}", '1: agent.listen: "a:65536" has the port 65536; ports end at 65535'),
    ("agent: {listen: 'http://a:1/'}", '1: agent.listen: "http://a:1/" is a URL; write HOST:PORT, as a:1'),
    (
        "agent: {listen: 'a b:1'}",
        '1: agent.listen: "a b:1" is not HOST:PORT; write for example 127.0.0.1:9090 or [::1]:9090',
    ),
    ("agent: {listen: ''}", '1: agent.listen: "" has no port; write 127.0.0.1:9090'),
    ("agent: {state_dir: ''}", '1: agent.state_dir: "" is empty'),
    (
        'agent: {allowed_hosts: ["a\\nb"]}',
        '1: agent.allowed_hosts[0]: "a\\x0ab" holds a line break or a control character',
    ),
    (
        "processes: [{name: a, match: {exe: 'a('}}]",
        '1: processes[a].match.exe: "a(" is not a regular expression: missing ), unterminated subpattern at character 2',
    ),
    (
        "processes: [{name: a, match: {exe: 'a{99999999999}'}}]",
        '1: processes[a].match.exe: "a{99999999999}" is not a regular expression: its repetitions or its nesting are too large',
    ),
    (
        "processes: [{name: a, match: {comm: a-name-longer-than-15}}]",
        "1: processes[a].match.comm: is longer than the kernel keeps; write a-name-longer-t",
    ),
    (
        "processes: [{name: 'x-{com}'}]",
        '1: processes[x-{com}].name: "x-{com}" holds the unknown placeholder {com}; did you mean {comm}?',
    ),
    (
        "processes: [{name: 'x-{zzz}'}]",
        '1: processes[x-{zzz}].name: "x-{zzz}" holds the unknown placeholder {zzz}; known are {comm}, {exe}, {user} and {unit}',
    ),
    (
        "processes: [{name: 'x{'}]",
        '1: processes[x{].name: "x{" holds a lone brace; placeholders are {comm}, {exe}, {user} and {unit}',
    ),
    (
        "agent: {auth: {token_file: /nowhere/t}}",
        '1: agent.auth.token_file: "/nowhere/t" cannot be read: it does not exist',
    ),
]
URLS = [
    ("localhost:4318", '"localhost:4318" has no scheme; write http://localhost:4318 or https://localhost:4318'),
    ("ftp://h", '"ftp://h" is not an http:// or https:// URL'),
    ("http://", '"http://" is not a URL of the form http://HOST:PORT/PATH'),
    ("http://h:0", '"http://h:0" has no valid port; ports go from 1 to 65535'),
    ("http://h:70000", '"http://h:70000" has no valid port; ports go from 1 to 65535'),
    ("http://h:", '"http://h:" has no valid port; ports go from 1 to 65535'),
    ("http://h/?a=b", '"http://h/?a=b" has a query or a fragment, which cannot be sent; end it before that'),
    ("http://h h", '"http://h h" is not a URL of the form http://HOST:PORT/PATH'),
]
TOGETHER = [
    (
        "processes: [{name: a, top: 5}]",
        "1: processes[a].top: needs a name with a placeholder such as {comm}; a plain name is one group",
    ),
    (
        "agent: {tls: {cert_file: agent.yaml}}",
        "1: agent.tls.key_file: is missing; write a file such as /etc/novel-engine-agent/tls.key",
    ),
    (
        EXPORT.replace("http:", "https:") + "    tls: {cert_file: agent.yaml}",
        "4: export[a].tls.cert_file: needs key_file beside it",
    ),
    (
        EXPORT.replace("http:", "https:") + "    tls: {key_file: agent.yaml}",
        "4: export[a].tls.key_file: needs cert_file beside it",
    ),
    (
        EXPORT + "    tls: {server_name: x}",
        "4: export[a].tls: is set, but endpoint is http://, so nothing would be encrypted; write https://",
    ),
    (
        EXPORT.replace(":4318", ":4318/v1/metrics"),
        "3: export[a].endpoint: ends in the signal's path, which is appended; write http://h:4318",
    ),
    (
        EXPORT.replace(":4318", ":4317/x") + "    protocol: grpc",
        "3: export[a].endpoint: has the path /x, but gRPC takes none; end it after the port",
    ),
    (
        "export: [{name: a}]",
        "1: export[a].endpoint: is missing; write a URL such as https://collector.example.org:4318",
    ),
    (
        "processes:\n  - name: a\n  - name: b\n  - name: a\n",
        "4: processes[a].name: stands twice, first in line 2; names are unique",
    ),
]
LOGS = [
    ("{journal: {}, paths: [/a]}", "paths: or journal: give one of the two"),
    ("{}", "paths: or journal: give one of the two"),
    ("{paths: [/a], format: regex}", "pattern: is missing; format regex needs a regular expression with named groups"),
    (
        "{paths: [/a], format: regex, pattern: '(a)'}",
        "pattern: has no named group; write (?P<message>.*) for what is to become the body",
    ),
    ("{paths: [/a], pattern: '(?P<a>x)'}", "pattern: is for format regex"),
    ("{paths: [/a], format: jsno}", 'format: "jsno" is not known; did you mean json?'),
    (
        "{paths: [/a], timezone: Mars}",
        "timezone: is 'Mars', which this machine does not know; write a name such as Europe/Berlin",
    ),
    ("{paths: [/a], multiline: {}}", "multiline.preset: or start: give one of the two"),
    (
        "{paths: [/a], multiline: {start: '(?=x)'}}",
        'multiline.start: "(?=x)" is not a regular expression of RE2, which has no look-around and no back references',
    ),
    (
        "{paths: [/a], keys: {time: ['a\"b']}}",
        "keys.time: has 'a\"b'; the name of a key is not empty and holds no quote or backslash",
    ),
    ("{journal: {}, format: json}", "format: is for files; the journal has its own"),
    (
        "{journal: {units: ['a*'], kernel: true}}",
        "journal.units: has a wildcard, which journalctl does not combine with `kernel`; write a source of its own for one",
    ),
    (
        "{paths: [/a], processors: [{redact: [emial]}]}",
        'processors[0].redact[0]: "emial" is not known; did you mean email?',
    ),
    (
        "{paths: [/a], processors: [{filter: {}}]}",
        "processors[0].filter.keep: or drop: give one of the two; for both write two steps",
    ),
    (
        "{paths: [/a], processors: [{redact: [email], add_attributes: {a: b}}]}",
        "processors[0].add_attributes: stands beside redact; write it as an item of its own, so that the order is plain",
    ),
    (
        "{paths: [/a], processors: [{count: {name: node.x}}]}",
        "processors: count node.x, which is one of the agent's own names; write another",
    ),
    (
        "{paths: [/a], processors: [{count: {name: x.y}}, {count: {name: X_y}}]}",
        "processors: count X_y, which logs[a] counts already; write another name",
    ),
    (
        "{paths: [/a], processors: [{count: {name: x, buckets: [1]}}]}",
        "processors[0].count.buckets: are for the number of `value`, which is missing",
    ),
]
COLLECTORS = [
    ("{cpuu: off}", "cpuu: unknown collector; did you mean cpu?"),
    ("{cpu: maybe}", 'cpu: is the text "maybe"; write on, off or a mapping of its options'),
    ("{cpu: }", "cpu: has no value; write on, off or a mapping of its options"),
    ("{cpu: [a]}", "cpu: is a list; write on, off or a mapping of its options"),
    ("{cpu: {a: b}}", "cpu.a: unknown key; collector cpu has no options"),
    ("{zebra: on}", "zebra: unknown collector; known here: cpu, disk, memory"),
    ("{disk: {exclude: x}}", "disk.exclude: unknown key; did you mean exclude_disks?"),
    (
        "{disk: {exclude_disks: '['}}",
        'disk.exclude_disks: "[" is not a regular expression: unterminated character set at character 1',
    ),
    ("{disk: {timeout: 0s}}", "disk.timeout: is 0s; it must be more than 0s"),
    ("{disk: {only: sda}}", 'disk.only: is the text "sda"; write a list: [sda]'),
    ("{disk: {depth: deep}}", 'disk.depth: is the text "deep"; write one of the forms in the reference'),
    ("[cpu]", ": is a list; write a mapping such as wifi: off"),
    ("cpu", ': is the text "cpu"; write a mapping such as wifi: off'),
]


@pytest.mark.parametrize(("text", "mistake"), [*UNKNOWN_KEYS, *TYPES, *NOTHING, *BOOLEANS, *NUMBERS, *TEXTS, *TOGETHER])
def test_a_mistake_is_named_with_its_line_its_key_and_the_remedy(mistakes_in, text, mistake):
    assert mistakes_in(text) == [mistake]


@pytest.mark.parametrize(("url", "problem"), URLS)
def test_an_endpoint_is_a_url(mistakes_in, url, problem):
    assert mistakes_in(f"export:\n  - name: a\n    endpoint: '{url}'\n") == [f"3: export[a].endpoint: {problem}"]


@pytest.mark.parametrize("listen", ["me@host:9090", "one,two:9090", "host?:9090", "host#:9090", "a b:9090"])
def test_an_address_to_listen_on_names_one_host(mistakes_in, listen):
    wrong = "is not HOST:PORT; write for example 127.0.0.1:9090 or [::1]:9090"
    assert mistakes_in(f"agent: {{listen: '{listen}'}}") == [f'1: agent.listen: "{listen}" {wrong}']


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("https://a.example.org:443/x", "is a URL; write its host alone, as a.example.org:443"),
        ("*", "would let every host through; write the names, or *.example.org for those below one"),
        ("fe80::1", "is not a host; an IPv6 address stands in brackets, as [2001:db8::1]"),
        ("a b", "is not a host; write one such as agent.example.org, *.example.org or 192.0.2.1"),
        ("a.*.org", "is not a host; write one such as agent.example.org, *.example.org or 192.0.2.1"),
        ("", "is not a host; write one such as agent.example.org, *.example.org or 192.0.2.1"),
    ],
)
def test_an_allowed_host_is_as_a_host_header_names_it(mistakes_in, host, problem):
    text = f"agent: {{allowed_hosts: ['{host}']}}"
    assert mistakes_in(text) == [f'1: agent.allowed_hosts[0]: "{host}" {problem}']


def test_allowed_hosts_of_every_form_are_taken(place):
    hosts = ("Agent.example.org:8443", "*.example.org", "[2001:db8::1]:9090", "192.0.2.1", "my_host.")
    place.write("agent.yaml", f"agent: {{allowed_hosts: {list(hosts)}}}\n")
    assert place.load().config.agent.allowed_hosts == hosts


@pytest.mark.parametrize(
    ("export", "mistake"),
    [
        ("headers: 'Authorization: Bearer hidden'", "headers: is a single value; write a mapping of names to values"),
        ("headers: hidden", "headers: is a single value; write a mapping of names to values"),
        ("headers: {a: 12345}", "headers.a: is a number where a text is wanted; put it in quotes"),
        ("endpoint: 'https://me:p@hidden@host'", 'endpoint: "https://me:********@host" is not a URL'),
        ("endpoint: 'https://me:p/hidden@host'", 'endpoint: "https://me:********@host" is not a URL'),
        ("endpoint: 'https://me:p#hidden@host'", 'endpoint: "https://me:********@host" has a query or a fragment'),
        ("endpoint: 'me:hidden@host:4318'", 'endpoint: "me:********@host:4318" has no scheme; write http://HOST:PORT'),
    ],
)
def test_a_mistake_shows_no_secret(mistakes_in, export, mistake):
    endpoint = "" if export.startswith("endpoint") else "endpoint: 'http://h', "
    [shown] = mistakes_in(f"export: [{{name: a, {endpoint}{export}}}]")
    assert shown.startswith(f"1: export[a].{mistake}")
    assert "hidden" not in shown
    assert "12345" not in shown


@pytest.mark.parametrize(("text", "mistake"), COLLECTORS)
def test_collectors_take_on_off_or_their_own_options(mistakes_in, text, mistake):
    assert mistakes_in(f"host:\n  collectors: {text}\n") == [
        f"2: host.collectors{'' if mistake.startswith(':') else '.'}{mistake}"
    ]


def test_a_collector_that_is_not_in_this_build_is_named(place):
    def options(name):
        raise ImportError(f"No module named {name}")

    from novel_agent.config.load import load
    from novel_agent.config.model import Sources
    from novel_agent.errors import ConfigErrors

    place.write("agent.yaml", "host: {collectors: {cpu: {a: b}}}\n")
    sources = Sources(config=str(place.config), conf_dir="")
    with pytest.raises(ConfigErrors, match=r"1: host\.collectors\.cpu: is not in this build: No module named cpu"):
        load(sources, collector_names=("cpu",), collector_options=options)


def test_an_unknown_collector_that_is_off_is_off(place):
    place.write("agent.yaml", "host:\n  collectors: {wifi: off, cpu: 'off', memory: \"on\"}\n")
    loaded = place.load()
    assert loaded.config.host.collectors == {"cpu": False, "memory": True}
    assert loaded.notices == [
        f"{place.config}:2: host.collectors.wifi: there is no such collector, so it is off anyway"
    ]


def test_right_values_of_every_kind_are_taken(place):
    place.write("t", "x")
    place.write(
        "agent.yaml",
        """\
        agent:
          listen: "[::1]:0"
          state_dir: state
          allowed_hosts: [a.example.org]
          auth: {token_file: t}
          budget: {cpu_percent: 2.5e0, memory: 0.5GiB}
        host:
          interval: 1m30s
          collectors:
            disk: {exclude_disks: '^(loop|ram)\\d+$', timeout: 500ms, only: [sda], depth: off}
        processes:
          - {name: "{comm}", match: {user: 1000, cmdline: a|b, pid_file: /run/x.pid}, top: 5, threads: On, children: no}
        export:
          - {name: a, endpoint: "https://me:pw@h/base", signals: [metrics], timeout: 1s, spool: {size: 2MB}}
        """,
    )
    config = place.load().config
    assert (config.agent.state_dir, config.agent.auth.token_file) == (str(place.root / "state"), str(place.root / "t"))
    assert (config.agent.budget.cpu_percent, config.agent.budget.memory_bytes) == (2.5, 536_870_912)
    assert (config.agent.listen, config.host.interval_seconds) == ("[::1]:0", 90.0)
    assert config.host.collectors == {
        "disk": {"exclude_disks": "^(loop|ram)\\d+$", "timeout": 0.5, "only": ["sda"], "depth": False}
    }
    (group,) = config.processes
    assert (group.match.user, group.match.pid_file, group.top) == ("1000", "/run/x.pid", 5)
    assert (group.threads, group.children) == (True, False)
    (export,) = config.export
    assert (export.endpoint, export.signals, export.spool.size_bytes) == (
        "https://me:pw@h/base",
        ("metrics",),
        2_000_000,
    )


def test_all_mistakes_of_a_configuration_come_at_once(place):
    place.write(
        "agent.yaml",
        """\
        agnt: {}
        agent:
          listen: 9090
          log_level: loud
          budget: {cpu_percent: "5", memory: 64M}
        resource:
          attributes: {version: 1.10, region: "${REGION}"}
        host:
          interval: 15
          collectors: {cpuu: off}
        """,
    )
    place.write("conf.d/10-broken.yaml", "export:\n- name: a\n   endpoint: x\n")
    place.write("conf.d/20-more.yaml", "processes:\n- nme: a\nexport: [{name: a, endpoint: h}]\nexport: []\n")
    mistakes = place.mistakes(environ={"LOG_LEVEL": "loud"})
    assert [mistake.split(": ")[:2] for mistake in mistakes] == [
        ["agent.yaml:1", "agnt"],
        ["agent.yaml:3", "agent.listen"],
        ["agent.yaml:4", "agent.log_level"],
        ["agent.yaml:5", "agent.budget.cpu_percent"],
        ["agent.yaml:5", "agent.budget.memory"],
        ["agent.yaml:7", "resource.attributes.region"],
        ["agent.yaml:7", "resource.attributes.version"],
        ["agent.yaml:9", "host.interval"],
        ["agent.yaml:10", "host.collectors.cpuu"],
        ["conf.d/10-broken.yaml:3", "is not valid YAML"],
        ["conf.d/20-more.yaml:2", "processes[0].nme"],
        ["conf.d/20-more.yaml:2", "processes[0].name"],
        ["conf.d/20-more.yaml:3", "export[a].endpoint"],
        ["conf.d/20-more.yaml:4", "export"],
        ["environment LOG_LEVEL", "agent.log_level"],
    ]


def test_a_likely_mistake_is_a_notice(place):
    place.write("agent.yaml", "export: [{name: a, endpoint: 'http://h:4317'}]\n")
    assert place.load().notices == ["export[a]: port 4317 is gRPC's by convention, but protocol is http/protobuf"]


TELEMETRY = [
    (
        "traces: {span_metrics: maybe}",
        'traces.span_metrics: is the text "maybe"; write on, off or a mapping of its options',
    ),
    ("traces: {span_metrics: [a]}", "traces.span_metrics: is a list; write on, off or a mapping of its options"),
    (
        "traces: {span_metrics: {dimension: [a]}}",
        "traces.span_metrics.dimension: unknown key; did you mean dimensions?",
    ),
    (
        "traces: {span_metrics: {buckets: [1s, 500ms]}}",
        "traces.span_metrics.buckets: do not rise; write each bound once, the smallest first",
    ),
    (
        "traces: {tail_sampling: [{name: a}, {name: a}]}",
        "traces.tail_sampling[a].name: stands twice, first in line 1; names are unique",
    ),
    (
        "traces: {tail_sampling: [{name: a, attributes: {tier: '(?=gold)'}}]}",
        'traces.tail_sampling[a].attributes.tier: "(?=gold)" is not a regular expression of RE2, '
        "which has no look-around and no back references",
    ),
    (
        "traces: {redact: {attributes: ['(a)\\1']}}",
        r'traces.redact.attributes[0]: "(a)\1" is not a regular expression of RE2, '
        "which has no look-around and no back references",
    ),
    (
        "traces: {redact: {values: ['a*']}}",
        "traces.redact.values: has 'a*', which matches the empty text and so everywhere",
    ),
    ("traces: {head_sampling: 1.5}", "traces.head_sampling: is 1.5; it must be at most 1"),
    ("otlp_receiver: {auth: nonee}", 'otlp_receiver.auth: is the text "nonee"; write none or a mapping of its options'),
    ("otlp_receiver: {auth: off}", "otlp_receiver.auth: is the boolean off; write none or a mapping of its options"),
    (
        "otlp_receiver: {http: off}",
        'otlp_receiver.http: "off" is not HOST:PORT; where nothing is to be received, leave the value empty',
    ),
    (
        "otlp_receiver: {grpc: 4317}",
        'otlp_receiver.grpc: "4317" has no host; write 127.0.0.1:4317, or :4317 for every address',
    ),
    ("otlp_receiver: {http: localhost}", 'otlp_receiver.http: "localhost" has no port; write localhost:4318'),
]
TWO_ADDRESSES = [
    ("{http: '127.0.0.1:9090'}", "http: is 127.0.0.1:9090, which agent.listen has"),
    ("{grpc: ':9090'}", "grpc: is :9090, which agent.listen has"),
    ("{http: 'localhost:4318', grpc: '127.0.0.1:4318'}", "grpc: is 127.0.0.1:4318, which otlp_receiver.http has"),
    ("{http: '[::1]:4318', grpc: '0.0.0.0:4318'}", "grpc: is 0.0.0.0:4318, which otlp_receiver.http has"),
]
DESTINATIONS = [
    ("type: file", "export[a].path: is missing; write where the lines go, such as /var/log/telemetry.jsonl"),
    (
        "type: file, path: /x, endpoint: 'http://h'",
        "export[a].endpoint: is for destinations on the network; a file has a path",
    ),
    ("type: loki", "export[a].endpoint: is missing; write a URL such as https://loki.example.org:3100"),
    (
        "type: prometheus_remote_write",
        "export[a].endpoint: is missing; write a URL such as https://prometheus.example.org:9090",
    ),
    ("type: loki, endpoint: 'http://h', protocol: grpc", "export[a].protocol: is for type otlp; loki has its own"),
    (
        "type: loki, endpoint: 'http://h', compression: zstd",
        "export[a].compression: is zstd, which Loki does not take; write gzip or none",
    ),
    (
        "type: loki, endpoint: 'http://h', labels: [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]",
        "export[a].labels: has 16 names; Loki takes 15 labels a stream",
    ),
    (
        "type: loki, endpoint: 'http://h', signals: [metrics]",
        "export[a].signals: has nothing that loki takes; it takes logs",
    ),
    (
        "type: prometheus_remote_write, endpoint: 'http://h', signals: [logs, traces]",
        "export[a].signals: has nothing that prometheus_remote_write takes; it takes metrics",
    ),
    (
        "endpoint: 'http://h', protocol: grpc, compression: zstd",
        "export[a].compression: is zstd, which gRPC servers do not take; write gzip or none",
    ),
    ("type: lokii, endpoint: 'http://h'", 'export[a].type: "lokii" is not known; did you mean loki?'),
]


@pytest.mark.parametrize(("text", "mistake"), TELEMETRY)
def test_a_mistake_about_telemetry_is_named_with_the_remedy(mistakes_in, text, mistake):
    assert mistakes_in(text) == [f"1: {mistake}"]


@pytest.mark.parametrize(("receiver", "mistake"), TWO_ADDRESSES)
def test_two_listeners_cannot_have_one_address(mistakes_in, receiver, mistake):
    assert mistakes_in(f"otlp_receiver: {receiver}") == [f"1: otlp_receiver.{mistake}; write another port"]


@pytest.mark.parametrize(
    "receiver",
    ["{http: '127.0.0.1:0', grpc: '127.0.0.1:0'}", "{http: '192.0.2.1:9090'}", "{http: , grpc: '[::1]:9090'}"],
)
def test_listeners_that_share_no_address_are_taken(place, receiver):
    place.write("agent.yaml", f"otlp_receiver: {receiver}\n")
    place.load()


@pytest.mark.parametrize(("export", "mistake"), DESTINATIONS)
def test_a_destination_has_what_its_type_needs_and_nothing_that_it_cannot_use(mistakes_in, export, mistake):
    assert mistakes_in(f"export: [{{name: a, {export}}}]") == [f"1: {mistake}"]


def test_two_destinations_cannot_write_one_file(mistakes_in):
    text = "export:\n  - {name: a, type: file, path: /x}\n  - name: b\n    type: file\n    path: /x\n"
    assert mistakes_in(text) == ["5: export[b].path: is where a writes; write another file"]


@pytest.mark.parametrize(
    ("listen", "endpoint"),
    [
        ("127.0.0.1:4318", "http://localhost:4318"),
        (":4318", "http://127.0.0.1:4318/"),
        ("[::1]:4318", "http://[::1]:4318"),
    ],
)
def test_what_is_received_is_not_sent_to_the_receiver(mistakes_in, listen, endpoint):
    text = f"otlp_receiver: {{http: '{listen}'}}\nexport:\n  - name: a\n    endpoint: {endpoint}\n"
    assert mistakes_in(text) == [
        "4: export[a].endpoint: is this agent's own otlp_receiver.http, so everything would go round for ever; "
        "write another destination, or another port for the receiver"
    ]


def test_spans_as_metrics_are_switched_on_by_a_word_or_by_options(place):
    place.write("agent.yaml", "traces: {span_metrics: on}\notlp_receiver: {auth: none}\n")
    config = place.load().config
    assert (config.traces.span_metrics, config.otlp_receiver.auth) == (True, "none")
    place.write("agent.yaml", "traces: {span_metrics: {dimensions: [a], buckets: [10ms, 1s]}}\n")
    metrics = place.load().config.traces.span_metrics
    assert (metrics.dimensions, metrics.buckets_seconds, metrics.max_series) == (("a",), (0.01, 1.0), 1000)


@pytest.mark.parametrize(("options", "mistake"), LOGS)
def test_a_mistake_in_a_source_of_logs_is_named_with_its_key_and_the_remedy(mistakes_in, options, mistake):
    text = "logs:\n  - {name: a, " + options[1:]
    assert [each.replace("logs[a].", "", 1) for each in mistakes_in(text)] == [f"2: {mistake}"]
