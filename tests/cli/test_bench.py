"""`wireway bench` as a person meets it. What it measures decides no test: that it measures, and what it says, do."""

from __future__ import annotations

import csv
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.answering import Answer, answering
from support.benching import FEW, bench, figures_of
from support.certificates import authority, localhost, stranger
from wireway.cli.measuring import running

WIREWAY = (sys.executable, "-m", "wireway")
SHORT = ("--duration", "100ms", "--warm-up", "10ms", "-c", "4")
PERCENTILES = ["p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99"]


@pytest.fixture
def url() -> Iterator[str]:
    """A server that sends back what comes, whatever the framing."""
    with answering() as address:
        yield f"tcp://{address}"


# --- what it measures -------------------------------------------------------------------------------------------------


def test_a_closed_loop(url: str) -> None:
    found = figures_of(url, "--framing", "length:4", "--in-flight", "8", *SHORT)
    assert (found["options"]["mode"], found["held"], found["connected"], found["frame"]) == ("closed", None, 4, 104)
    assert found["messages"] > 0
    assert found["errors"] == {}
    assert found["rate"] == pytest.approx(found["messages"] / found["seconds"])
    assert sum(found["timeline"]["messages"]) == found["messages"]
    latency = found["latency"]
    assert list(latency["percentiles"]) == PERCENTILES
    ordered = [latency["min"], *latency["percentiles"].values(), latency["max"]]
    assert ordered == sorted(ordered)
    assert latency["min"] <= latency["mean"] <= latency["max"]
    assert latency["distribution"][-1] == [latency["max"], 1.0, latency["count"]]


@pytest.mark.parametrize(
    ("framing", "frame"),
    [
        ("raw", 100),
        ("lines", 101),
        ("length:2:le", 102),
        ("varint", 101),
        ("fixed:64", 64),
        ("tpkt", 104),
        ("mbap", 100),
        ("delimiter:6162", 102),
    ],
)
def test_every_framing(url: str, framing: str, frame: int) -> None:
    for verify in ("content", "size", "none"):
        found = figures_of(url, "--framing", framing, "--verify", verify, *FEW)
        assert (found["messages"], found["frame"], found["options"]["framing"]) == (40, frame, framing)


def test_an_open_loop_is_not_fooled_by_a_server_that_stood_still() -> None:
    def stands_still_once() -> Answer:
        came = 0

        def answer(data: bytes) -> bytes:
            nonlocal came
            before, came = came, came + len(data)
            if before < 1000 <= came:
                time.sleep(0.2)
            return data

        return answer

    with answering(stands_still_once) as address:
        found = figures_of(address, "--rate", "1000", "--count", "400", "-c", "1")
    # 200 of 400 should have been answered in that time; half of those waited for 100 ms or more.
    assert (found["intended"], found["latency"]["count"]) == (400, 400)
    assert found["latency"]["percentiles"]["p90"] > 0.1
    assert found["latency"]["max"] > 0.19


def test_a_count_is_what_the_server_sees() -> None:
    came = []

    def counting() -> Answer:
        def answer(data: bytes) -> bytes:
            came.append(len(data))
            return data

        return answer

    with answering(counting) as address:
        assert figures_of(address, "-n", "123", "-c", "7", "-t", "2", "--message", r"a\x00b")["messages"] == 123
    assert sum(came) == 123 * 3


def test_both_a_count_and_a_duration(url: str) -> None:
    found = figures_of(url, "--count", "1000000000", "--duration", "50ms", "-c", "1")
    assert found["messages"] < 1000000000
    found = figures_of(url, "--count", "10", "--duration", "1h", "-c", "1")
    assert found["messages"] == 10


def test_where_connections_come_from() -> None:
    seen: set[str] = set()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [*WIREWAY, "bench", f"127.0.0.1:{listener.getsockname()[1]}", "-c", "4", "--ifaddr", "127.0.1.1-2"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            for _ in range(4):
                sock, peer = listener.accept()
                seen.add(peer[0])
                sock.close()
            process.communicate(timeout=60)
    assert seen == {"127.0.1.1", "127.0.1.2"}


def test_sockets_of_every_kind(tmp_path: Path) -> None:
    with answering(path=tmp_path / "echo.sock") as path:
        assert figures_of(f"unix://{path}", *FEW)["messages"] == 40
    with answering(host="::1") as address:
        assert figures_of(f"tcp://{address}", *FEW)["messages"] == 40


def test_a_name_with_several_addresses() -> None:
    with answering() as address:
        assert figures_of(f"localhost:{address.rpartition(':')[2]}", *FEW)["messages"] == 40


def test_tls(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*localhost().write(tmp_path, "server"))
    trusted, other = tmp_path / "ca.pem", tmp_path / "other.pem"
    trusted.write_bytes(authority().pem)
    other.write_bytes(stranger().pem)
    with answering(tls=context) as address:
        found = figures_of(f"tls://{address}", "--ca", str(trusted), "--in-flight", "4", "--size", "20000", *FEW)
        assert found["messages"] == 40
        assert figures_of(f"tls://{address}", "--insecure", *FEW)["messages"] == 40
        status, _, err = bench(f"tls://{address}", "--ca", str(other), *FEW)
        assert (status, err.count("\n")) == (7, 1)
        assert "certificate" in err


def responses(head: str, body: bytes = b"") -> Callable[[], Answer]:
    whole = f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def answer(data: bytes) -> bytes:
        return whole * data.count(b"\r\n\r\n")

    return lambda: answer


def test_http() -> None:
    with answering(responses("HTTP/1.1 200 OK", b"hello")) as address:
        found = figures_of(f"http://{address}/a?b", "--in-flight", "4", "-H", "X-A: b", *FEW)
        assert (found["messages"], found["statuses"]) == (40, {"200": 40})
        assert found["options"]["request"] == "GET /a?b"
        status, out, _ = bench(f"http://{address}/", "--rate", "1000", *FEW)
        assert "1.0k requests/s meant" in out
        assert "responses by status: 200: 40" in out
    with answering(responses("HTTP/1.1 503 Busy")) as address:
        status, out, _ = bench(f"http://{address}/", *FEW)
    assert status == 1
    assert "40 times: HTTP status 503" in out


# --- what it says -----------------------------------------------------------------------------------------------------


def test_figures_for_people_and_files(url: str, tmp_path: Path) -> None:
    lines, hgrm = tmp_path / "runs.csv", tmp_path / "run.hgrm"
    words = ("--rate", "500", "--csv", str(lines), "--hgrm", str(hgrm))
    status, out, err = bench(url, "--framing", "length:4", *words, *FEW)
    assert (status, err) == (0, "")
    assert "open loop, 500 messages/s meant" in out
    assert all(name in out for name in ("mean", *PERCENTILES, "max"))
    with lines.open() as file:
        [row] = list(csv.DictReader(file))
    assert (row["intended_rate"], row["messages"], row["errors"]) == ("500.0", "40", "0")
    assert float(row["p50"]) <= float(row["p99.99"]) <= float(row["max"])
    first, *steps, mean, largest, _ = hgrm.read_text().splitlines()
    assert first.split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    assert steps[-1].split()[1:] == ["1.000000000000", "40", "inf"]
    assert (mean.startswith("#[Mean"), "Total count    =           40]" in largest) == (True, True)


@pytest.mark.keeps_descriptors  # matplotlib's cache of fonts
def test_pictures(url: str, tmp_path: Path) -> None:
    if sys.version_info[:2] != (3, 11):
        pytest.importorskip("matplotlib", reason="it is in requirements/dev.txt")
    for name, begin in (("run.svg", b"<?xml"), ("run.png", b"\x89PNG")):
        assert bench(url, "--rate", "2000", "--plot", str(tmp_path / name), *FEW)[0] == 0
        assert (tmp_path / name).read_bytes().startswith(begin)


def test_csv_to_stdout(url: str) -> None:
    status, out, _ = bench(url, "--csv", "-", *FEW)
    [row] = list(csv.DictReader(out.splitlines()))
    assert (status, row["messages"]) == (0, "40")


def test_beside_an_earlier_run(url: str, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps(figures_of(url, *FEW)))
    status, out, _ = bench(url, "--compare", str(earlier), *FEW)
    assert status == 0
    assert "before" in out
    assert "The runs are not alike" not in out
    _, out, _ = bench(url, "--compare", str(earlier), "--in-flight", "2", *FEW)
    assert "The runs are not alike: in_flight 1 and 2." in out
    for text in ("[]", "{}", "no json", '{"runs": []}'):
        earlier.write_text(text)
        status, _, err = bench(url, "--compare", str(earlier), *FEW)
        assert (status, err.count("\n")) == (2, 1)


def test_a_search(url: str) -> None:
    words = ("--framing", "length:4", "--duration", "30ms", "--warm-up", "0", "-c", "2", "--timeout", "100ms")
    status, out, _ = bench(url, "--within", "1us", "--json", *words)
    found = json.loads(out)
    # That nothing is within a microsecond is sure; a busy machine may keep the client from saying so.
    assert (found["within"], found["highest"]) == (1e-6, None)
    assert (found["verdict"], status) in (("none", 1), ("client", 10))
    rates = [run["options"]["rate"] for run in found["runs"]]
    assert rates[0] is None
    assert len(rates) >= 2


def test_when_the_client_was_the_bottleneck(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SATURATED", 2.0)
    monkeypatch.setattr(running, "LATE", 100.0)
    status, out, _ = bench(url, *FEW)
    assert (status, "No verdict" in out) == (0, False)
    monkeypatch.setattr(running, "SATURATED", 0.0)
    status, out, _ = bench(url, *FEW)
    assert (status, "No verdict: the client's thread was busy" in out) == (0, True)


def test_a_rate_that_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(data: bytes) -> bytes:
        time.sleep(0.02)
        return data[:100]

    monkeypatch.setattr(running, "SATURATED", 2.0)
    monkeypatch.setattr(running, "LATE", 100.0)
    words = ("--rate", "2000", "-c", "1", "-d", "100ms", "--warm-up", "0", "--timeout", "100ms")
    with answering(lambda: slow) as address:
        status, out, _ = bench(address, *words)
        assert (status, "The rate was not held" in out) == (1, True)
        assert "were not answered; they count with what they waited" in out
        # Where the client was the bottleneck, nobody can say whose fault it was.
        monkeypatch.setattr(running, "SATURATED", 0.0)
        status, out, _ = bench(address, *words)
        assert (status, "The rate was not held" in out, "No verdict" in out) == (10, False, True)


def ends_after(answers: int, *, reset: bool = False) -> Callable[[], Answer]:
    left = answers

    def answer(data: bytes) -> bytes | None:
        nonlocal left
        left -= 1
        return data if left >= 0 else None

    return lambda: answer


def test_what_goes_wrong_is_counted_by_kind() -> None:
    with answering(lambda: lambda data: data[:-1] + b"!") as address:
        status, _, err = bench(address, *FEW)
    assert (status, "other bytes came back than were sent" in err) == (7, True)
    with answering(lambda: lambda data: b"\0\2ok" * (len(data) // 102)) as address:
        status, out, _ = bench(address, "-f", "length:2", "--verify", "size", *FEW)
        assert (status, "40 times: an answer of another size came back" in out) == (1, True)
        assert bench(address, "-f", "length:2", "--verify", "none", *FEW)[0] == 0
    with answering(ends_after(20)) as address:
        status, out, _ = bench(address, "-c", "2", "-d", "1h", "--warm-up", "0")
    assert status == 1
    assert "by the server" in out
    assert "It ended early: every connection was lost" in out
    with answering(lambda: lambda data: b"") as address:
        status, _, err = bench(address, "--timeout", "50ms", *FEW)
    assert (status, "no answer within 50ms" in err) == (7, True)
