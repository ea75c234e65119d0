"""Artifacts: whatever is altered on the way, the artifact is refused."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from wire.artifact import Artifact, ArtifactError, verified
from wire.messages import FROM_NCO, dump, parse

KEY = Ed25519PrivateKey.generate()
ARTIFACT = Artifact("dns_app_tag", "1.0.0", "bpf", b"\x7fELF object code")
MESSAGE = ARTIFACT.message(ARTIFACT.sign(KEY))


def test_what_was_signed_is_accepted() -> None:
    assert verified(MESSAGE, KEY.public_key()) == ARTIFACT


def test_it_survives_the_wire() -> None:
    assert verified(parse(FROM_NCO, dump(MESSAGE)), KEY.public_key()) == ARTIFACT


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"version": "1.0.1"},
        {"target": "kmod"},
        {"kernel": "6.1.0"},
        {"signature": b"\0" * 64},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_altered_claim_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="not signed by this NCO"):
        verified(MESSAGE.model_copy(update=changes), KEY.public_key())


@pytest.mark.parametrize("kernel", ["6.1.1", None])
def test_code_for_one_kernel_is_not_taken_for_another(kernel: str | None) -> None:
    artifact = Artifact("stream_tag", "1.0.0", "kmod", b"code", "6.1.0")
    message = artifact.message(artifact.sign(KEY))
    assert verified(message, KEY.public_key()).kernel == "6.1.0"
    with pytest.raises(ArtifactError, match="not signed by this NCO"):
        verified(message.model_copy(update={"kernel": kernel}), KEY.public_key())


@given(st.integers(0, len(ARTIFACT.data) - 1), st.integers(1, 255))
def test_altered_content_is_refused(position: int, difference: int) -> None:
    data = bytearray(ARTIFACT.data)
    data[position] ^= difference
    with pytest.raises(ArtifactError, match="does not have the digest"):
        verified(MESSAGE.model_copy(update={"data": bytes(data)}), KEY.public_key())


def test_content_under_its_own_digest_needs_its_own_signature() -> None:
    other = Artifact("dns_app_tag", "1.0.0", "bpf", b"something else")
    with pytest.raises(ArtifactError, match="not signed by this NCO"):
        verified(other.message(MESSAGE.signature), KEY.public_key())


@given(st.integers(0, 511))
def test_every_bit_of_the_signature_counts(bit: int) -> None:
    signature = bytearray(MESSAGE.signature)
    signature[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ArtifactError, match="not signed by this NCO"):
        verified(MESSAGE.model_copy(update={"signature": bytes(signature)}), KEY.public_key())


def test_another_signer_is_refused() -> None:
    with pytest.raises(ArtifactError, match="dns_app_tag: not signed by this NCO"):
        verified(MESSAGE, Ed25519PrivateKey.generate().public_key())
