"""Addresses to listen on: valid and invalid texts."""

from pathlib import Path

import pytest

from gensyn_ray.domain.errors import UsageError
from gensyn_ray.runtime.address import ListenAddress, SocketFile, TcpPort, parse_listen_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/ledger.sock", SocketFile(path=Path("/run/ledger.sock"))),
        ("unix:relative", SocketFile(path=Path("relative"))),
        ("http://127.0.0.1:8000", TcpPort(host="127.0.0.1", port=8000)),
        ("http://ledger.example:65535/", TcpPort(host="ledger.example", port=65535)),
        ("http://[::1]:80", TcpPort(host="::1", port=80)),
    ],
)
def test_an_address_says_where_to_listen(text: str, address: ListenAddress) -> None:
    assert parse_listen_address(text) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "unix:",
        "ledger.sock",
        "127.0.0.1:8000",
        "ftp://127.0.0.1:8000",
        "http://127.0.0.1",
        "http://127.0.0.1:",
        "http://127.0.0.1:0",
        "http://127.0.0.1:65536",
        "http://127.0.0.1:-1",
        "http://127.0.0.1:http",
        "http://127.0.0.1:8000/v1",
        "http://127.0.0.1:8000?x",
        "http://me@127.0.0.1:8000",
        "http://:8000",
        "http://[::1:8000",
        "http://127.0.0.1\n:8000",
        "https://127.0.0.1:8000",
    ],
)
def test_nonsense_is_a_usage_error_of_one_line(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_listen_address(address)
    assert "\n" not in str(caught.value)


def test_a_certificate_goes_with_https_alone() -> None:
    for address in ("unix:/run/s", "http://127.0.0.1:8000"):
        with pytest.raises(UsageError, match="go with https"):
            parse_listen_address(address, certificate="c.pem", key="k.pem")
