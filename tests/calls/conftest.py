"""What several tests of calls need."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def slow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """What came of a run in the SLOW of a module: runs that wait more than they work start together, before its tests.

    Each is a function of a folder of its own.
    """
    with ThreadPoolExecutor(4) as pool:
        running = {name: pool.submit(go, tmp_path_factory.mktemp("slow")) for name, go in request.module.SLOW.items()}
        yield lambda name: running[name].result()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1, signed by nobody that anybody knows."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl")
    file = tmp_path_factory.mktemp("tls") / "pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(["openssl", *words.split(), "-keyout", file, "-out", f"{file}.crt"], check=True, capture_output=True)
    with file.open("ab") as both_in_one:
        both_in_one.write(Path(f"{file}.crt").read_bytes())
    return file
