"""No host loses its way back while the CA is replaced: whatever is lost, whoever dies, whenever."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controller import authorities, ca, ca_rotation
from controller.audit import AuditLog
from controller.authorities import Authorities, Phase
from controller.ca_rotation import CaRotation
from controller.certificates import new_authority, pem
from controller.config import ConfigError, NcoConfig, StateFolder
from controller.database import Database
from controller.enrol import Enrolment
from controller.errors import Conflict, Unavailable
from controller.holders import Held
from controller.identities import Identities, Validity
from tests.unit.test_trust_credentials import CONFIG, NOW
from wire import credential_files
from wire.credential_files import new_key, signing_request
from wire.enrol import Enrol, Token
from wire.identity import authority_id
from wire.messages import Holds, Renewed, RenewNow

WRITES = 4
"""At most, of one step."""


LOST = st.lists(
    st.sampled_from(["nothing", "nothing", "nothing", "nothing", "answer", "telling"]),
    min_size=4,
    max_size=4,
)


AWAY = st.sampled_from([set(), set(), {0}, {1}])


class KilledError(BaseException):
    """The process dies."""


@contextlib.contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, at: int, *, after: bool) -> Iterator[None]:
    """Die at the write or removal number `at` (from 1), before or after it is done."""
    done = 0

    def deadly(real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:  # noqa: ANN401
            nonlocal done
            done += 1
            if done == at and not after:
                raise KilledError
            real(*arguments)
            if done == at:
                raise KilledError

        return call

    with monkeypatch.context() as patch:
        for name in ("write", "remove"):
            patch.setattr(credential_files, name, deadly(getattr(credential_files, name)))
        yield


@dataclass
class Host:
    """What is on a host's disk, and its connection."""

    name: str
    trusts: frozenset[str]
    issuer: str
    online: bool = False
    revoked: bool = False
    asked: list[RenewNow] = field(default_factory=list)

    def send(self, message: RenewNow) -> None:
        self.asked.append(message)

    def holds(self) -> Holds:
        return Holds(authorities=sorted(self.trusts), issuer=self.issuer)


class Nco:
    """The parts of a service that replace the CA; another one is made when it was killed."""

    def __init__(self, state: StateFolder) -> None:
        self.state = state
        config = state.load_config()
        self.database = Database(state.database_url(config))
        found = authorities.load(state, config)
        if found.rotation:
            authorities.follow(state, found)
        validity = Validity(lifetime=86400, grace=86400)
        self.identities = Identities(self.database, found, validity, NOW.timestamp)
        audit = AuditLog(self.database, NOW.timestamp, 1000)
        self.rotation = CaRotation(state, config, self.identities, audit, self._put_in_force)
        self.enrolment = Enrolment(
            *(self.database, self.identities, b""),
            control="127.0.0.1:4545",
            clock=NOW.timestamp,
            cut=lambda _host, _reason: None,
        )
        asyncio.run(self.identities.load())

    async def _put_in_force(self, changed: Authorities) -> None:
        authorities.save(self.state, changed)
        self.identities.authorities = changed

    @property
    def now(self) -> Authorities:
        return self.identities.authorities

    def close(self) -> None:
        self.database.close()


def made(folder: Path, config: NcoConfig = CONFIG) -> StateFolder:
    state = StateFolder(folder / "state")
    ca.initialise(state, config)
    return state


def enrolled(nco: Nco, name: str) -> Host:
    async def play() -> Host:
        shown = nco.enrolment.authority
        text = await nco.enrolment.token(name, 60, ("127.0.0.1", 1))
        request = signing_request(new_key(), name)
        asked = Enrol(host=name, secret=Token.decode(text).secret, request=request)
        await nco.enrolment.enrol(asked, "here", shown)
        return Host(name, frozenset([shown.id]), shown.id)

    return asyncio.run(play())


def renewed(nco: Nco, host: Host) -> Renewed:
    request = signing_request(new_key(), host.name)
    return asyncio.run(nco.identities.renew(host.name, request))


def install(nco: Nco, host: Host, answer: Renewed) -> None:
    """Do what an agent does with an answer."""
    sent = authorities.x509.load_pem_x509_certificates(answer.ca)
    host.trusts = frozenset(authority_id(one) for one in sent)
    (certificate,) = authorities.x509.load_pem_x509_certificates(answer.certificate)
    (host.issuer,) = (one.id for one in nco.now.trusted if one.has_issued(certificate))


async def turned_back(nco: Nco) -> None:
    """Do what an operator does who has looked."""
    assert nco.now.rotation is not None
    await nco.rotation.abort(nco.now.rotation.stage)


def come(nco: Nco, host: Host) -> None:
    host.online = True
    nco.rotation.arrived(host.name, host)
    asyncio.run(nco.rotation.told(host.name, host, host.holds()))


class Rotations(RuleBasedStateMachine):
    """Operators, hosts, lost messages and `kill -9`, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(ca_rotation, "ASK_AGAIN", 0.0)
        self.nco = Nco(made(Path(self.folder.name)))
        self.hosts: list[Host] = []

    def teardown(self) -> None:
        try:
            self.everybody_is_well()
        finally:
            self.patch.undo()
            self.nco.close()
            self.folder.cleanup()

    @initialize()
    def some_hosts(self) -> None:
        self.hosts = [enrolled(self.nco, name) for name in ("h0", "h1")]

    @precondition(lambda self: len(self.hosts) < 4)
    @rule()
    def enrol(self) -> None:
        self.hosts.append(enrolled(self.nco, f"h{len(self.hosts)}"))

    @rule(rounds=st.lists(st.tuples(AWAY, LOST), min_size=1, max_size=4))
    def time_goes_by(self, rounds: list[tuple[set[int], list[str]]]) -> None:
        for away, lost in rounds:
            self.round(away, lost)
            self.all_can_come_back()

    def round(self, away: set[int], lost: list[str]) -> None:
        """Nearly all hosts come; who is asked renews, and something may be lost of that."""
        for number, host in enumerate(self.hosts):
            if number not in away and not host.online and not host.revoked:
                come(self.nco, host)
        asyncio.run(self.nco.rotation.look())
        for host, what in zip(self.hosts, lost, strict=False):
            if host.online and host.asked:
                self.renew(host, what)

    def renew(self, host: Host, lost: str) -> None:
        host.asked.clear()
        answer = renewed(self.nco, host)
        if answer.certificate and lost != "answer":
            install(self.nco, host, answer)
        if lost == "nothing":
            asyncio.run(self.nco.rotation.told(host.name, host, host.holds()))
        else:
            self.leave(host)

    @precondition(lambda self: len(self.hosts) > 2)
    @rule()
    def revoke(self) -> None:
        host = self.hosts[-1]
        asyncio.run(self.nco.identities.revoke(host.name))
        host.revoked = True
        self.leave(host)

    @precondition(lambda self: self.nco.now.rotation is None)
    @rule()
    def begin(self) -> None:
        asyncio.run(self.nco.rotation.begin())

    @precondition(lambda self: self.nco.now.rotation is not None)
    @rule(sure=st.sampled_from([False, False, True]))
    def turn_back(self, sure: bool) -> None:
        if sure:
            asyncio.run(turned_back(self.nco))

    @rule(
        at=st.integers(1, WRITES),
        after=st.booleans(),
        what=st.sampled_from(["look", "look", "ask"]),
    )
    def die(self, at: int, after: bool, what: str) -> None:
        """Die within a step, if there is one to take now."""
        rotation = self.nco.rotation
        jobs: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "look": rotation.look,
            "ask": rotation.begin
            if self.nco.now.rotation is None
            else lambda: turned_back(self.nco),
        }
        with dying(self.patch, at, after=after), contextlib.suppress(KilledError):
            asyncio.run(jobs[what]())
        self.kill()

    @rule()
    def kill(self) -> None:
        state = self.nco.state
        self.nco.close()
        for host in self.hosts:
            host.online = False
            host.asked.clear()
        self.nco = Nco(state)

    def leave(self, host: Host) -> None:
        host.online = False
        host.asked.clear()
        self.nco.rotation.left(host.name, host)

    @invariant()
    def all_can_come_back(self) -> None:
        state = self.nco.state
        for now in (self.nco.now, authorities.load(state, state.load_config())):
            for host in self.hosts:
                if not host.revoked:
                    assert now.signing.id in host.trusts, f"{host.name} does not believe the NCO"
                    assert host.issuer in now.ids, f"{host.name} is not let in"

    def everybody_is_well(self) -> None:
        """Let all be there and answer: it comes to its end."""
        for _ in range(12):
            for host in self.hosts:
                if not host.online and not host.revoked:
                    come(self.nco, host)
            asyncio.run(self.nco.rotation.look())
            for host in self.hosts:
                if host.asked:
                    host.asked.clear()
                    install(self.nco, host, renewed(self.nco, host))
                    asyncio.run(self.nco.rotation.told(host.name, host, host.holds()))
            self.all_can_come_back()
        assert self.nco.now.rotation is None
        assert not self.nco.state.ca_rotation.exists()
        alone = Authorities(self.nco.now.signing)
        for host in self.hosts:
            if not host.revoked:
                assert Held(host.trusts, host.issuer).is_up_to_date(alone)


TestRotations = Rotations.TestCase
TestRotations.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


def play(nco: Nco, hosts: list[Host], *lost: str) -> None:
    """Let hosts come, and those that are asked renew; for each, what is lost of that."""
    for host in hosts:
        if not host.online:
            come(nco, host)
    asyncio.run(nco.rotation.look())
    for host, what in zip(hosts, lost, strict=True):
        if host.asked:
            host.asked.clear()
            answer = renewed(nco, host)
            if what != "answer":
                install(nco, host, answer)
            if what == "nothing":
                asyncio.run(nco.rotation.told(host.name, host, host.holds()))
            else:
                host.online = False
                nco.rotation.left(host.name, host)


@pytest.fixture
def nco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nco]:
    monkeypatch.setattr(ca_rotation, "ASK_AGAIN", 0.0)
    with contextlib.closing(Nco(made(tmp_path))) as nco:
        yield nco


def test_the_old_ca_stays_while_a_host_may_have_a_certificate_of_it(nco: Nco) -> None:
    hosts = [enrolled(nco, "h0"), enrolled(nco, "h1")]
    old = nco.now.signing.id
    asyncio.run(nco.rotation.begin())
    play(nco, hosts, "nothing", "nothing")
    assert nco.rotation.missing() == []
    play(nco, hosts, "nothing", "answer")
    assert nco.now.signing.id != old
    asyncio.run(nco.rotation.look())
    assert [one.host for one in nco.rotation.missing()] == ["h1"]
    assert hosts[1].issuer == old
    assert old in nco.now.ids
    play(nco, hosts, "nothing", "nothing")
    asyncio.run(nco.rotation.look())
    assert nco.now.ids == {hosts[1].issuer}


def test_going_back_waits_for_a_host_that_may_have_a_certificate_of_the_new_ca(nco: Nco) -> None:
    """It got one, and nobody knows."""
    hosts = [enrolled(nco, "h0"), enrolled(nco, "h1")]
    old = nco.now.signing.id
    asyncio.run(nco.rotation.begin())
    play(nco, hosts, "nothing", "nothing")
    play(nco, hosts, "nothing", "telling")
    new = nco.now.signing.id
    assert hosts[1].issuer == new != old
    asyncio.run(turned_back(nco))
    asyncio.run(nco.rotation.look())
    assert nco.now.signing.id == old, "all trust it"
    asyncio.run(nco.rotation.look())
    assert new in nco.now.ids
    assert "h1" in {one.host for one in nco.rotation.missing()}
    play(nco, hosts, "nothing", "nothing")
    asyncio.run(nco.rotation.look())
    assert nco.now.ids == {old}
    assert hosts[1].issuer == old


def test_a_step_is_not_taken_from_where_who_asks_did_not_see_it(nco: Nco) -> None:
    """It went on by itself meanwhile, or the answer to the first time was lost."""
    hosts = [enrolled(nco, "h0"), enrolled(nco, "h1")]
    asyncio.run(nco.rotation.begin())
    play(nco, hosts, "nothing", "nothing")
    assert nco.now.rotation is not None
    before = nco.now.rotation.stage
    asyncio.run(nco.rotation.look())
    retire = nco.now
    assert retire.rotation is not None
    assert retire.rotation.phase == Phase.RETIRE
    for ask in (nco.rotation.finish, nco.rotation.abort):
        for seen in (before, None):
            with pytest.raises(Conflict, match="nco ca show"):
                asyncio.run(ask(seen))
        assert nco.now is retire
    asyncio.run(nco.rotation.abort(retire.rotation.stage))
    assert nco.now.rotation is not None
    with pytest.raises(Conflict, match="going back"):
        asyncio.run(nco.rotation.finish(before))
    assert [one.host for one in asyncio.run(nco.rotation.finish(nco.now.rotation.stage))] == []


def begun(state: StateFolder) -> Authorities:
    config = state.load_config()
    return authorities.load(state, config).begun(authorities.make(config, datetime.now(UTC)))


def steps(state: StateFolder) -> list[tuple[str, Authorities]]:
    """Return all that is ever written, each with what is on the disk before it."""
    one = authorities.load(state, state.load_config())
    spread = begun(state)
    assert spread.rotation is not None
    retire = spread.switched(spread.rotation)
    assert retire.rotation is not None
    back = retire.turned(retire.rotation)
    assert back.rotation is not None
    forth = back.turned(back.rotation)
    return [
        ("begin", one),
        ("switch", spread),
        ("turn", retire),
        ("turn again", back),
        ("end", forth),
        ("over", forth.alone()),
    ]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, WRITES + 1))
@pytest.mark.parametrize("number", range(5))
def test_a_service_that_dies_within_a_step_has_taken_it_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, at: int, after: bool
) -> None:
    state = made(tmp_path)
    config = state.load_config()
    (_, before), (_, wanted) = steps(state)[number : number + 2]
    authorities.save(state, before)
    with dying(monkeypatch, at, after=after), contextlib.suppress(KilledError):
        authorities.save(state, wanted)
    found = authorities.load(state, config)
    shape = [(a.ids, a.signing.id, a.rotation and a.rotation.phase) for a in (before, wanted)]
    assert (found.ids, found.signing.id, found.rotation and found.rotation.phase) in shape
    if found.rotation:  # as the service does when it begins
        authorities.follow(state, found)
    assert state.credentials.ca.read_bytes() == found.bundle
    assert state.ca_key.read_bytes() == found.signing.sealed
    assert state.ca_rotation.exists() == (found.rotation is not None)
    ca.issue_host(state, "h1", tmp_path / "h1").client_context()


def test_a_switch_gives_the_service_a_certificate_of_the_new_one(tmp_path: Path) -> None:
    state = made(tmp_path)
    spread, retire = steps(state)[1][1], steps(state)[2][1]
    lifetime = timedelta(days=1)
    for now in (spread, retire):
        authorities.save(state, now)
        ca.renew_own(state, now.signing, lifetime, datetime.now(UTC))
        own = authorities.x509.load_pem_x509_certificate(state.credentials.certificate.read_bytes())
        assert now.signing.has_issued(own)
        state.credentials.server_context()


def test_both_keys_are_encrypted_where_one_is(tmp_path: Path) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse\n")
    config = CONFIG.model_copy(update={"ca_passphrase_file": passphrase})
    state = made(tmp_path, config)
    spread = begun(state)
    authorities.save(state, spread)
    text = state.ca_rotation.read_text()
    assert text.count("ENCRYPTED PRIVATE KEY") == 4, "begin and end of two"
    assert text.count("BEGIN PRIVATE KEY") == 0
    with pytest.raises(ConfigError, match="ca_passphrase_file"):
        authorities.load(state, config.model_copy(update={"ca_passphrase_file": None}))
    assert spread.rotation is not None
    over = spread.switched(spread.rotation).alone()
    authorities.save(state, over)
    assert b"ENCRYPTED" in state.ca_key.read_bytes()
    assert authorities.load(state, state.load_config()).signing.id == over.signing.id


def test_without_the_passphrase_no_new_ca_is_made(tmp_path: Path) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse\n")
    state = made(tmp_path, CONFIG.model_copy(update={"ca_passphrase_file": passphrase}))
    with contextlib.closing(Nco(state)) as nco:
        passphrase.unlink()
        with pytest.raises(Unavailable, match="no new CA can be made"):
            asyncio.run(nco.rotation.begin())
        assert nco.now.rotation is None
    assert not state.ca_rotation.exists()


@pytest.mark.parametrize("sealed", ["with another one", "with none"])
def test_no_new_ca_is_made_that_a_restart_could_not_open_beside_the_present_one(
    tmp_path: Path, sealed: str
) -> None:
    """The passphrase was changed, or is new, since the service began."""
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse\n")
    config = CONFIG.model_copy(update={"ca_passphrase_file": passphrase})
    state = made(tmp_path, config if sealed == "with another one" else CONFIG)
    with contextlib.closing(Nco(state)) as nco:
        nco.rotation._config = config
        passphrase.write_text("battery staple\n")
        with pytest.raises(Unavailable, match="put the former passphrase"):
            asyncio.run(nco.rotation.begin())
        assert nco.now.rotation is None
    assert not state.ca_rotation.exists()


def test_whoever_adds_hosts_the_service_can_read_which(tmp_path: Path) -> None:
    """Root may have added them, with a umask of its own, and the service be somebody else."""
    state = made(tmp_path)
    before = os.umask(0o077)
    try:
        ca.issue_host(state, "h1", tmp_path / "h1")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (state.hosts_added, *added(state))]
    assert modes == [0o755, 0o644]
    state.hosts_added.chmod(0o700)
    ca.issue_host(state, "h2", tmp_path / "h2")
    assert stat.S_IMODE(state.hosts_added.stat().st_mode) == 0o755
    assert [one.name for one in ca.hosts_added(state)] == ["h1", "h2"]


def added(state: StateFolder) -> list[Path]:
    return sorted(state.hosts_added.iterdir())


@pytest.mark.parametrize("what", ["the folder", "a file"])
def test_hosts_that_cannot_be_read_are_not_left_behind(
    nco: Nco, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    ca.issue_host(nco.state, "h1", tmp_path / "h1")

    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        if what == "the folder":
            patch.setattr(os, "listdir", forbidden)
            patch.setattr(os, "scandir", forbidden)
        else:
            patch.setattr(Path, "read_bytes", forbidden)
        with pytest.raises(Unavailable, match=r"Permission denied.*hosts-added"):
            asyncio.run(nco.rotation.begin())
    assert nco.now.rotation is None
    asyncio.run(nco.rotation.begin())
    assert [one.host for one in nco.rotation.missing()] == ["h1"]


def test_no_host_has_credentials_of_which_the_service_would_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = made(tmp_path)
    with dying(monkeypatch, 1, after=False), pytest.raises(KilledError):
        ca.issue_host(state, "h1", tmp_path / "h1")
    assert not (tmp_path / "h1" / "key.pem").exists()
    assert added(state) == []
    with dying(monkeypatch, 1, after=True), pytest.raises(KilledError):
        ca.issue_host(state, "h1", tmp_path / "h1")
    assert [one.name for one in ca.hosts_added(state)] == ["h1"]
    assert not (tmp_path / "h1").exists()


@pytest.mark.parametrize("text", ["", "{}", "nonsense", '{"phase": "spread"}'])
def test_a_damaged_file_is_named_and_not_shown(tmp_path: Path, text: str) -> None:
    state = made(tmp_path)
    state.ca_rotation.write_text(text)
    with pytest.raises(ConfigError, match=r"ca\.rotation cannot be read"):
        authorities.load(state, state.load_config())


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    state = made(tmp_path)
    authorities.save(state, begun(state))
    other = pem(new_authority(NOW).certificate).decode().replace("\n", "\\n")
    text = state.ca_rotation.read_text()
    first = text.index('"certificate": "') + len('"certificate": "')
    state.ca_rotation.write_text(text[:first] + other + text[text.index('"', first) :])
    with pytest.raises(ConfigError, match="is not that of its certificate"):
        authorities.load(state, state.load_config())


def test_what_is_on_its_way_to_a_host_is_not_believed(tmp_path: Path) -> None:
    state = made(tmp_path)
    spread = begun(state)
    assert spread.rotation is not None
    retire = spread.switched(spread.rotation)
    old, new = spread.signing.id, spread.rotation.other.id
    both = frozenset([old, new])
    assert Held(frozenset([old]), old).after_sending(spread) == Held(frozenset([old]), old)
    assert Held(both, old).after_sending(retire) == Held(both, None)
    assert Held(both, new).after_sending(retire.alone()) == Held(frozenset([new]), new)
    assert Held(both, new).is_up_to_date(retire)
    assert not Held(both, None).is_up_to_date(retire)


def test_somebody_is_warned_half_a_year_before_it_expires(
    nco: Nco, monkeypatch: pytest.MonkeyPatch
) -> None:
    expires = nco.now.signing.certificate.not_valid_after_utc
    assert nco.rotation.warnings(expires - timedelta(days=181)) == {}
    (text,) = nco.rotation.warnings(expires - timedelta(days=100)).values()
    assert "in 100 days" in text
    assert "nco ca rotate" in text
    told: list[dict[str, str]] = []
    nco.rotation.observers.append(told.append)
    monkeypatch.setattr(ca_rotation, "WARN_BEFORE", timedelta(days=4000))
    for _ in range(2):
        asyncio.run(nco.rotation.look())
    assert [list(texts) for texts in told] == [[nco.now.signing.name]]
    asyncio.run(nco.rotation.begin())
    monkeypatch.setattr(ca_rotation, "WARN_BEFORE", timedelta(days=180))
    asyncio.run(nco.rotation.look())
    assert told[1:] == [{}]


def test_no_clock_that_jumps_lets_a_host_be_forgotten(nco: Nco) -> None:
    enrolled(nco, "h1")
    nco.identities._clock = (NOW + timedelta(days=300)).timestamp
    asyncio.run(nco.rotation.begin())
    asyncio.run(nco.rotation.look())
    (missing,) = nco.rotation.missing()
    assert "has expired" in missing.reason
    asyncio.run(nco.identities.revoke("h1"))
    for _ in range(2):
        asyncio.run(nco.rotation.look())
    assert nco.now.rotation is None


def test_a_disk_that_is_full_changes_nothing_and_it_goes_on_by_itself(
    nco: Nco, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = [enrolled(nco, "h1")]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(credential_files, "write", full)
        with pytest.raises(Unavailable, match="No space left"):
            asyncio.run(nco.rotation.begin())
    assert nco.now.rotation is None
    asyncio.run(nco.rotation.begin())
    play(nco, hosts, "nothing")
    before = nco.now
    with monkeypatch.context() as patch:
        patch.setattr(credential_files, "write", full)
        with pytest.raises(Unavailable, match="No space left"):
            asyncio.run(nco.rotation.look())
    assert nco.now is before
    assert not nco.identities.is_switching
    for _ in range(2):
        play(nco, hosts, "nothing")
    assert nco.now.rotation is None
    assert hosts[0].issuer == nco.now.signing.id


def test_a_host_is_asked_again_only_after_a_while(
    nco: Nco, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ca_rotation, "ASK_AGAIN", 30.0)
    host = enrolled(nco, "h1")
    asyncio.run(nco.rotation.begin())
    come(nco, host)
    for _ in range(3):
        asyncio.run(nco.rotation.look())
    assert len(host.asked) == 1
    assert renewed(nco, host).certificate
    assert "only just now" in (renewed(nco, host).error or "")


def test_a_host_that_never_has_what_it_should_is_asked_ever_more_rarely(
    nco: Nco, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says wrong things, or its disk is read-only; each time is a certificate and a commit."""
    monkeypatch.setattr(ca_rotation, "ASK_AGAIN", 30.0)
    host = enrolled(nco, "h1")
    host.trusts = frozenset(["0" * 64])

    def asked(hours: int) -> int:
        before = len(host.asked)
        for second in range(hours * 360):
            nco.rotation._ask(start + second * 10.0)
            come(nco, host)  # also not by coming again
        return len(host.asked) - before

    start = 1000.0
    assert asked(24) < 16
    start += 86400.0
    assert asked(24) in range(3, 6), "it may have been mended"
    asyncio.run(nco.rotation.begin())
    start += 86400.0
    assert asked(1) > 4, "that is something else"


def test_hosts_that_were_not_asked_yet_come_first(
    nco: Nco, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ca_rotation, "ASK_AT_ONCE", 2)
    hosts = [enrolled(nco, f"h{number}") for number in range(5)]
    asyncio.run(nco.rotation.begin())
    for host in hosts:
        come(nco, host)
    for now in range(3):
        nco.rotation._ask(float(now))
    assert all(host.asked for host in hosts)


def test_what_a_session_says_that_is_over_does_not_count(nco: Nco) -> None:
    before = enrolled(nco, "h1")
    come(nco, before)
    old = Holds(authorities=["0" * 64], issuer="0" * 64)
    anew = enrolled(nco, "h1")
    nco.rotation.left("h1", before)
    asyncio.run(nco.rotation.told("h1", before, old))
    come(nco, anew)
    asyncio.run(nco.rotation.told("h1", before, old))
    assert nco.identities.holders.of("h1") == Held(anew.trusts, anew.issuer)
    assert "h1" not in nco.rotation._lacking


def test_hosts_that_were_added_are_stored_all_together(nco: Nco, tmp_path: Path) -> None:
    for number in range(30):
        ca.issue_host(nco.state, f"h{number}", tmp_path / f"h{number}")
    before = nco.database.commits[0]
    asyncio.run(nco.rotation.begin())
    assert nco.database.commits[0] - before < 10
    assert len(nco.rotation.missing()) == 30


def test_what_a_host_had_that_was_revoked_says_nothing_of_the_next_of_its_name(
    nco: Nco, tmp_path: Path
) -> None:
    host = enrolled(nco, "h1")
    come(nco, host)
    asyncio.run(nco.identities.revoke("h1"))
    again = Nco(nco.state)
    for one in (nco, again):
        assert not one.identities.holders.is_known("h1")
        assert one.identities.holders.of("h1") == Held()
    again.close()


def test_a_new_ca_does_not_pass_for_the_old_one(tmp_path: Path) -> None:
    state = made(tmp_path)
    spread = begun(state)
    assert spread.rotation is not None
    assert spread.rotation.phase == Phase.SPREAD
    assert spread.signing.name != spread.rotation.other.name
    assert spread.bundle.startswith(pem(spread.signing.certificate))
