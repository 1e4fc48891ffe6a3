"""llm-sim as a command, and the command that it runs."""

import contextlib
import os
import re
import signal
import subprocess
import sys

import pytest
from sim_client import LLM_SIM, PATIENCE, ROOT, eventually, raw, refuses, run, serving, shell, talking

from llmstream import sim

PYTHON = [sys.executable, "-c"]


# -- as a command -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--latency", "soon"], "it needs MEAN or MEAN:P99"),
        (["--latency", "1s:1ms"], "it needs a P99 between once and 14 times MEAN"),
        (["--latency", "0:5"], "it needs a P99 between once and 14 times MEAN"),
        (["--error-rate", "2"], "it needs a share from 0 to 1"),
        (["--error-rate", "200%"], "it needs a share from 0 to 1"),
        (["--hang", "60%", "--garble", "0.5"], "together they are more than 1"),
        (["--rpm", "0"], "it needs a whole number, 1 or more"),
        (["--port", "70000"], "it needs a whole number from 0 to 65535"),
        (["--sed", "1"], "did you mean --seed?"),
    ],
)
def test_wrong_options_are_one_line_and_status_2(argv, reason):
    done = run(*argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert re.fullmatch(r"llm-sim: .*\n", done.stderr)


def test_help_and_version():
    told = run("--help")
    assert told.returncode == 0
    assert all(f"--{option.long}" in told.stdout for option in sim.TABLE)
    assert run("--version").stdout == "llm-sim 0.1.0\n"


def test_help_needs_no_package():
    bare = [sys.executable, "-I", "-S", str(ROOT / "bin/llm-sim")]
    assert shell([*bare, "--help"], stdout=subprocess.PIPE).stdout == run("--help").stdout
    done = shell(bare)
    assert (done.returncode, done.stderr.splitlines()) == (2, [done.stderr.rstrip("\n")])
    assert done.stderr.startswith("llm-sim: cannot load orjson: ")


def test_the_manual_has_an_entry_for_every_option():
    page = (ROOT / "man/llm-sim.1").read_text()
    entries = re.findall(r"^\.It (?:Fl (\w) , )?Fl -([\w-]+)", page, re.MULTILINE)
    assert sorted(entries) == sorted((option.short, option.long) for option in sim.TABLE)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_stdout_that_cannot_be_written():
    with open("/dev/full", "w") as full:
        done = shell(LLM_SIM, stdout=full)
    assert (done.returncode, done.stderr) == (74, "llm-sim: cannot write stdout: No space left on device\n")
    done = shell(["sh", "-c", '"$@" >&-', "sh", *LLM_SIM])
    assert (done.returncode, done.stderr) == (74, "llm-sim: cannot write stdout: it is closed\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_dies_quietly_of_the_signal(number):
    with subprocess.Popen(LLM_SIM, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(PATIENCE) == -number
        assert process.stderr.read() == b""


def test_a_port_that_is_taken():
    with serving() as port:
        done = run("-p", str(port))
    assert done.returncode == 2
    assert done.stderr == f"llm-sim: cannot listen on 127.0.0.1:{port}: Address already in use\n"


# -- COMMAND ----------------------------------------------------------------------------------


def test_command_gets_its_environment_and_gives_its_status():
    done = run("--", "sh", "-c", "echo $OPENAI_BASE_URL $OPENAI_API_KEY $LLMSTREAM_MODEL; echo no >&2; exit 7")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1 sim sim\n", done.stdout)
    assert (done.returncode, done.stderr) == (7, "no\n")
    assert run("sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM  # -- is not needed
    assert run("--", "cat", input="as it came").stdout == "as it came"


def test_command_that_cannot_be_run(tmp_path):
    done = run("--", "./nonesuch", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (127, "llm-sim: cannot run ./nonesuch: No such file or directory\n")
    (tmp_path / "script").write_text("#!/bin/sh\n")
    done = run("--", "./script", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (126, "llm-sim: cannot run ./script: Permission denied\n")


def test_command_can_call_at_once():
    call = "import os, urllib.request as u; r = u.Request(os.environ['OPENAI_BASE_URL'] + '/models')"
    call += "; r.add_header('Authorization', 'Bearer any'); print(u.urlopen(r).status)"
    assert run("--", *PYTHON, call).stdout == "200\n"


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="there is no /proc")
def test_command_inherits_nothing_of_ours():
    look = ["sh", "-c", "ls /proc/self/fd; grep SigIgn /proc/self/status"]
    alone = subprocess.run(look, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert run("--", *look).stdout == alone.stdout
    assert run("--", *PYTHON, "import os; os.wait()").stderr.endswith(
        "ChildProcessError: [Errno 10] No child processes\n"
    )
    closed = shell(["sh", "-c", '"$@" >&-', "sh", *LLM_SIM, "--", "sh", "-c", "echo x || echo closed >&2"])
    assert closed.stderr.endswith("closed\n")


def test_the_server_ends_with_command_even_by_kill_9():
    argv = [*LLM_SIM, "--hang", "1", "--", "sh", "-c", "echo $OPENAI_BASE_URL; exec sleep 60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        port = int(re.search(r":(\d+)/", process.stdout.readline())[1])
        with talking(port) as (client, stream):
            client.sendall(raw())
            process.kill()
            assert process.wait(PATIENCE) == -signal.SIGKILL
            with contextlib.suppress(ConnectionError):
                assert stream.read() == b""
        eventually(lambda: refuses(port))
        assert process.stdout.read() == ""  # nobody holds it any more


def test_without_pidfd_the_server_ends_too(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import os\nif hasattr(os, 'pidfd_open'): del os.pidfd_open\n")
    done = run("--", "sh", "-c", "echo $OPENAI_BASE_URL", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    port = int(re.search(r":(\d+)/", done.stdout)[1])
    eventually(lambda: refuses(port))


def test_interrupting_the_group_leaves_the_server_to_command():
    code = """if True:
        import os, signal, sys, urllib.request
        def drain(*_):
            request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/models", headers={"api-key": "any"})
            print(urllib.request.urlopen(request).status, flush=True)
            sys.exit(5)
        signal.signal(signal.SIGINT, drain)
        print("ready", flush=True)
        signal.pause()
    """
    argv = [*LLM_SIM, "--", *PYTHON, code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.read() == "200\n"
        assert process.wait(PATIENCE) == 5
