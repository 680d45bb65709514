"""Proxies, certificates and addresses of the environment: what cannot be used is a sentence, and which count."""

from __future__ import annotations

import os

import pytest

from tasks.errors import SettingsError
from tasks.settings.environment import set_up_commands


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"ALL_PROXY": "socks5://127.0.0.1:9"}, "env -u ALL_PROXY make run"),
        ({"https_proxy": "ftp://proxy"}, "HTTPS_PROXY names a proxy of the kind 'ftp'"),
        ({"SSL_CERT_FILE": "/nowhere/ca.pem"}, "SSL_CERT_FILE names /nowhere/ca.pem"),
        ({"SSL_CERT_FILE": __file__}, "which cannot be read as certificates"),
        ({"PREFECT_API_URL": "prefect.example.org"}, "PREFECT_API_URL is no address."),
    ],
)
def test_what_the_environment_says_that_cannot_be_used_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], says: str
) -> None:
    """They were tracebacks of libraries, or called a defect of ours."""
    without_proxies(monkeypatch)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        set_up_commands()
    assert says in str(caught.value)


def test_a_proxy_for_all_else_does_not_count_beside_those_for_http(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proxies(monkeypatch)
    for name in ("http_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    set_up_commands()
    assert "all_proxy" not in os.environ


def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
