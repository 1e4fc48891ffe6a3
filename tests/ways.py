"""The ways to an endpoint: our own, and the package's for whatever is more than a plain POST."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from endpoint import Endpoint
from tool import jsonl, lines, run

CANARY = "sk-canary-0123456789"
PROMPT = "{{ q }}"


def azure(root: str) -> dict[str, str]:
    return {
        "OPENAI_API_TYPE": "azure",
        "AZURE_OPENAI_ENDPOINT": root,
        "AZURE_OPENAI_API_KEY": CANARY,
        "OPENAI_API_VERSION": "2026-01-01",
    }


WAYS: dict[str, Callable[[str], dict[str, str]]] = {
    "plain": lambda root: {"OPENAI_BASE_URL": f"{root}/v1", "OPENAI_API_KEY": CANARY},
    "proxy": lambda root: {"OPENAI_BASE_URL": "http://far.invalid/v1", "HTTP_PROXY": root, "OPENAI_API_KEY": CANARY},
    "azure": azure,
}


def root(endpoint: Endpoint) -> str:
    return endpoint.url.removesuffix("/v1")


def records(*names: str) -> str:
    return jsonl(*({"q": name} for name in names))


def ask(way: str, endpoint: Endpoint, *words: str | Path, stdin: str = records("hi"), **env: str) -> Any:
    return run("llm-map", *words, PROMPT, stdin=stdin, env=WAYS[way](root(endpoint)) | env)


def failures(path: Path) -> dict[str, tuple[str, str]]:
    return {line["q"]: (line["error"]["type"], line["error"]["message"]) for line in lines(path.read_bytes())}
