"""Ports: one in use is named with its setting, and an answer is told from silence."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.ports import free_ports
from token_tracker.config.values import Address
from token_tracker.supervisor.ports import answers, check_free, reserve_loopback_port


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=5) as listener:
        yield listener


def test_every_port_in_use_is_named_with_the_setting_that_changes_it(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    taken = Address("127.0.0.1", port)
    problems = check_free({"PROXY": taken, "API": Address("127.0.0.1", free_ports(1)[0]), "DASHBOARD": taken})
    assert len(problems) == 2
    for problem, setting in zip(problems, ("TOKEN_TRACKER_PROXY_PORT", "TOKEN_TRACKER_DASHBOARD_PORT"), strict=True):
        assert f"Port {port} on 127.0.0.1 is in use" in problem
        assert setting in problem


def test_a_port_that_shares_itself_is_in_use_all_the_same() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert check_free({"PROXY": Address("127.0.0.1", other.getsockname()[1])})


def test_connections_that_a_former_run_left_do_not_matter(listener: socket.socket) -> None:
    address = Address("127.0.0.1", listener.getsockname()[1])
    client = socket.create_connection(("127.0.0.1", address.port))
    served, _ = listener.accept()
    served.close()  # the server's side closes first: its end stays in TIME_WAIT
    client.close()
    listener.close()
    assert check_free({"PROXY": address}) == []


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_of_another_machine_is_named(host: str) -> None:
    (problem,) = check_free({"API": Address(host, 5000)})
    assert problem.startswith(f"TOKEN_TRACKER_API_HOST '{host}' is no address of this machine")


@pytest.mark.parametrize(("status", "expected"), [(b"200 OK", True), (b"503 Away", False), (b"302 Found", False)])
def test_only_200_is_an_answer(listener: socket.socket, status: bytes, expected: bool) -> None:
    asked = []

    def serve() -> None:
        connection, _ = listener.accept()
        asked.append(connection.recv(1000))
        connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert answers(Address("0.0.0.0", listener.getsockname()[1]), "/x") is expected
    thread.join()
    assert asked[0].startswith(b"GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\n")


def test_silence_is_no_answer(listener: socket.socket) -> None:
    assert not answers(Address("127.0.0.1", listener.getsockname()[1]), "/")
    assert not answers(Address("127.0.0.1", free_ports(1)[0]), "/")


def test_a_reserved_port_is_nobody_elses_and_its_child_can_listen_there_again_and_again() -> None:
    port = reserve_loopback_port()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1)
    for _ in range(2):
        with socket.create_server(("127.0.0.1", port)):
            assert socket.create_connection(("127.0.0.1", port), 1).close() is None
    if os.uname().sysname == "Linux":
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
