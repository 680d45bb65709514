"""A Prefect server behind a gateway with certificates of its own, as the doctor and the reports site reach it."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from api.prefect import Prefect
from api.problems import Problem
from tasks.doctor.prefect import deployments_are_there
from tasks.errors import SettingsError
from tasks.settings import Settings, load_settings

AUTH = {"PREFECT_API_AUTH_STRING": "admin:p:w", "PREFECT_API_KEY": "pnu_other"}  # the password goes before the key
GATEWAY = {"PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-Gateway": "open"}'}
ASKED = {"authorization": "Basic YWRtaW46cDp3", "x-gateway": "open"}


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer({"id": "run", "state": {"type": "COMPLETED"}})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer([])

    def _answer(self, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(200 if all(self.headers[name] == value for name, value in ASKED.items()) else 403)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself, with its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now, address = dt.datetime.now(dt.UTC), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, now - dt.timedelta(1), now + dt.timedelta(1))
    signed = made.add_extension(x509.SubjectAlternativeName([address]), critical=False).sign(key, SHA256())
    file = tmp_path_factory.mktemp("certificates") / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(signed.public_bytes(Encoding.PEM) + private)
    return file


@pytest.fixture(scope="module")
def address(certificate: Path) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Server)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    server.server_close()


def settings_of(monkeypatch: pytest.MonkeyPatch, address: str, env: dict[str, str]) -> Settings:
    project = {"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_SERVICE_KEY": "sb_secret_hush"}
    for name, value in {**project, "PREFECT_API_URL": address, **AUTH, **env}.items():
        monkeypatch.setenv(name, value)
    return load_settings()


@pytest.mark.parametrize("how", ["PREFECT_API_SSL_CERT_FILE", "PREFECT_API_TLS_INSECURE_SKIP_VERIFY"])
def test_doctor_and_site_go_by_the_settings_of_prefects_client(
    how: str, address: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = str(certificate) if how.endswith("FILE") else "true"
    settings = settings_of(monkeypatch, address, {**GATEWAY, how: value})
    (finding,) = deployments_are_there(settings)
    assert "has no deployment nightly" in finding.what
    found = Prefect(settings).run("run")
    assert found is not None
    assert found.is_over


@pytest.mark.parametrize("gateway", [{}, GATEWAY], ids=["no header", "unknown certificate"])
def test_without_them_it_stays_closed(
    gateway: dict[str, str], address: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {} if gateway else {"PREFECT_API_SSL_CERT_FILE": str(certificate)}
    settings = settings_of(monkeypatch, address, {**gateway, **known})
    (finding,) = deployments_are_there(settings)
    assert ("certificate verify failed" if gateway else "HTTP 403") in finding.what
    with pytest.raises(Problem):
        Prefect(settings).run("run")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREFECT_API_SSL_CERT_FILE", "/nowhere/ca.pem"),
        ("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "perhaps"),
        ("PREFECT_CLIENT_CUSTOM_HEADERS", '{"X-Gateway": 7}'),
        ("PREFECT_CLIENT_CUSTOM_HEADERS", '{"X-Gateway": "key "}'),  # the doctor repeated it, as an illegal value
        ("PREFECT_CLIENT_CUSTOM_HEADERS", '{"X-Gateway": "schlüssel"}'),  # the site did not start
    ],
)
def test_a_wrong_value_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=name) as raised:
        settings_of(monkeypatch, "https://prefect.example.org/api", {name: value})
    assert value not in raised.value.message
