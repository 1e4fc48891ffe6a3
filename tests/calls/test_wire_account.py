"""Whom to ask, and as whom. What is refused, and in which words, is in test_start."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from endpoint import Endpoint, says
from ways import CANARY, ask

from llmstream.calls.wire_account import Account, account


@pytest.mark.parametrize("how", ["environment", "file", "pipe"])
def test_a_key_is_stripped(how: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    if how == "pipe":
        os.mkfifo(file, 0o600)
        threading.Thread(target=lambda: file.write_text(f"{CANARY}\n"), daemon=True).start()
    else:
        file.touch(0o600)
        file.write_text(f" {CANARY}\r\n")
    words = ("--key-file", file) if how != "environment" else ()
    with Endpoint(says()) as endpoint:
        got = ask("plain", endpoint, *words, OPENAI_API_KEY="sk-wrong" if words else f"{CANARY}\n")
    assert got.returncode == 0
    assert endpoint.calls[0].headers["authorization"] == f"Bearer {CANARY}"


@pytest.mark.parametrize("way", ["plain", "proxy"])
def test_a_server_of_ones_own_needs_no_key(way: str) -> None:
    with Endpoint(says()) as endpoint:
        got = ask(way, endpoint, OPENAI_API_KEY="")
    assert (got.returncode, len(endpoint.calls)) == (0, 1)


# -- what is accepted -----------------------------------------------------------------------------

AZURE = {"AZURE_OPENAI_ENDPOINT": "https://a.example", "AZURE_OPENAI_API_KEY": "sk-azure", "OPENAI_API_VERSION": "1"}
OPENAI = "https://api.openai.com/v1"
ACCEPTED: dict[str, tuple[str | None, dict[str, str], Account]] = {
    # the URL that an option names, the environment, and what comes of them
    "OpenAI": (None, {"OPENAI_API_KEY": "sk-1"}, Account(OPENAI, "sk-1")),
    "an empty URL": (None, {"OPENAI_API_KEY": "sk-1", "OPENAI_BASE_URL": ""}, Account(OPENAI, "sk-1")),
    "a server of one's own": (None, {"OPENAI_BASE_URL": "http://h:8000/v1"}, Account("http://h:8000/v1", "none")),
    "a key of blanks": (None, {"OPENAI_BASE_URL": "http://h", "OPENAI_API_KEY": " \n"}, Account("http://h", "none")),
    "white space around a key": (None, {"OPENAI_API_KEY": "\tsk-1\r\n"}, Account(OPENAI, "sk-1")),
    "an option before a variable": (
        "http://b/v1",
        {"OPENAI_BASE_URL": "http://a/v1", "OPENAI_API_KEY": "sk-1"},
        Account("http://b/v1", "sk-1"),
    ),
    "a password": ("https://me:pass@h/v1", {}, Account("https://me:pass@h/v1", "none")),
    "another alphabet": ("https://müller.example/v1", {}, Account("https://müller.example/v1", "none")),
    "an address": ("http://[::1]:8000/v1/", {}, Account("http://[::1]:8000/v1/", "none")),
    "upper case": ("HTTPS://API.Example/V1", {}, Account("HTTPS://API.Example/V1", "none")),
    "Azure by its variables": (None, AZURE, Account("https://a.example", "sk-azure", azure=True)),
    "Azure by its type": (
        None,
        AZURE | {"OPENAI_API_TYPE": "azure", "OPENAI_API_KEY": "sk-1", "OPENAI_BASE_URL": "http://b"},
        Account("https://a.example", "sk-azure", azure=True),
    ),
    "Azure with a token": (
        None,
        AZURE | {"AZURE_OPENAI_AD_TOKEN": " token \n"},
        Account("https://a.example", "token", azure=True),
    ),
    "Azure without a token": (
        None,
        AZURE | {"AZURE_OPENAI_AD_TOKEN": " "},
        Account("https://a.example", "sk-azure", azure=True),
    ),
    "OpenAI by its type": (
        None,
        AZURE | {"OPENAI_API_TYPE": "openai", "OPENAI_API_KEY": "sk-1"},
        Account(OPENAI, "sk-1"),
    ),
    "an option before Azure's type": (
        "http://b/v1",
        AZURE | {"OPENAI_API_TYPE": "azure"},
        Account("http://b/v1", "none"),
    ),
    "a URL before Azure's variables": (
        None,
        AZURE | {"OPENAI_BASE_URL": "http://b/v1", "OPENAI_API_KEY": "sk-1"},
        Account("http://b/v1", "sk-1"),
    ),
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_what_is_accepted(what: str) -> None:
    base_url, environ, expected = ACCEPTED[what]
    assert account(base_url, None, environ) == expected


@pytest.mark.parametrize(
    ("base_url", "environ"),
    [(None, {"OPENAI_API_KEY": "sk-wrong"}), ("http://h/v1", {}), (None, AZURE | {"AZURE_OPENAI_AD_TOKEN": "wrong"})],
)
def test_a_key_file_before_every_variable(base_url: str | None, environ: dict[str, str], tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(" sk-file\r\n")
    assert account(base_url, str(key), environ).key == "sk-file"


@pytest.mark.parametrize(
    ("url", "is_openai"),
    [
        ("https://api.openai.com/v1", True),
        ("https://EU.api.OpenAI.com/v1", True),
        ("https://openai.com", True),
        ("https://notopenai.com/v1", False),
        ("https://openai.com.example/v1", False),
        ("http://127.0.0.1:8000/v1", False),
        ("http://[::1/v1", False),
    ],
)
def test_who_is_openai(url: str, is_openai: bool) -> None:
    assert Account(url, "k").is_openai is is_openai
    assert not Account(url, "k", azure=True).is_openai
