"""daemon.json: the operator's keys stay, ours are added."""

from __future__ import annotations

import json

from load import module

filters = module("docker_engine", "filter_plugins/docker_engine.py")


def test_operators_keys_and_order_stay() -> None:
    current = {"debug": True, "registry-mirrors": ["http://b", "http://a"], "log-opts": {"max-size": "1m"}}
    wanted = {"registry-mirrors": ["http://a", "http://c"], "log-opts": {"max-file": "3"}}
    assert filters.merge(current, wanted) == {
        "debug": True,
        "registry-mirrors": ["http://b", "http://a", "http://c"],
        "log-opts": {"max-size": "1m", "max-file": "3"},
    }


def test_what_is_there_changes_nothing() -> None:
    current = {"registry-mirrors": ["http://b", "http://a"], "features": {"cdi": True, "x": False}}
    assert filters.merge(current, {"registry-mirrors": ["http://a"], "features": {"cdi": True}}) == current


def test_merge_leaves_its_input_alone() -> None:
    current = {"registry-mirrors": ["http://a"]}
    filters.merge(current, {"registry-mirrors": ["http://b"]})
    assert current == {"registry-mirrors": ["http://a"]}


def test_scalars_are_replaced() -> None:
    assert filters.merge({"data-root": "/a", "x": [1]}, {"data-root": "/b", "x": "y"}) == {"data-root": "/b", "x": "y"}


def test_keys_that_differ() -> None:
    current = {"log-opts": {"max-size": "1m"}, "registry-mirrors": ["http://a"], "debug": True}
    wanted = {"registry-mirrors": ["http://a"], "log-opts": {"max-file": "3"}, "debug": True, "labels": []}
    assert filters.changed(current, wanted) == ["log-opts", "labels"]
    assert filters.changed(current, {}) == []


def test_keys_that_need_a_restart() -> None:
    keys = ["registry-mirrors", "log-opts", "insecure-registries", "features", "live-restore", "data-root"]
    assert filters.restarting(keys) == ["log-opts", "features", "data-root"]


def test_parse() -> None:
    assert filters.parse("") == {"config": {}, "error": ""}
    assert filters.parse('{"a": 1}') == {"config": {"a": 1}, "error": ""}
    assert filters.parse("[]")["error"] == "the top is not an object"
    assert "line 1 column 2" in filters.parse("{a}")["error"]


def test_text_is_stable() -> None:
    assert filters.dump({"b": 1, "a": [2]}) == filters.dump({"a": [2], "b": 1})
    assert json.loads(filters.dump({"a": {"b": [1]}})) == {"a": {"b": [1]}}
