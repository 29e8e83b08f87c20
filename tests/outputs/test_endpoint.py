import ssl

import pytest

from novel_agent.config.schema import ClientTls, Export
from novel_agent.errors import ConfigError
from novel_agent.outputs.endpoint import Mask, check_headers, parse_endpoint, proxy_for, tls_context, why_not_connected
from novel_agent.outputs.otlp import OtlpOutput

PORTS = {"http": 80, "https": 443}


def parse(url):
    return parse_endpoint(url, PORTS, "export.central.endpoint")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host", "http://host:80/x"),
        ("https://host/", "https://host:443/x"),
        ("http://host:4318/base/?a=b", "http://host:4318/base/x?a=b"),
        ("https://[2001:db8::1]:4318", "https://[2001:db8::1]:4318/x"),
        ("http://user:secret@host:1", "http://host:1/x"),
    ],
)
def test_urls_are_shown_without_credentials(url, shown):
    assert parse(url).url("/x") == shown


def test_credentials_become_a_header():
    assert parse("http://Aladdin:open%20sesame@host").authorization == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert parse("http://only@host").authorization == "Basic b25seTo="
    assert parse("http://host").authorization is None


@pytest.mark.parametrize("url", ["http://", "ftp://host", "host:4318", "http://host:port", "http://host:70000"])
def test_what_is_no_endpoint_is_refused_with_its_key(url):
    with pytest.raises(ConfigError, match=r"^configuration: export\.central\.endpoint: "):
        parse(url)


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({"http_proxy": "http://proxy:3128"}, "http://host", "http://proxy:3128"),
        ({"HTTP_PROXY": "proxy:3128"}, "http://host", "http://proxy:3128"),
        ({"http_proxy": "http://proxy:3128"}, "https://host", None),
        ({"https_proxy": "http://[::1]:3128"}, "https://host", "http://[::1]:3128"),
        ({"http_proxy": "http://proxy", "no_proxy": ".internal"}, "http://a.internal:4318", None),
        ({"http_proxy": "http://proxy", "no_proxy": "a.internal:4318"}, "http://a.internal:4318", None),
        ({"http_proxy": "http://proxy", "NO_PROXY": "*"}, "http://host", None),
        ({"http_proxy": "http://proxy", "no_proxy": "other"}, "http://host", "http://proxy:80"),
        ({}, "http://host", None),
    ],
)
def test_the_environments_proxy(monkeypatch, environment, url, proxy):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(parse(url))
    assert (found and found.url) == proxy


def test_secrets_are_taken_out_of_texts_whole_and_in_part():
    mask = Mask(["Bearer abc123", "xy", None, ""])
    assert mask("Bearer abc123 and abc123 and xy") == "*** and *** and xy"


def test_texts_are_one_bounded_line():
    assert Mask([])("a\n b\t c") == "a b c"
    assert len(Mask([])("x" * 5000)) == 301


def test_without_an_authority_of_ones_own_the_systems_are_trusted_and_names_checked():
    context = tls_context(ClientTls(), "export.central.tls")
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_errors_in_words():
    assert why_not_connected(ConnectionRefusedError(111, "Connect call failed ('::1', 1)")) == "Connection refused"
    assert why_not_connected(OSError(-2, "Name or service not known")) == "Name or service not known"
    assert why_not_connected(OSError("odd")) == "odd"
    assert why_not_connected(ConnectionResetError()) == "ConnectionResetError"


@pytest.mark.parametrize("host", ["a" * 64, "a..b", "a b", "a\0b", "a" * 64 + ".example:4318"])
def test_a_host_that_no_resolver_takes_is_refused_at_once(host):
    with pytest.raises(ConfigError, match=r"is not a host name$"):
        parse(f"http://{host}")


@pytest.mark.parametrize("url", ["http://h:99999", "http://[::1", "http://" + "a" * 64, "socks5://h:1"])
def test_a_proxy_that_is_none_is_a_configuration_error(monkeypatch, url):
    monkeypatch.setenv("http_proxy", url.replace("://", "://user:open-sesame@"))
    with pytest.raises(ConfigError, match=r"^http_proxy: ") as caught:
        proxy_for(parse("http://host"))
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("x-key", "open\r\nsesame", "has a control character in its value"),
        ("x-key", "sesame\0", "has a control character in its value"),
        ("x key", "sesame", "is not the name of a header"),
        (":path", "sesame", "is not the name of a header"),
        ("", "sesame", "is not the name of a header"),
        ("Content-Length", "5", "cannot be set: it belongs to the connection"),
        ("transfer-encoding", "chunked", "cannot be set: it belongs to the connection"),
    ],
)
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_header_that_cannot_be_sent_is_a_configuration_error(protocol, name, value, problem):
    with pytest.raises(ConfigError) as caught:
        OtlpOutput(Export(name="central", endpoint="http://host", protocol=protocol, headers={name: value}))
    assert str(caught.value) == f"configuration: export.central.headers.{name}: {problem}"


def test_ordinary_headers_may_be_set():
    check_headers({"Authorization": "Bearer a.b-c=", "x-scope-orgid": "a|b", "Host": "other", "x": "Grüße\t"}, "key")


@pytest.mark.parametrize("name", ["a" * 64, ".x", "x y"])
def test_a_server_name_that_tls_cannot_verify_is_a_configuration_error(name):
    with pytest.raises(ConfigError, match=r"export\.central\.tls\.server_name: .* is not a host name$"):
        tls_context(ClientTls(server_name=name), "export.central.tls")


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("Basic YWdlbnQ6cEBzcy13b3Jk", "no user with p@ss-word"),
        ("Basic YWdlbnQ6cEBzcy13b3Jk", "no YWdlbnQ6cEBzcy13b3Jk"),
        ("token=abc%2F123&x=1", "unknown abc/123"),
        ("token=abc%2F123&x=1", "unknown abc%2F123"),
        ("open sesame", "unknown b3BlbiBzZXNhbWU="),
    ],
)
def test_a_secret_is_masked_in_the_ways_a_server_may_repeat_it(secret, said):
    shown = Mask([secret])(said)
    assert shown.rstrip("=").endswith(" ***")


def test_what_only_looks_like_credentials_is_masked_as_it_stands():
    assert Mask(["Basic é!"])("is Basic é!") == "is ***"
