"""Whom an https connection trusts: the same as the openai package's own client, and no certificate is read in vain."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
import pytest
from endpoint import Endpoint, says
from tool import environment
from ways import ask, records

from llmstream.calls import wire_direct


def seen(context: Callable[[], ssl.SSLContext]) -> Any:
    """Whom a context trusts, and how."""
    try:
        made = context()
    except OSError as error:
        return type(error), error.errno
    settings = made.verify_mode, made.verify_flags, made.check_hostname, made.options, made.minimum_version
    return settings, made.cert_store_stats(), sorted(map(str, made.get_ca_certs()))


NAMED = {
    "nothing": {},
    "a file": {"SSL_CERT_FILE": "FILE"},
    "a folder": {"SSL_CERT_DIR": "FOLDER"},
    "both": {"SSL_CERT_FILE": "FILE", "SSL_CERT_DIR": "FOLDER"},
    "no file": {"SSL_CERT_FILE": "nosuch"},
    "no folder": {"SSL_CERT_DIR": "nosuch"},
    "no certificate": {"SSL_CERT_FILE": "FOLDER", "SSL_CERT_DIR": "FOLDER"},
}


@pytest.mark.parametrize("what", NAMED)
def test_whom_the_package_trusts(what: str, certificate: Path, tmp_path: Path) -> None:
    swap = {"FILE": f"{certificate}.crt", "FOLDER": str(tmp_path)}
    named = {name: swap.get(value, value) for name, value in NAMED[what].items()}
    with patch.dict(os.environ, environment(**{"SSL_CERT_FILE": "", "SSL_CERT_DIR": ""} | named)):
        assert seen(wire_direct._certificates) == seen(httpx2.create_ssl_context)


@pytest.mark.parametrize("file", [True, False])
@pytest.mark.parametrize("folder", ["none", "empty", "rehashed"])
def test_whom_the_package_trusts_on_another_machine(
    file: bool, folder: str, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if folder != "none":
        (tmp_path / "certs").mkdir()
    if folder == "rehashed":
        (tmp_path / "certs/0a1b2c3d.0").write_bytes(certificate.read_bytes())
    usual = ssl.get_default_verify_paths()._replace(
        openssl_cafile=f"{certificate}.crt" if file else "nosuch", openssl_capath=str(tmp_path / "certs")
    )
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: usual)
    with patch.dict(os.environ, environment(SSL_CERT_FILE="", SSL_CERT_DIR="")):
        assert seen(wire_direct._certificates) == seen(httpx2.create_ssl_context)


IMPORTED = """
import ssl
from llmstream.calls import wire
wire.load(wire.Account("https://example.com/v1", "key"))
from aiohttp import connector
context = ssl.create_default_context(cafile={file!r})
context.set_default_verify_paths()
print(connector._SSL_CONTEXT_VERIFIED.verify_mode.name, len(connector._SSL_CONTEXT_VERIFIED.get_ca_certs()))
print(len(context.get_ca_certs()))
"""


def test_certificates_that_nobody_uses_are_not_read(certificate: Path) -> None:
    """While aiohttp is imported: whom it would trust by itself is nobody. Afterwards they are read as ever."""
    script = IMPORTED.format(file=f"{certificate}.crt")
    env = environment(SSL_CERT_FILE=f"{certificate}.crt")
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["CERT_REQUIRED", "0", "1"]


@pytest.mark.parametrize("way", ["plain", "azure"])
def test_certificates(way: str, certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with Endpoint(says(), tls=tls) as endpoint:
        got = ask(way, endpoint, stdin=records(*"abcdefgh"))
        told, summary = got.stderr.decode().splitlines()
        assert (got.returncode, got.stdout, endpoint.calls) == (2, b"", [])
        assert f"cannot trust 127.0.0.1:{endpoint.port}: " in told
        assert "SSL_CERT_FILE" in told
        assert "unasked 8" in summary
        trusted = ask(way, endpoint, SSL_CERT_FILE=f"{certificate}.crt")
        assert (trusted.returncode, len(endpoint.calls)) == (0, 1)
        name = {"OPENAI_BASE_URL": f"https://localhost:{endpoint.port}/v1", "OPENAI_API_TYPE": ""}
        other = ask("plain", endpoint, **name, SSL_CERT_FILE=f"{certificate}.crt")
        assert (other.returncode, len(endpoint.calls)) == (2, 1)
