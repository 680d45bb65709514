"""Proxies, certificates and addresses of the environment: what cannot be used is a sentence, and which count."""

from __future__ import annotations

import os

import httpx
import pytest

from flows.nightly import main as nightly_command
from tasks.errors import SettingsError
from tasks.settings.environment import set_up_commands


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"ALL_PROXY": "socks5://127.0.0.1:9"}, "env -u ALL_PROXY make run"),
        ({"https_proxy": "ftp://proxy"}, "HTTPS_PROXY names a proxy of the kind 'ftp'"),
        ({"https_proxy": "http://proxy:port"}, "HTTPS_PROXY is no address of a proxy."),
        ({"HTTP_PROXY": "http://ana:pass/word@proxy:3128"}, "HTTP_PROXY is no address of a proxy."),
        ({"HTTP_PROXY": "http://[::1:3128"}, "HTTP_PROXY is no address of a proxy."),
        ({"HTTP_PROXY": "http://"}, "HTTP_PROXY is no address of a proxy."),
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
    assert "pass" not in caught.value.message


def test_a_proxy_for_all_else_does_not_count_beside_those_for_http(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proxies(monkeypatch)
    for name in ("http_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    set_up_commands()
    assert "all_proxy" not in os.environ


@pytest.mark.parametrize("proxy", ["proxy.example.org:3128", "http://[::1]:3128", "http://ana:pass%2Fword@proxy"])
def test_a_proxy_that_can_be_used_is_taken(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_proxies(monkeypatch)
    monkeypatch.setenv("https_proxy", proxy)
    set_up_commands()
    httpx.Client().close()  # it reads the variable


def test_hosts_that_no_proxy_is_for_do_not_hide_one_that_does_not_exist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """NO_PROXY alone passed for a proxy: the run asked a host that there is not for five minutes."""
    without_proxies(monkeypatch)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SUPABASE_URL", "https://no-such-project.invalid")
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "sb_secret_hush")
    monkeypatch.setenv("ETL_RETRIES", "0")
    assert nightly_command([]) == 1
    assert "✗ The host no-such-project.invalid of SUPABASE_URL does not exist." in capsys.readouterr().err


def test_the_carriage_return_that_docker_passes_on_is_no_part_of_what_prefect_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A night ended as a defect of ours, InvalidURL."""
    for name, value in {"PREFECT_API_URL": " http://127.0.0.1:9/api", "PREFECT_API_AUTH_STRING": "admin:a "}.items():
        monkeypatch.setenv(name, f"{value}\r")
    set_up_commands()
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:9/api"
    assert os.environ["PREFECT_API_AUTH_STRING"] == "admin:a "


def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
