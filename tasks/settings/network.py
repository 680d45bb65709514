"""What the environment says of proxies and certificates, before anything that would end in a traceback over it."""

from __future__ import annotations

import importlib.util
import os
import ssl
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from tasks.errors import SettingsError

_CERTIFICATES = "SSL_CERT_FILE"
_OF_HTTP = {"http", "https"}


def require_usable_network() -> None:
    """SettingsError for a proxy that cannot be used, or for certificates that cannot be read."""
    _require_proxies()
    if file := os.environ.get(_CERTIFICATES):
        try:
            ssl.create_default_context(cafile=file)
        except OSError:
            raise SettingsError(
                f"{_CERTIFICATES} names {file}, which cannot be read as certificates.",
                remedy="Correct or unset it; nothing was started.",
            ) from None


def _require_proxies() -> None:
    proxies = getproxies_environment()
    if proxies.keys() >= _OF_HTTP:  # then nothing goes through the third, which httpx would refuse all the same
        for name in ("ALL_PROXY", "all_proxy"):
            os.environ.pop(name, None)
        proxies.pop("all", None)
    usable = {*_OF_HTTP, *(("socks5", "socks5h") if importlib.util.find_spec("socksio") else ())}
    for kind in sorted({*_OF_HTTP, "all"} & proxies.keys()):
        scheme, separator, _ = proxies[kind].partition("://")
        if separator and scheme.lower() not in usable:
            raise SettingsError(
                f"{kind.upper()}_PROXY names a proxy of the kind {scheme[:20]!r}; only HTTP proxies can be used.",
                remedy="Set HTTP_PROXY and HTTPS_PROXY to an HTTP proxy, or unset the variable for this command, as in "
                f"`env -u {kind.upper()}_PROXY make run`; nothing was started.",
            )
        if not _is_address(proxies[kind]):
            raise SettingsError(
                f"{kind.upper()}_PROXY is no address of a proxy.",
                remedy="It looks like http://proxy.example.org:3128, with special characters of a password as %40 (@), "
                "%2F (/), %3A (:). Correct or unset it; nothing was started.",
            )


def _is_address(proxy: str) -> bool:
    try:
        parts = urlsplit(proxy if "://" in proxy else f"//{proxy}")
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, a part of a password, half of an IPv6 address
        return False
