"""What of a machine is used up now, and what has overflowed, on machines that are folders and on this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from wireway.observe.machine import Finding, Machine
from wireway.observe.strain import strain

NETSTAT = "TcpExt: {names}\nTcpExt: {numbers}\nIpExt: InNoRoutes\nIpExt: 0\n"
CALM = {
    "proc/net/netstat": NETSTAT.format(names="ListenOverflows ListenDrops TCPAbortOnMemory", numbers="0 0 0"),
    "proc/net/sockstat": "sockets: used 52\nTCP: inuse 10 orphan 0 tw 315 alloc 10 mem 103\nUDP: inuse 0 mem 0\n",
    "proc/sys/net/ipv4/tcp_mem": "1000 2000 3000",
    "proc/sys/net/ipv4/tcp_max_tw_buckets": "1000",
    "proc/sys/net/ipv4/ip_local_port_range": "40000 40009",
    "proc/net/tcp": "  sl  local_address rem_address   st\n",
}


def looked(folder: Path, **files: str) -> dict[str, Finding]:
    for name, text in {**CALM, **{key.replace("__", "/"): value for key, value in files.items()}}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {each.name: each for each in strain(Machine(folder), 10_000)}


def socket_lines(*ports: int) -> str:
    rows = [f"   {n}: 0100007F:{port:04X} 0100007F:1F90 01 00000000:0 00:0 0 0 0 9 1" for n, port in enumerate(ports)]
    return "\n".join([CALM["proc/net/tcp"].strip("\n"), *rows, ""])


def test_a_calm_machine(tmp_path: Path) -> None:
    found = looked(tmp_path, **{"proc/net/tcp": socket_lines(40001, 40001, 40002, 22)})
    assert {each.state for each in found.values()} == {"ok"}
    assert found["TIME_WAIT now"].value == "315 in TIME_WAIT, tcp_max_tw_buckets 1,000"
    assert found["ports in use"].value == "2 of 10 (20%)"
    assert found["TCP buffers now"].value == "103 pages"
    assert "overflows" in found


@pytest.mark.parametrize(
    ("counter", "name"),
    [
        ("ListenOverflows", "listen queue overflows"),
        ("ListenDrops", "listen drops"),
        ("TCPReqQFullDrop", "handshakes dropped"),
        ("TCPReqQFullDoCookies", "SYN cookies"),
        ("TCPAbortOnMemory", "closed for memory"),
        ("PruneCalled", "buffers pruned"),
        ("TCPTimeWaitOverflow", "TIME_WAIT overflows"),
    ],
)
def test_what_has_overflowed(tmp_path: Path, counter: str, name: str) -> None:
    found = looked(tmp_path, **{"proc/net/netstat": NETSTAT.format(names=f"A {counter}", numbers="1 1234")})
    assert found[name].state == "note"
    assert found[name].value == f"{counter} 1,234"
    assert "overflows" not in found
    setting = {"handshakes dropped": "tcp_syncookies=1", "TIME_WAIT overflows": "tcp_max_tw_buckets=8192"}.get(name, "")
    assert found[name].remedy == (f"sysctl -w net.ipv4.{setting}" if setting else "") or name == "SYN cookies"


def test_what_is_nearly_used_up(tmp_path: Path) -> None:
    found = looked(
        tmp_path,
        **{
            "proc/net/tcp": socket_lines(*range(40000, 40008)),
            "proc/net/sockstat": "TCP: inuse 10 orphan 0 tw 900 alloc 10 mem 2500\n",
        },
    )
    assert found["ports in use"].value == "8 of 10 (80%)"
    assert "EADDRNOTAVAIL" in found["ports in use"].effect
    assert found["ports in use"].remedy == "sysctl -w net.ipv4.ip_local_port_range='1024 65535'"
    assert found["TIME_WAIT now"].remedy == "sysctl -w net.ipv4.tcp_max_tw_buckets=2000"
    assert found["TCP buffers now"].remedy == "sysctl -w net.ipv4.tcp_mem='2000 4000 6000'"
    assert [each.state for each in found.values()].count("note") == 3


def test_nothing_is_known(tmp_path: Path) -> None:
    assert strain(Machine(tmp_path), 10_000) == []


def test_this_machine() -> None:
    names = {each.name for each in strain(Machine(), 10_000)}
    assert {"TIME_WAIT now", "ports in use"} <= names
