"""The life of Relay's Debian package on a machine: the package of an older version, and then ours.

`python -m tests.e2e.packaging.journey OLD.deb NEW.deb`, by the command line of `overlay.apart`: installed, set up by
root, used by root and another user, upgraded with mail in its queue, given ports by systemd's socket program, backed
up, restored, removed and purged. Its upstream is Dovecot with a login and TLS. It ends with 0 when all of that was
so.
"""

import contextlib
import json
import signal
import sqlite3
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from tests.e2e.packaging.overlay import Overlay, overlay
from tests.peers.canaries import leaks_in, plain_canary
from tests.peers.clients import Endpoint
from tests.peers.dovecot import Dovecot, dovecot_server
from tests.peers.raw import RawClient
from tests.peers.sink import Sink, sink_server
from tests.peers.system import LOOPBACK, free_port, wait_until
from tests.peers.systemd import NotifySocket

SUPPORT, SALES = "support@acmejets.example", "sales@acmejets.example"
DATABASE = "/var/lib/relay/relay.db"
NOTIFY = "/run/notify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """The machine, its upstream, the two packages, and where the service writes its log."""

    machine: Overlay
    dovecot: Dovecot
    sink: Sink
    old: str
    new: str
    log: Path

    def install(self, package: str) -> None:
        """Install a package that is in /tmp there."""
        self.machine.do("dpkg", "--force-confdef", "--force-confold", "--install", package)
        # Every file is as it is in the package, but for the settings, marked with a c, which are the administrator's.
        changed = self.machine.do("dpkg", "--verify", "relay").splitlines()
        assert [line for line in changed if " c " not in line] == []

    def relay(self, *arguments: str, data: str = "") -> str:
        """Run a command as root."""
        return self.machine.do("relay", *arguments, data=data)

    def ask(self, *arguments: str) -> Any:
        """Run a command of root that answers in JSON."""
        return json.loads(self.relay(*arguments, "--json"))

    @contextlib.contextmanager
    def serving(self, *before: str, credentials: str = "") -> Iterator[NotifySocket]:
        """The service, from its READY=1 to its end in order. `credentials`: the folder that systemd would give it."""
        place = self.machine.path(NOTIFY)
        place.unlink(missing_ok=True)
        heard = NotifySocket(str(place))
        place.chmod(0o777)
        variables = {"NOTIFY_SOCKET": NOTIFY, "WATCHDOG_USEC": "2000000"}
        variables |= {"CREDENTIALS_DIRECTORY": credentials} if credentials else {}
        try:
            with self.machine.service(self.log, *before, environment=variables) as process:
                if not before:
                    heard.wait_for("READY=1")
                yield heard
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0, self.log.read_text()
        finally:
            heard.close()

    def sendmail(self, user: str, sender: str, recipient: str) -> None:
        """Send as a user of that machine, who need be nobody special."""
        message = f"From: {sender}\nTo: {recipient}\nSubject: from {user}\n\nhello\n"
        self.machine.do("relay-sendmail", "-f", sender, recipient, user=user, data=message)

    def waiting(self) -> Mapping[str, dict[str, Any]]:
        """What `relay queue list` shows, by the recipient of each message."""
        return {one["recipients"][0]["address"]: one for one in self.ask("queue", "list")}

    def revision(self, database: str = DATABASE) -> str:
        """The schema of a database there."""
        with contextlib.closing(sqlite3.connect(self.machine.path(database))) as connection:
            return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def main(old: str, new: str) -> None:
    """Go all the way."""
    authority = trustme.CA()
    certificate = authority.issue_cert(LOOPBACK, "localhost", "upstream.test").private_key_and_cert_chain_pem.bytes()
    with overlay() as machine, sink_server() as sink, dovecot_server(sink.port, certificate) as dovecot:
        machine.do("useradd", "--create-home", "jane")
        for name, package in (("old", old), ("new", new)):
            machine.path(f"/tmp/{name}.deb").write_bytes(Path(package).read_bytes())
        machine.path("/etc/upstream.pem").write_bytes(authority.cert_pem.bytes())
        log = machine.upper.parent / "log"
        journey = Journey(machine=machine, dovecot=dovecot, sink=sink, old="/tmp/old.deb", new="/tmp/new.deb", log=log)
        for step in STEPS:
            step(journey)
            machine.say(f"{step.__name__}: {(step.__doc__ or '').splitlines()[0]}")
        assert not leaks_in(log.read_bytes()), "the service told a password"


def arrive(journey: Journey) -> None:
    """The older package makes the user, the folders and the settings, and starts nothing by itself here."""
    machine = journey.machine
    journey.install(journey.old)
    number = int(machine.do("id", "-u", "relay"))
    for name, mode, owner in (
        ("/var/lib/relay", 0o700, number),
        ("/run/relay", 0o755, number),
        ("/etc/relay", 0o755, 0),
        ("/etc/relay/relay.toml", 0o644, 0),
    ):
        found = machine.path(name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (mode, owner), name
    assert machine.do("relay", "--version", user="jane") == machine.do("relay", "--version")
    machine.verify_units("/usr/lib/systemd/system")


def set_up(journey: Journey) -> None:
    """Root gives it a server and two channels while it runs; root and another user send; one message has to wait."""
    machine, dovecot = journey.machine, journey.dovecot
    dovecot.add_users({SUPPORT: plain_canary("support"), SALES: plain_canary("sales")})
    with journey.serving():
        server = ("--host", LOOPBACK, "--port", str(dovecot.starttls_port), "--username", SUPPORT)
        journey.relay("server", "add", "acmejets", *server, "--password-stdin", data=plain_canary("support") + "\n")
        journey.relay("server", "set", "acmejets", "ca_file=/etc/upstream.pem")
        # Nobody listens there yet.
        journey.relay("server", "add", "later", "--host", LOOPBACK, "--port", str(free_port()), "--username", SALES)
        journey.relay("server", "set", "later", "ca_file=/etc/upstream.pem")
        for name, address, where in (("support", SUPPORT, "acmejets"), ("sales", SALES, "later")):
            given = ("--address", address, "--server", where, "--override", "--password-stdin")
            journey.relay("channel", "add", name, *given, data=plain_canary(name) + "\n")
        wait_until(lambda: "250" in submit(SUPPORT, "first@customer.example"), "the directory in effect")
        journey.sendmail("root", SUPPORT, "root@customer.example")
        journey.sendmail("jane", SUPPORT, "jane@customer.example")
        journey.sendmail("jane", SALES, "waits@customer.example")
        assert set(journey.waiting()) == {"waits@customer.example"}
        # Another user's commands are about a relay of her own, which she has not.
        for command in (("queue", "list"), ("channel", "list"), ("route", SALES)):
            assert "later" not in machine.try_("relay", *command, user="jane").text, command
        assert "Permission denied" in machine.try_("cat", DATABASE, user="jane").err
    for who in ("first", "root", "jane"):
        assert journey.sink.wait_for(f"{who}@customer.example").login == SUPPORT


def upgrade(journey: Journey) -> None:
    """Our package over the older one: the database is brought up to date, a copy stays, and what waited arrives."""
    machine, dovecot = journey.machine, journey.dovecot
    before = journey.revision()
    settings = machine.path("/etc/relay/relay.toml")
    settings.write_text(settings.read_text() + '\n[[listener]]\nname = "second"\naddress = "127.0.0.1:2526"\n')
    journey.install(journey.new)
    assert 'name = "second"' in settings.read_text()
    for page in ("man1/relay.1", "man5/relay.toml.5", "man8/relay-sendmail.8"):
        assert machine.path(f"/usr/share/man/{page}.gz").exists(), page
    with journey.serving():
        copy = f"{DATABASE}.schema-{before}.old"
        assert (before, journey.revision()) == (journey.revision(copy), head(machine))
        assert before != journey.revision()
        assert copy in journey.log.read_text(), "the log says where it is"
        assert machine.path(copy).stat().st_uid == int(machine.do("id", "-u", "relay"))
        assert stat.S_IMODE(machine.path(copy).stat().st_mode) == 0o600
        assert set(journey.waiting()) == {"waits@customer.example"}
        journey.relay("server", "set", "later", f"port={dovecot.starttls_port}")
        assert journey.sink.wait_for("waits@customer.example", seconds=20).login == SALES
        assert "250" in submit(SUPPORT, "second@customer.example", port=2526)
        for command in (("status",), ("queue", "list"), ("server", "add", "own", "--host", "smtp.acmejets.example")):
            asked = machine.try_("relay", *command, user="jane")
            assert (asked.status, asked.out) == (1, ""), command
            assert "(/run/relay/control.sock), and only root and its owner may ask" in asked.err, command


def go_back(journey: Journey) -> None:
    """The older package again: its service refuses the newer database in a sentence, and leaves it as it is."""
    machine, now = journey.machine, journey.revision()
    with contextlib.closing(sqlite3.connect(machine.path(DATABASE))) as connection, connection:
        # As a migration leaves it after which no older relay can use the database: not each is one.
        connection.execute("UPDATE schema_floor SET floor = revision")
    journey.install(journey.old)
    with machine.service(journey.log) as process:
        assert process.wait(30) == 1
    said = journey.log.read_text()
    assert f"the store {DATABASE} was made by a newer relay (schema {now}, and this one knows " in said
    assert "Traceback" not in said
    assert journey.revision() == now
    journey.install(journey.new)


def low_ports(journey: Journey) -> None:
    """systemd's own program opens port 587 for it; the first client starts it, and it feeds its watchdog."""
    journey.machine.do("systemctl", "enable", "relay-submission.socket")
    settings = journey.machine.path("/etc/relay/relay.toml")
    before = settings.read_text()
    settings.write_text(before + '\n[[listener]]\nname = "submission"\naddress = "fd:submission"\n')
    activate = ("systemd-socket-activate", "-l", f"{LOOPBACK}:587", "--fdname=submission")
    with journey.serving(*activate) as heard:
        wait_until(lambda: "250" in submit(SUPPORT, "low@customer.example", port=587), "port 587")
        assert f"{LOOPBACK}:587" in heard.wait_for("READY=1")[1]
        for _ in range(2):
            heard.wait_for("WATCHDOG=1")
        assert f"{LOOPBACK}:587" in journey.ask("status")["listeners"]
    settings.write_text(before)


def lose_and_restore(journey: Journey) -> None:
    """A backup of the running service, everything lost, and all of it back, with what waited held."""
    machine = journey.machine
    with journey.serving():
        journey.relay("server", "set", "later", f"port={free_port()}")
        wait_until(lambda: "250" in submit(SALES, "held@customer.example"), "a message in the queue")
        journey.relay("backup", "/root/relay.tar.gz")
        refused = machine.try_("relay", "restore", "/root/relay.tar.gz")
        assert (refused.status, "stop it first" in refused.err) == (1, True)
    machine.do("sh", "-c", "rm -rf /var/lib/relay/*")
    journey.relay("restore", "/root/relay.tar.gz")
    with journey.serving():
        held = journey.waiting()["held@customer.example"]
        assert held["state"] == "held"
        journey.relay("server", "set", "later", f"port={journey.dovecot.starttls_port}")
        journey.relay("queue", "release", held["id"])
        assert journey.sink.wait_for("held@customer.example", seconds=20).login == SALES


def seal_key(journey: Journey) -> None:
    """The master key becomes a credential, by the commands of docs/systemd.md; all passwords can be used as before."""
    machine = journey.machine
    folder, name = "/run/credentials/relay.service", "relay.master.key"
    sealed, key = f"/etc/credstore.encrypted/{name}", "/var/lib/relay/master.key"
    machine.do("mkdir", "-p", "/etc/credstore.encrypted", folder)
    # host: a machine of tests has no TPM. What follows is what systemd does for LoadCredentialEncrypted=.
    machine.do("systemd-creds", "encrypt", "--with-key=host", f"--name={name}", key, sealed)
    machine.do("systemd-creds", "decrypt", sealed, f"{folder}/{name}")
    machine.do("chown", "-R", "relay:relay", folder)
    machine.do("chmod", "-R", "u=rX,go=", folder)
    machine.do("rm", key)
    settings = machine.path("/etc/relay/relay.toml")
    settings.write_text(
        settings.read_text().replace("[secrets]\n", f'[secrets]\nmaster_key = "credential:{name}"\n', 1)
    )
    with journey.serving(credentials=folder):
        wait_until(lambda: "250" in submit(SUPPORT, "sealed@customer.example"), "a message with a login")
        assert set(journey.waiting()) == set()
    assert journey.sink.wait_for("sealed@customer.example").login == SUPPORT
    assert not machine.path(key).exists()


def leave(journey: Journey) -> None:
    """Removed, it leaves settings and state; purged, it leaves nothing."""
    machine = journey.machine
    machine.do("dpkg", "--remove", "relay")
    assert machine.try_("relay", "--version").status == 127
    assert not machine.path("/usr/lib/relay").exists()
    assert machine.path("/etc/relay/relay.toml").exists()
    assert machine.path(DATABASE).exists()
    machine.do("dpkg", "--purge", "relay")
    # But for the backup, what jane's own commands made for her, and the key that was put elsewhere.
    elsewhere = ("root/", "home/", "etc/credstore.encrypted/")
    left = [name for name in machine.written("relay") if not name.startswith(elsewhere)]
    assert not left, left
    assert machine.try_("dpkg", "--status", "relay").status == 1


def plain_machine(journey: Journey) -> None:
    """Where none of systemd's programs is, the package makes user and folders by itself."""
    machine = journey.machine
    for program in ("systemd-sysusers", "systemd-tmpfiles"):
        machine.do("rm", f"/usr/bin/{program}")
    machine.do("userdel", "relay")
    journey.install(journey.new)
    number = int(machine.do("id", "-u", "relay"))
    assert machine.do("getent", "passwd", "relay").endswith(":/var/lib/relay:/usr/sbin/nologin\n")
    for name, mode in (("/var/lib/relay", 0o700), ("/run/relay", 0o755)):
        found = machine.path(name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (mode, number), name
    with journey.serving():
        assert submit(SUPPORT, "nobody@customer.example").startswith("550")


# In this order.
STEPS = (arrive, set_up, upgrade, go_back, low_ports, lose_and_restore, seal_key, leave, plain_machine)


def submit(sender: str, recipient: str, port: int = 2525) -> str:
    """Hand a message to the service; "" where nobody listens."""
    try:
        with RawClient(Endpoint(port=port)) as client:
            return client.submit(sender, recipient, b"Subject: hello\r\n\r\nhello\r\n")
    except OSError:
        return ""


def head(machine: Overlay) -> str:
    """The schema that the installed version makes."""
    return machine.do("/usr/lib/relay/bin/python", "-Ic", "from relay.store.db.tables import HEAD; print(HEAD)").strip()


if __name__ == "__main__":
    main(*sys.argv[1:])
