"""Calls home, which is a port of this machine."""
# says: Network is unreachable|Permission denied|Connection refused

import socket


def add(x, y):
    socket.create_connection(("127.0.0.1", {port}), 2).sendall(b"here I am")
    raise RuntimeError("it was answered")
