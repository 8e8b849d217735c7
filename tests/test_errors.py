"""The tree of errors: each is also the standard library's error of its kind, and keeps what the kernel said."""

from __future__ import annotations

import ast
import asyncio
import errno
import inspect
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import wireway
from wireway import errors

TREE: dict[type[errors.WirewayError], type[Exception]] = {
    errors.AddressError: ValueError,
    errors.AddressInUseError: OSError,
    errors.BackendUnavailableError: OSError,
    errors.ConfigError: ValueError,
    errors.ConnectError: ConnectionError,
    errors.ConnectTimeoutError: TimeoutError,
    errors.ConnectionClosedError: ConnectionError,
    errors.DescriptorLimitError: OSError,
    errors.LifespanError: RuntimeError,
    errors.PoolTimeoutError: TimeoutError,
    errors.QueueFullError: Exception,
    errors.Refused: ConnectionError,
    errors.RequestTimeoutError: TimeoutError,
    errors.TlsError: ConnectionError,
    errors.UnknownBackendError: ValueError,
    errors.WorkerDiedError: RuntimeError,
}


def classes() -> set[type]:
    return {
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
    }


def test_the_table_above_knows_every_error() -> None:
    assert classes() == {errors.WirewayError, *TREE}


@pytest.mark.parametrize(("ours", "stock"), TREE.items(), ids=lambda item: item.__name__)
def test_who_knows_nothing_of_wireway_catches_it(ours: type[errors.WirewayError], stock: type[Exception]) -> None:
    for caught in (errors.WirewayError, stock):
        with pytest.raises(caught, match="words"):
            raise ours("words")


def test_every_error_is_a_public_name() -> None:
    names = {error.__name__ for error in classes()}
    assert names == set(errors.__all__)
    assert names <= set(wireway.__all__)


def test_the_module_imports_nothing_of_the_package() -> None:
    tree = ast.parse(Path(errors.__file__).read_text())
    imported = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)}
    assert imported == {"from __future__ import annotations"}


@pytest.mark.parametrize(
    "error", [errors.BackendUnavailableError, errors.AddressInUseError, errors.DescriptorLimitError]
)
def test_an_error_of_the_kernel_keeps_number_and_text(error: type[OSError]) -> None:
    raised = error(errno.EPERM, "not allowed")
    assert (raised.errno, raised.strerror) == (errno.EPERM, "not allowed")
    assert type(raised) is error


def test_the_native_half_raises_the_class_that_python_picks(run: Callable[..., object]) -> None:
    """Errors of the core become what `OSError(number, text)` would be."""

    async def watch_what_is_closed() -> None:
        reading, writing = os.pipe()
        os.close(reading)
        os.close(writing)
        asyncio.get_running_loop().add_reader(reading, print)

    async def write_to_who_left() -> None:
        lost = asyncio.get_running_loop().create_future()

        class Told(asyncio.Protocol):
            def connection_lost(self, error: Exception | None) -> None:
                lost.set_result(error)

        ours, other = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(Told, sock=ours)
        other.close()
        transport.write(b"too late")
        raise await lost

    for main, expected in ((watch_what_is_closed, errno.EBADF), (write_to_who_left, errno.EPIPE)):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is looked at below
            run(main)
        stock = OSError(expected, os.strerror(expected))
        assert (type(caught.value), caught.value.args) == (type(stock), stock.args)
