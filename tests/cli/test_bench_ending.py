"""How `wireway bench` ends: Ctrl-C, nobody who reads, too few descriptors, and mistakes."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.answering import answering
from support.benching import FEW, bench
from support.terminal import terminal

WIREWAY = (sys.executable, "-m", "wireway")


@pytest.fixture
def url() -> Iterator[str]:
    """A server that sends back what comes."""
    with answering() as address:
        yield f"tcp://{address}"


def test_a_progress_bar_in_a_terminal_and_ctrl_c(url: str) -> None:
    command = [*WIREWAY, "bench", url, "--duration", "60s", "--warm-up", "0", "-c", "5"]
    for columns in (110, 36):
        with terminal(command, columns=columns) as screen:
            screen.wait_for("messages/s")
            screen.keys("C-c")
            screen.wait_for("p99.9", "Interrupted", "ended 130")


def test_ctrl_c_in_a_script() -> None:
    came = threading.Event()

    def answer(data: bytes) -> bytes:
        came.set()
        return data

    with answering(lambda: answer) as address:
        command = [*WIREWAY, "bench", address, "--json", "-d", "60s", "-c", "2", "--warm-up", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert came.wait(60)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert json.loads(out)["interrupted"] is True


@pytest.mark.parametrize("words", [(), ("--json",), ("--csv", "-")])
def test_nobody_reads(url: str, words: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [*WIREWAY, "bench", url, *words, *FEW]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_descriptors(url: str) -> None:
    def limited(soft: int, hard: int) -> subprocess.CompletedProcess[str]:
        command = [*WIREWAY, "bench", url, "-c", "100", "-n", "100"]
        limits = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))  # noqa: E731
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, preexec_fn=limits)

    assert limited(64, 512).returncode == 0
    done = limited(64, 64)
    assert (done.returncode, done.stderr.count("\n")) == (5, 1)
    assert "100 connections are too many for the limit of 64 descriptors" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("tcp://127.0.0.1:1",), 7, "Connection refused"),
        (("http://127.0.0.1:1/",), 7, "Connection refused"),
        (("unix:///no/such.sock",), 4, "No such file"),
        (("ftp://127.0.0.1:80",), 2, "no load for ftp://"),
        (("unix://rel",), 2, "absolute path"),
        (("http://",), 2, "no URL to ask for"),
        (("http://a b/",), 2, "no URL to ask for"),
        (("tcp://127.0.0.1:0",), 2, "give the host and the port"),
        (("tcp://no-such-host.invalid:80",), 2, "is unknown"),
        (("127.0.0.1:1", "--framing", "lenght:4"), 2, "did you mean length?"),
        (("127.0.0.1:1", "--framing", "length:1", "--size", "300"), 2, "the message can not be sent"),
        (("127.0.0.1:1", "--framing", "fixed:4", "--size", "5"), 2, "the message can not be sent"),
        (("127.0.0.1:1", "--duration", "soon"), 2, "--duration: 'soon' is no time"),
        (("127.0.0.1:1", "--ifaddr", "nowhere"), 2, "'nowhere' is no address"),
        (("127.0.0.1:1", "--plot", "a.gif"), 2, "a picture is .png or .svg"),
        (("127.0.0.1:1", "--csv", "/no/such/a.csv"), 4, "/no/such is not there"),
        (("127.0.0.1:1", "--hgrm", "/"), 2, "is a folder"),
        (("127.0.0.1:1", "--compare", "/no/such.json"), 4, "No such file"),
        (("127.0.0.1:1", "--within", "1ms", "--rate", "5"), 2, "leave out --rate"),
        (("127.0.0.1:1", "--json", "--csv", "-"), 2, "both want stdout"),
        (("127.0.0.1:1", "--insecure"), 2, "write tls://"),
        (("http://127.0.0.1:1", "--insecure"), 2, "options of TLS are for https://"),
        (("127.0.0.1:1", "--method", "PUT"), 2, "--method is not for tcp://"),
        (("http://127.0.0.1:1", "--size", "5"), 2, "--size is not for http://"),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], status: int, text: str) -> None:
    got, out, err = bench(*words)
    assert (got, out, err.count("\n")) == (status, "", 1)
    assert text in err


IN_A_NAMESPACE = """
import pathlib, subprocess
from support.answering import answering
from support.benching import bench

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40019")
with answering() as address:
    for words in ((), ("--ifaddr", "127.0.1.1-3")):
        status, out, err = bench(address, "-c", "50", "-n", "50", *words)
        print(status, "no port is free: give more addresses with --ifaddr" in out, out.splitlines()[1])
"""


def test_more_connections_than_an_address_has_ports() -> None:
    """In a network of its own, whose addresses have twenty ports each."""
    space = ["unshare", "--map-root-user", "--net"]
    try:
        able = subprocess.run([*space, "ip", "link", "set", "lo", "up"], capture_output=True, timeout=60, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"{error.filename} is missing: apt-get install util-linux iproute2")
    if able.returncode:
        pytest.skip(f"no network namespace may be made here: {able.stderr.decode().strip()}")
    tests = str(Path(__file__).parents[1])
    command = [*space, sys.executable, "-c", IN_A_NAMESPACE]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PYTHONPATH": tests}
    )
    assert done.stderr == ""
    few, many = done.stdout.splitlines()
    assert few.startswith("1 True ")
    assert " of 50 connections made" in few
    assert many.startswith("0 False 50 connections made")
