"""Enrolment tokens and messages, role rules, failure limits: the parts without any I/O."""

from __future__ import annotations

import contextlib
import hashlib
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.access import role_for
from controller.audit_trail import _summary
from controller.certificates import new_authority, pem
from controller.limits import SOURCES_KEPT, FailureLimit
from controller.tokens import Role
from tests.unit.test_trust_credentials import NOW
from wire.enrol import FROM_HOST, PREFIX, Token, TokenError, authorities, fingerprint
from wire.messages import MessageError, parse

TOKEN = Token(
    address="192.0.2.5", port=4546, host="alpha", secret=bytes(range(32)), fingerprint=bytes(32)
)


@given(
    st.text("abcdefghij.-0123456789", min_size=1, max_size=60),
    st.integers(1, 65535),
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
)
def test_a_token_is_one_word_and_comes_back(
    address: str, port: int, host: str, secret: bytes, mark: bytes
) -> None:
    token = Token(address=address, port=port, host=host, secret=secret, fingerprint=mark)
    word = token.encode()
    assert len(word.split()) == 1
    assert Token.decode(f"  {word}\n") == token


@given(st.text(max_size=300) | st.text(max_size=300).map(lambda text: PREFIX + text))
def test_other_words_are_refused_and_not_repeated(word: str) -> None:
    with pytest.raises(TokenError) as refused:
        Token.decode(word)
    assert len(word) < 12 or word not in str(refused.value)


@given(st.integers(len(PREFIX), len(TOKEN.encode()) - 1))
def test_a_token_that_was_cut_is_refused(length: int) -> None:
    with pytest.raises(TokenError, match="not copied as a whole"):
        Token.decode(TOKEN.encode()[:length])


def test_a_secret_is_not_shown() -> None:
    assert "secret" not in repr(TOKEN)


@given(st.dictionaries(st.text(max_size=8), st.binary(max_size=40) | st.integers()))
def test_any_map_is_a_request_or_refused(value: dict[str, object]) -> None:
    with contextlib.suppress(MessageError):
        parse(FROM_HOST, {"type": "enrol", **value})


def test_a_fingerprint_is_of_all_authorities_in_their_order() -> None:
    one, two = (pem(new_authority(NOW).certificate) for _ in range(2))
    assert fingerprint(one) == fingerprint(b"# a comment\n" + one)
    assert len({fingerprint(x) for x in (one, two, one + two, two + one, one + one)}) == 5
    for bad in (b"", b"nothing", one[:-30], "ä".encode()):
        with pytest.raises(ValueError):  # noqa: PT011 - any of them
            fingerprint(bad)


@pytest.mark.parametrize("tag", ["X509 CERTIFICATE", "TRUSTED CERTIFICATE", "CERTIFICATE"])
def test_nobody_is_trusted_whom_the_fingerprint_does_not_say(tag: str) -> None:
    ours, foreign = (pem(new_authority(NOW).certificate) for _ in range(2))
    both = ours + foreign.decode().replace("CERTIFICATE", tag).encode()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authorities(both).decode())
    trusted = len(context.get_ca_certs())
    assert trusted == 1 or fingerprint(both) != fingerprint(ours)


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/status", Role.VIEWER),
        ("GET", "/intents/tag", Role.VIEWER),
        ("POST", "/intents/plan", Role.VIEWER),
        ("PUT", "/intents/tag", Role.OPERATOR),
        ("DELETE", "/intents/tag", Role.OPERATOR),
        ("GET", "/audit", Role.ADMIN),
        ("GET", "/tokens", Role.ADMIN),
        ("POST", "/tokens", Role.ADMIN),
        ("DELETE", "/tokens/x", Role.ADMIN),
        ("POST", "/hosts/alpha/token", Role.ADMIN),
        ("POST", "/hosts/alpha/revoke", Role.ADMIN),
        ("GET", "/not/thought/of", Role.ADMIN),
        ("PUT", "/policy", Role.ADMIN),
        ("GET", "/statusx", Role.ADMIN),
    ],
)
def test_roles(method: str, path: str, role: Role) -> None:
    assert role_for(method, path) == role


def test_failures_leak_away_with_time() -> None:
    now = 0.0
    limit = FailureLimit(lambda: now, allowed=3, per_second=0.5)
    assert [limit.failed("a") for _ in range(4)] == [False, False, True, False]
    assert limit.is_exceeded("a")
    assert not limit.is_exceeded("b")
    now = 1.9
    assert limit.is_exceeded("a")
    now = 2.0
    assert not limit.is_exceeded("a")
    assert limit.failed("a")
    now = 100.0
    assert [limit.failed("a") for _ in range(3)] == [False, False, True]


def test_failures_of_many_sources_take_bounded_memory() -> None:
    limit = FailureLimit(lambda: 0.0, allowed=1, per_second=1)
    for number in range(SOURCES_KEPT + 10):
        limit.failed(str(number))
    assert len(limit._levels) == SOURCES_KEPT
    assert not limit.is_exceeded("0")
    assert limit.is_exceeded(str(SOURCES_KEPT))


def test_a_request_is_summed_up_without_secrets() -> None:
    body = b'{"name":"x","client":[{"api_key":"hush"}],"Token":"hush","n":1}'
    summary = _summary(body)
    assert "hush" not in summary
    assert '"name":"x"' in summary
    assert hashlib.sha256(body).hexdigest()[:16] in summary
    assert _summary(b"[" * 100_000).endswith("100000 bytes")
    assert _summary(b"") == ""
