"""Every rule of `wireway doctor`, on machines that are folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wireway.observe.machine import Finding, Machine, examine

SOUND = {
    "proc/sys/fs/nr_open": "1048576",
    "proc/sys/fs/file-max": "9223372036854775807",
    "proc/sys/fs/file-nr": "1000\t0\t9223372036854775807",
    "proc/sys/net/core/somaxconn": "4096",
    "proc/sys/net/ipv4/tcp_max_syn_backlog": "4096",
    "proc/sys/net/ipv4/tcp_syncookies": "1",
    "proc/sys/net/ipv4/ip_local_port_range": "32768\t60999",
    "proc/sys/net/ipv4/tcp_tw_reuse": "2",
    "proc/sys/net/ipv4/tcp_mem": "287898\t383867\t575796",
    "proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456",
    "proc/sys/net/ipv4/tcp_wmem": "4096\t16384\t4194304",
    "proc/sys/net/ipv4/tcp_keepalive_time": "7200",
    "proc/sys/kernel/osrelease": "6.12.8",
    "proc/meminfo": "MemTotal:       16000000 kB\nMemAvailable:   12000000 kB\n",
    "proc/self/cgroup": "0::/app.slice",
    "proc/self/status": "Name:\tpython\nSeccomp:\t0\n",
}


@pytest.fixture
def machine(tmp_path: Path) -> Any:
    """A machine that is sound, but for what is told: files, and other attributes."""

    def machine(files: dict[str, str | None] | None = None, **others: Any) -> Machine:
        for name, text in {**SOUND, **(files or {})}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is not None:
                path.write_text(text + "\n")
        plain = {"descriptors": (1024, 100_000), "cores": 4, "all_cores": 4, "page": 4096, "io_uring": lambda: None}
        return Machine(tmp_path, **{**plain, **others})

    return machine


def found(machine: Machine, name: str, connections: int = 10_000) -> Finding:
    (finding,) = [each for each in examine(machine, connections) if each.name == name]
    return finding


def test_a_sound_machine_has_no_limit(machine: Any) -> None:
    findings = examine(machine(), 10_000)
    assert [each for each in findings if each.state != "ok"] == []
    assert not any(each.remedy for each in findings)
    assert len(findings) >= 12


def test_a_machine_of_which_nothing_is_known(tmp_path: Path) -> None:
    """No /proc, no /sys: what the process itself knows is told, and nothing fails."""
    findings = examine(Machine(tmp_path, descriptors=(1024, 4096), cores=1, all_cores=1, page=4096), 100)
    assert {each.name for each in findings} >= {"descriptors", "io_uring", "cores"}


@pytest.mark.parametrize(
    ("files", "name", "state", "remedy"),
    [
        ({"proc/sys/net/core/somaxconn": "128"}, "listen backlog", "limit", "sysctl -w net.core.somaxconn=4096"),
        (
            {"proc/sys/net/ipv4/tcp_syncookies": "0", "proc/sys/net/ipv4/tcp_max_syn_backlog": "128"},
            *("SYN queue", "limit", "sysctl -w net.ipv4.tcp_syncookies=1"),
        ),
        (
            {"proc/sys/net/netfilter/nf_conntrack_max": "8192", "proc/sys/net/netfilter/nf_conntrack_count": "50"},
            *("connection tracking", "limit", "sysctl -w net.netfilter.nf_conntrack_max=20100"),
        ),
        ({"proc/sys/net/ipv4/tcp_tw_reuse": "0"}, "TIME_WAIT", "note", "sysctl -w net.ipv4.tcp_tw_reuse=1"),
        (
            {"proc/sys/net/ipv4/ip_local_port_range": "60000 60999"},
            *("ports of clients", "note", "sysctl -w net.ipv4.ip_local_port_range='1024 65535'"),
        ),
        ({"proc/meminfo": "MemAvailable:   40000 kB"}, "memory", "limit", "more memory"),
        (
            {"proc/sys/net/ipv4/tcp_mem": "1000 2000 3000"},
            *("TCP buffers, all together", "limit", "sysctl -w net.ipv4.tcp_mem='20000 30000 40000'"),
        ),
        (
            {"sys/fs/cgroup/app.slice/memory.max": "67108864"},
            *("memory of the container", "limit", "docker run --memory=89m"),
        ),
        ({"sys/fs/cgroup/app.slice/cpu.max": "150000 100000"}, "processor quota", "note", "server.run(workers=1)"),
        ({"sys/fs/cgroup/app.slice/pids.max": "40"}, "tasks", "limit", "--pids-limit"),
        (
            {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave"},
            *("clock", "note", "cpupower frequency-set -g performance"),
        ),
        ({"proc/sys/fs/file-max": "9000"}, "open files", "limit", "sysctl -w fs.file-max="),
        ({".dockerenv": ""}, "container", "note", "docker run --sysctl"),
        (
            {"run/systemd/system/x": "", "etc/systemd/system.conf": "[Manager]\n#A=1\nDefaultLimitNOFILE=1024:4096"},
            *("descriptors of a service", "limit", "LimitNOFILE=10100"),
        ),
    ],
)
def test_what_is_in_the_way_is_told_with_its_remedy(
    machine: Any, files: dict[str, str], name: str, state: str, remedy: str
) -> None:
    finding = found(machine(files), name)
    assert finding.state == state
    assert remedy in finding.remedy
    assert finding.effect


def test_descriptors_for_very_many(machine: Any) -> None:
    finding = found(machine(descriptors=(1024, 20_000)), "descriptors", 200_000)
    assert finding.state == "limit"
    assert "200,000 need 11 workers" in finding.effect
    assert "workers=11" in finding.remedy
    assert "LimitNOFILE=200100" in finding.remedy
    beyond = found(machine(descriptors=(1024, 20_000)), "descriptors of a process", 2_000_000)
    assert beyond.remedy == "sysctl -w fs.nr_open=2097152"


def test_what_a_service_gets_is_systemds(machine: Any) -> None:
    files = {
        "run/systemd/system/x": "",
        "etc/systemd/system.conf": "DefaultLimitNOFILE=4096",
        "etc/systemd/system.conf.d/50-more.conf": "DefaultLimitNOFILE = 8192:infinity",
    }
    finding = found(machine(files), "descriptors of a service")
    assert (finding.state, finding.value) == ("ok", "DefaultLimitNOFILE 8192:infinity")
    plain = found(
        machine({"etc/systemd/system.conf": "", "etc/systemd/system.conf.d/50-more.conf": ""}),
        "descriptors of a service",
    )
    assert (plain.state, plain.value) == ("ok", "DefaultLimitNOFILE 1024:524288")


def test_an_old_kernel_lacks_what_makes_io_uring_fast(machine: Any) -> None:
    finding = found(
        machine({"proc/sys/kernel/osrelease": "5.15.0-91", "proc/sys/kernel/io_uring_disabled": "0"}), "io_uring"
    )
    assert (finding.state, finding.value) == ("note", "kernel 5.15.0-91, io_uring_disabled 0")
    assert "lacks multishot accept and rings of buffers (5.19), multishot receive (6.0), " in finding.effect
    assert found(machine({"proc/sys/kernel/osrelease": "6.12.1"}), "io_uring").state == "ok"


def test_how_long_keepalive_takes(machine: Any) -> None:
    finding = found(machine({"proc/sys/net/ipv4/tcp_keepalive_probes": "3"}), "keepalive")
    assert "found after 2 h 4 min;" in finding.effect


def test_what_can_not_be_read_is_told(machine: Any) -> None:
    bare = machine()
    (bare.root / "proc/meminfo").unlink()
    assert found(bare, "not read").value == "meminfo"


@pytest.mark.parametrize(
    ("files", "remedy"),
    [
        ({"proc/sys/kernel/io_uring_disabled": "2"}, "sysctl -w kernel.io_uring_disabled=0"),
        ({"proc/self/status": "Seccomp:\t2"}, "seccomp profile"),
        ({}, ""),
    ],
)
def test_io_uring_that_is_forbidden(machine: Any, files: dict[str, str], remedy: str) -> None:
    finding = found(machine(files, io_uring=lambda: PermissionError(1, "Operation not permitted")), "io_uring")
    assert finding.state == "note"
    assert "Operation not permitted" in finding.effect
    assert remedy in finding.remedy
