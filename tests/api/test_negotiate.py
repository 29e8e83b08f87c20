import pytest

from novel_agent.serving.negotiate import media_type, takes_gzip

TEXT = "text/plain;version=0.0.4"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "best"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT),
        (PROMETHEUS_3, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ('application/openmetrics-text; version="1.0.0"; charset=utf-8', OPENMETRICS),
        ("application/openmetrics-text;version=0.0.1,text/plain;q=0.1", TEXT),
        ("application/openmetrics-text;q=0.3,text/plain;version=0.0.4;q=0.4", TEXT),
        ("APPLICATION/OPENMETRICS-TEXT;Q=1, text/plain;q=0.9", OPENMETRICS),
        ("application/openmetrics-text;q=0, */*", TEXT),
        ("text/*;q=0.2, application/*;q=0.3", OPENMETRICS),
        ("application/openmetrics-text;q=nonsense, text/plain;q=0.1", TEXT),
        ("text/plain;q=0.1, */*;q=0.9", OPENMETRICS),
        ("text/plain;version=0.0.4;q=0.1, text/plain;q=0.9, application/openmetrics-text;q=0.5", OPENMETRICS),
        ("application/json", TEXT),
    ],
)
def test_the_best_offer_wins_by_quality_then_specificity_then_order(accept: str, best: str) -> None:
    assert media_type(accept, (TEXT, OPENMETRICS)) == best


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("", False),
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("*", True),
        ("gzip;q=0, *", False),
        ("identity", False),
        ("br", False),
    ],
)
def test_gzip_is_taken_where_it_is_not_excluded(header: str, taken: bool) -> None:
    assert takes_gzip(header) is taken
