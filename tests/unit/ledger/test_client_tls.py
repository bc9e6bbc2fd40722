"""https between a real server and the ledger's client, with new certificates."""

import datetime
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gensyn_ray.domain.errors import OperationError, Refused, Unreachable, UsageError
from gensyn_ray.runtime.address import parse_listen_address
from ledger.client import LedgerClient
from tests.kits.http_kit import free_port, serving
from tests.kits.service_kit import ScriptedBackend, envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Files of a self-signed certificate and of its key."""

    certificate: str
    key: str


MakePair = Callable[..., Pair]


@pytest.fixture
def make_pair(tmp_path: Path) -> MakePair:
    def make(name: str, *, host: str = "127.0.0.1", days: int = 1) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), False
            )
            .sign(key, hashes.SHA256())
        )
        pair = Pair(certificate=str(tmp_path / f"{name}.pem"), key=str(tmp_path / f"{name}.key"))
        Path(pair.certificate).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        Path(pair.key).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair

    return make


@pytest.fixture
def address() -> str:
    return f"https://127.0.0.1:{free_port()}"


def test_commands_and_readings_go_over_tls(make_pair: MakePair, address: str) -> None:
    pair = make_pair("ledger")
    fake = ScriptedBackend()
    with serving(fake.app(), address, certificate=pair.certificate, key=pair.key):
        client = LedgerClient(address, ca_file=pair.certificate)
        assert client.submit(envelope()) == {"receipt": envelope().body_hash}
        assert client.read("echo", a=1) == {"a": "1"}
        with pytest.raises(Refused, match="unknown view"):
            client.read("nothing")
        client.close()
    assert fake.taken == [envelope()]


@pytest.mark.parametrize(
    ("host", "days", "why"),
    [("127.0.0.1", -1, "expired"), ("127.0.0.2", 1, "IP address mismatch")],
)
def test_a_certificate_for_another_time_or_place_is_not_trusted(
    make_pair: MakePair, address: str, host: str, days: int, why: str
) -> None:
    pair = make_pair("ledger", host=host, days=days)
    fake = ScriptedBackend()
    with serving(fake.app(), address, certificate=pair.certificate, key=pair.key):
        with pytest.raises(Unreachable, match=why) as caught:
            LedgerClient(address, ca_file=pair.certificate).submit(envelope())
        assert address in str(caught.value)
        assert "\n" not in str(caught.value)
    assert fake.taken == []


@pytest.mark.parametrize("trusted", ["another", "the system's"])
def test_a_certificate_of_an_unknown_authority_is_not_trusted(
    make_pair: MakePair, address: str, trusted: str
) -> None:
    pair = make_pair("ledger")
    ca_file = make_pair("another").certificate if trusted == "another" else None
    fake = ScriptedBackend()
    with (
        serving(fake.app(), address, certificate=pair.certificate, key=pair.key),
        pytest.raises(Unreachable, match="is not trusted"),
    ):
        LedgerClient(address, ca_file=ca_file).submit(envelope())
    assert fake.taken == []


def test_plain_http_to_a_tls_port_gets_nothing(make_pair: MakePair, address: str) -> None:
    pair = make_pair("ledger")
    with (
        serving(ScriptedBackend().app(), address, certificate=pair.certificate, key=pair.key),
        pytest.raises(Unreachable, match="no ledger answers"),
    ):
        LedgerClient(address.replace("https", "http")).read("echo")


def test_a_ca_file_that_is_none_is_a_usage_error(tmp_path: Path, address: str) -> None:
    (tmp_path / "empty").touch()
    for name in ("missing", "empty"):
        with pytest.raises(UsageError, match="holds no CA certificates"):
            LedgerClient(address, ca_file=str(tmp_path / name))
    for plain in ("unix:/run/s", "http://127.0.0.1:1"):
        with pytest.raises(UsageError, match="goes with https"):
            LedgerClient(plain, ca_file=str(tmp_path / "empty"))


def test_a_service_needs_a_certificate_and_the_key_that_fits(
    make_pair: MakePair, address: str, tmp_path: Path
) -> None:
    one, other = make_pair("one"), make_pair("other")
    (tmp_path / "empty").touch()
    bad = [
        (None, None, "needs a certificate"),
        (one.certificate, None, "needs a certificate"),
        (str(tmp_path / "missing"), one.key, "cannot read"),
        (one.certificate, str(tmp_path / "missing"), "cannot read"),
        (one.certificate, other.key, "no certificate and key"),
        (str(tmp_path / "empty"), one.key, "no certificate and key"),
    ]
    for certificate, key, why in bad:
        with pytest.raises(UsageError, match=why) as caught:
            parse_listen_address(address, certificate=certificate, key=key)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("response", "error", "words"),
    [
        (httpx.Response(503, text="Service Unavailable"), Refused, "overloaded"),
        (httpx.Response(503, json={"refused": "overloaded"}), Refused, "overloaded"),
        (httpx.Response(502, text="<html>"), OperationError, "502 without JSON"),
        (httpx.Response(200, text="<html>"), OperationError, "200 without JSON"),
        (httpx.Response(500, json={"detail": "no"}), OperationError, "answered 500"),
    ],
)
def test_an_answer_that_is_no_ledgers_is_an_error_of_one_line(
    response: httpx.Response, error: type[Exception], words: str
) -> None:
    client = LedgerClient("http://127.0.0.1:1")
    client._http = httpx.Client(
        base_url="http://ledger", transport=httpx.MockTransport(lambda _: response)
    )
    with pytest.raises(error, match=words):
        client.read("echo")
