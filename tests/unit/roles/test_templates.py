"""The templates render with plain Jinja2, as the plan renders them."""

from __future__ import annotations

import jinja2
import pytest
from load import ROLES

SERVER = {
    "name": "nemotron",
    "unit": "vllm-nemotron.service",
    "container": "vllm-nemotron",
    "description": "vLLM server nemotron",
    "exec_start": "/usr/bin/docker run --rm --name vllm-nemotron image",
    "stop_timeout_s": 30,
    "secret_path": "/etc/vllm/nemotron.env",
    "image": "vllm/vllm-openai:v0.12.0",
    "port": 8000,
}


def render(template: str, **values: object) -> str:
    """As Ansible does it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLES / "vllm_server" / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - units and env files, no HTML
    )
    return environment.get_template(template).render(**values)


def test_unit() -> None:
    lines = render("vllm.service.j2", server=SERVER).splitlines()
    assert lines[1:] == [
        "[Unit]",
        "Description=vLLM server nemotron",
        "Documentation=https://docs.vllm.ai",
        "After=docker.service network-online.target",
        "Wants=network-online.target",
        "Requires=docker.service",
        "StartLimitIntervalSec=600",
        "StartLimitBurst=5",
        "AssertPathExists=/etc/vllm/nemotron.env",
        "",
        "[Service]",
        "Type=exec",
        "ExecStartPre=-/usr/bin/docker rm -f vllm-nemotron",
        "ExecStart=/usr/bin/docker run --rm --name vllm-nemotron image",
        "ExecStop=/usr/bin/docker stop -t 30 vllm-nemotron",
        "# vLLM ends so when it is asked to; every other way down is a failure",
        "SuccessExitStatus=143",
        "Restart=on-failure",
        "RestartSec=5",
        "TimeoutStartSec=120",
        "TimeoutStopSec=60",
        "SyslogIdentifier=vllm-nemotron.service",
        "# one server must not push everything else out of the journal",
        "LogRateLimitIntervalSec=30s",
        "LogRateLimitBurst=10000",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]


def test_file_cache_makes_room_where_the_gpu_has_no_memory_of_its_own() -> None:
    line = 'ExecStartPre=-/bin/sh -c "sync; echo 1 > /proc/sys/vm/drop_caches"'
    assert line in render("vllm.service.j2", server={**SERVER, "unified_memory": True}).splitlines()


@pytest.mark.parametrize(
    "server", [{**SERVER, "secret_path": ""}, {k: v for k, v in SERVER.items() if k != "secret_path"}]
)
def test_unit_without_secrets_names_no_file(server: dict[str, object]) -> None:
    assert "AssertPathExists" not in render("vllm.service.j2", server=server)


def test_braces_in_values_are_data() -> None:
    server = {**SERVER, "exec_start": "/usr/bin/docker run image --hf-overrides '{{ 7 * 7 }}'"}
    assert "'{{ 7 * 7 }}'" in render("vllm.service.j2", server=server)


def test_missing_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="exec_start"):
        render("vllm.service.j2", server={k: v for k, v in SERVER.items() if k != "exec_start"})


def test_secret_file_is_sorted_and_raw() -> None:
    secrets = {"VLLM_API_KEY": 'a"b $c {{ d }}', "A": "1"}
    assert render("secrets.env.j2", secrets=secrets) == (
        '# Written by provision: changes by hand are replaced at the next run.\nA=1\nVLLM_API_KEY=a"b $c {{ d }}\n'
    )
