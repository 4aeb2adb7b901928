"""Whether a port can be listened at, and in words why not: a web server says no more than an exit code."""

import errno
import socket

_MOST_PORT = 65_535


def try_port(host: str, port: int) -> None:
    """Listen for a moment. Raises OSError, in words for whoever chose the address."""
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as made:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:  # as web servers do: IPv4 is another address
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                made.bind(address)
    except OSError as error:
        raise OSError(f"cannot listen: {_why(error, host, port)}") from None


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < _MOST_PORT else port - 1
        return (
            f"port {port} is taken by another program (`ss -ltnp 'sport = :{port}'` says which; it may be another "
            f"Muster); end that one, or give another port, such as {f'[{host}]' if ':' in host else host}:{other}"
        )
    if error.errno == errno.EACCES:
        return f"port {port} is for the system's administrator alone; give one from 1024 upwards"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{host} is no address of this machine; 127.0.0.1 is always one"
    return error.strerror or str(error)
