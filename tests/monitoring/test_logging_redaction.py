import json

import pytest

from monitoring._log_redaction import is_secret, redact_members, redact_text
from monitoring.structured_logging import LoggingConfig, setup_structured_logging, shutdown_structured_logging


@pytest.mark.parametrize(
    "key",
    ["password", "db_password", "userPassword", "accessToken", "token", "Authorization", "x-api-key", "set-cookie",
     "client_secret", "PRIVATE_KEY", "cvv"],
)  # fmt: skip
def test_a_key_that_says_secret_is_one(key):
    assert is_secret(key)


@pytest.mark.parametrize(
    "key", ["token_count", "max_tokens", "author", "message", "key", "passwords_changed", "secretary"]
)
def test_a_key_that_only_resembles_one_is_none(key):
    assert not is_secret(key)


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("password=hunter2 for bob", "password=[redacted] for bob"),
        ('{"api_key": "abc"}', '{"api_key": "[redacted]"}'),
        ("postgres://app:s3cr3t@db/x", "postgres://app:[redacted]@db/x"),
        ("Authorization: Basic YWxhZGRpbjpvcGVu", "Authorization: Basic [redacted]"),
        ("sent Bearer abcdefgh12345", "sent Bearer [redacted]"),
        ("jwt eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.sig_nature", "jwt [redacted]"),
        ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
        ("https://api.novel-engine.com/health", "https://api.novel-engine.com/health"),
        ("12 tokens used", "12 tokens used"),
    ],
)
def test_what_looks_like_a_secret_in_a_text_is_replaced(text, becomes):
    assert redact_text(text) == becomes


def test_members_without_a_hint_of_a_secret_stay_byte_for_byte():
    members = b'"message":"Story generation started","attributes":{"b":1.50,"a":"x"}'
    assert redact_members(members) is members


def test_secrets_go_at_any_depth_and_in_exceptions(tmp_path):
    logger = setup_structured_logging(LoggingConfig(log_directory=tmp_path, enable_console=False))
    logger.info("in", request={"headers": [{"Authorization": "Basic x"}], "query": "token=abc&x=1"}, password=None)
    logger.error("out", exc_info=RuntimeError("cannot reach https://u:pw@host/"))
    shutdown_structured_logging()
    first, second = (json.loads(line) for line in (tmp_path / "novel-engine.log").read_text().splitlines())
    assert first["attributes"] == {
        "request": {"headers": [{"Authorization": "[redacted]"}], "query": "token=[redacted]&x=1"},
        "password": None,
    }
    assert second["exception"]["message"] == "cannot reach https://u:[redacted]@host/"
    assert "pw@" not in second["exception"]["stacktrace"]


def test_redaction_can_be_turned_off(tmp_path):
    logger = setup_structured_logging(LoggingConfig(log_directory=tmp_path, enable_console=False, redact=False))
    logger.info("x", password="hunter2")
    shutdown_structured_logging()
    assert "hunter2" in (tmp_path / "novel-engine.log").read_text()


def test_long_texts_take_linear_time():
    for text in ("password" * 20_000, "://" + "a:" * 50_000, "eyJ" + "a" * 100_000, "Bearer " * 20_000):
        redact_text(text)
