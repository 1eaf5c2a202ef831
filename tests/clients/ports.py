"""Ports of this machine: free ones, and those that somebody answers on."""

import random
import socket
import time

# Below the range from which the system takes ports for connections: one of those could take a port between the moment
# that it is found free and the moment that its server starts, or while a server is away.
RANGE = range(20_000, 32_000)
# In an order of its own for each process, and each port once: a port that was handed out is not yet listened on.
ORDER = iter(random.sample(RANGE, len(RANGE)))


def free_port():
    for port in ORDER:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("all ports are taken")


def wait_for_port(port, timeout=30.0):
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise AssertionError(f"nobody listens on port {port} after {timeout:.0f} s") from None
            time.sleep(0.05)
