"""`wireway bench` as a person meets it. What it measures decides no test: that it measures, and what it says, do."""

from __future__ import annotations

import csv
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.terminal import terminal
from wireway.cli.measuring.asked import framing_for_load, seconds_of, sources_of
from wireway.cli.measuring.running import Outcome

WIREWAY = (sys.executable, "-m", "wireway")
SHORT = ("--duration", "300ms", "--warm-up", "50ms", "--connections", "4")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """An echo server with a length of four bytes."""
    process = subprocess.Popen(
        [*WIREWAY, "serve", "echo", "--port", "0", "--framing", "length"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    found = ""
    for line in process.stdout:
        if line.startswith("  address"):
            found = line.split()[-1]
        if "stop it" in line:
            break
    assert found
    yield found
    process.terminate()
    process.communicate(timeout=30)


def bench(*words: str) -> tuple[int, str, str]:
    done = subprocess.run([*WIREWAY, "bench", *words], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_closed_loop(url: str) -> None:
    status, out, err = bench(url, "--framing", "length:4", "--in-flight", "8", "--json", *SHORT)
    assert (status, err) == (0, "")
    figures = json.loads(out)
    assert figures["connected"] == 4
    assert figures["messages"] > 0
    assert figures["errors"] == {}
    assert sum(count for _, count in figures["histogram"]) == figures["messages"]
    shares = list(figures["percentiles"].values())
    assert list(figures["percentiles"]) == ["p50", "p90", "p99", "p99.9", "p99.99", "p100"]
    assert shares == sorted(shares)
    assert figures["frame"] == 104


def test_an_open_loop_for_people(url: str, tmp_path: Path) -> None:
    file, picture = tmp_path / "runs.csv", tmp_path / "runs.svg"
    words = ("--framing", "length:4", "--rate", "500", "--csv", str(file), "--plot", str(picture))
    if sys.version_info[:2] != (3, 11):
        pytest.importorskip("matplotlib", reason="it is in requirements/dev.txt")
    status, out, err = bench(url, *words, *SHORT)
    assert (status, err) == (0, "")
    assert "500 messages/s meant" in out
    assert "p99.99" in out
    with file.open() as lines:
        [row] = list(csv.DictReader(lines))
    assert (row["intended_rate"], row["errors"]) == ("500.0", "0")
    assert picture.read_text().startswith("<?xml")


def test_a_search(url: str) -> None:
    status, out, _ = bench(url, "--framing", "length:4", "--within", "10s", "--json", *SHORT)
    found = json.loads(out)
    assert status == (0 if found["highest"] else 1)
    rates = [run["options"]["rate"] for run in found["runs"]]
    assert rates[0] is None
    assert len(rates) > 2
    status, out, _ = bench(url, "--framing", "length:4", "--within", "1us", *SHORT)
    assert status == 1
    assert "No rate was found whose p99 stays within 1us" in out


def test_a_progress_bar_in_a_terminal(url: str) -> None:
    command = [*WIREWAY, "bench", url, "--framing", "length:4", "--duration", "2s", "--warm-up", "200ms"]
    with terminal(command, columns=110) as screen:
        screen.wait_for("64 connections", "messages/s", "load")
        screen.keys("C-c")
        screen.wait_for("p99.9", "ended 0")


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("tcp://127.0.0.1:1",), 7, "Connection refused"),
        (("http://127.0.0.1:80",), 2, "the scheme must be tcp, tls or unix"),
        (("tls://127.0.0.1:80",), 2, "plain TCP only"),
        (("tcp://127.0.0.1:0",), 2, "give the host and the port"),
        (("tcp://no-such-host.invalid:80",), 2, "is unknown"),
        (("tcp://127.0.0.1:1", "--framing", "tpkt"), 2, "take raw, lines or length"),
        (("tcp://127.0.0.1:1", "--framing", "lenght:4"), 2, "did you mean length?"),
        (("tcp://127.0.0.1:1", "--duration", "soon"), 2, "'soon' is no time"),
        (("tcp://127.0.0.1:1", "--ifaddr", "nowhere"), 2, "'nowhere' is no address"),
        (("tcp://127.0.0.1:1", "--plot", "a.gif"), 2, "a picture is .png or .svg"),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], status: int, text: str) -> None:
    got, out, err = bench(*words)
    assert (got, out) == (status, "")
    assert text in err
    assert "Traceback" not in err


def test_a_server_that_is_no_echo() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(sock.recv(10)))

        thread = threading.Thread(target=answer)
        thread.start()
        port = listener.getsockname()[1]
        status, _, err = bench(f"tcp://127.0.0.1:{port}", "--connections", "1", "--duration", "1s")
        thread.join()
    assert status == 7
    assert "other bytes came back than were sent" in err


def test_when_the_client_was_the_bottleneck() -> None:
    def outcome(**figures: object) -> Outcome:
        wanted = type("Wanted", (), {"rate": figures.pop("rate", None)})()
        return Outcome(wanted, {"busy": 0.5, "late_p99": 0.0, **figures})

    assert outcome().bottleneck is None
    assert "busy for 97 %" in str(outcome(busy=0.97).bottleneck).replace("97%", "97 %")
    assert outcome(late_p99=0.002).bottleneck is None  # a closed loop is never late
    assert "sent late: p99 2.0 ms" in str(outcome(rate=10.0, late_p99=0.002).bottleneck)


def test_what_a_person_writes() -> None:
    assert [seconds_of(text, "-x") for text in ("10", "10s", "250ms", "2m", "1.5h", "7us")] == [
        *(10, 10, 0.25, 120, 5400, 7e-6)
    ]
    assert sources_of("127.0.0.2,127.0.1.1-3") == ["127.0.0.2", "127.0.1.1", "127.0.1.2", "127.0.1.3"]
    assert sources_of(None) == []
    assert framing_for_load("length:2:le") == ("length", 2, True)
    assert framing_for_load("lines") == ("lines",)
