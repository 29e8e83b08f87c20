from novel_agent.model.resource import Resource


def test_later_layers_win_and_keep_the_place():
    resource = Resource.merged({"service.name": "unknown_service", "host.name": "a"}, {"service.name": "novel-engine"})
    assert resource.attributes == (("service.name", "novel-engine"), ("host.name", "a"))
    assert resource["host.name"] == "a"


def test_an_empty_value_removes_an_attribute():
    assert Resource.merged({"host.id": "x", "host.name": "a"}, {"host.id": ""}).attributes == (("host.name", "a"),)
