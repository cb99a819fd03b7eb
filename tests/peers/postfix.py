"""Postfix: whole instances with a private configuration, queue and log, such as an upstream that relays to a sink.

And its smtp-sink, which misbehaves as told.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from string import Template

from tests.peers.packages import program
from tests.peers.system import LOOPBACK, free_port, private_folder, run, running, wait_for_port

# What every instance has. It looks up no names, and delivers nothing here.
_COMMON = Template("""\
compatibility_level = 3.6
queue_directory = $folder/queue
data_directory = $folder/data
maillog_file_prefixes = $folder
maillog_file = $folder/log
myhostname = postfix.test
mydestination =
mynetworks = 127.0.0.0/8 [::1]/128
inet_interfaces = $host
inet_protocols = ipv4
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtp_host_lookup = native
alias_maps =
alias_database =
local_recipient_maps =
""")
_UPSTREAM = Template("""\
relayhost = [$host]:$sink_port
# Dovecot judges logins. Who has logged in may send only as the addresses that the account owns, as with providers.
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:$host:$auth_port
smtpd_sender_login_maps = inline:{ $owners }
smtpd_sender_restrictions = reject_authenticated_sender_login_mismatch
smtpd_banner = postfix.test ESMTP
# Smuggling is judged for clients of our own network too.
smtpd_forbid_bare_newline = reject
smtpd_forbid_bare_newline_exclusions =
""")
# Instead of relaying it delivers into mailboxes, and writes about the tests' messages what a provider would.
_DELIVERS = Template("""\
relayhost =
default_transport = lmtp:inet:$host:$lmtp_port
lmtp_host_lookup = native
lmtp_dns_support_level = disabled
header_checks = regexp:$folder/header_checks
""")
_MASTER = Template("""\
$host:$port inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
""")
_LOGIN = re.compile(r"postfix/smtpd\[\d+\]: [0-9A-Za-z]+: client=.*, sasl_method=(\S+), sasl_username=(\S+)")


class Postfix:
    """A running Postfix: its port, its log, and the process from which all of its others descend."""

    def __init__(self, folder: Path) -> None:
        self.host = LOOPBACK
        self.port = free_port()
        self.pid = 0
        self.log = folder / "log"

    @property
    def logins(self) -> list[tuple[str, str]]:
        """Mechanism and account of each message that smtpd accepted from someone who had logged in."""
        return _LOGIN.findall(self.log.read_text(errors="replace"))


@contextmanager
def postfix_server(
    sink_port: int, auth_port: int, owners: Mapping[str, str], *, lmtp_port: int = 0, header_checks: str = ""
) -> Iterator[Postfix]:
    """Postfix, relaying to `sink_port`; `auth_port` is Dovecot's, `owners` the account of each address.

    With `lmtp_port` it delivers there instead, and `header_checks` (header_checks(5)) is applied to what comes.
    It runs only as root. Whoever does not log in may send as anyone.
    """
    with private_folder("postfix") as folder:
        values = {
            "folder": folder,
            "host": LOOPBACK,
            "sink_port": sink_port,
            "auth_port": auth_port,
            "lmtp_port": lmtp_port,
            "owners": ", ".join(f"{{{address} = {account}}}" for address, account in owners.items()),
        }
        (folder / "header_checks").write_text(header_checks)
        delivers = _DELIVERS.substitute(values) if lmtp_port else ""
        with postfix_instance(folder, _UPSTREAM.substitute(values) + delivers) as server:
            yield server


@contextmanager
def postfix_instance(folder: Path, main: str) -> Iterator[Postfix]:
    """A Postfix in a folder of its own, with the lines `main` in its main.cf. It runs only as root."""
    server = Postfix(folder)
    values = {"folder": folder, "host": server.host, "port": server.port}
    config = folder / "config"
    config.mkdir()
    (config / "main.cf").write_text(_COMMON.substitute(values) + main)
    (config / "master.cf").write_text(_MASTER.substitute(values))
    (folder / "queue").mkdir()
    (folder / "data").mkdir()
    shutil.chown(folder / "data", "postfix")
    server.log.touch()
    postfix = [program("postfix"), "-c", str(config)]
    with running([*postfix, "start-fg"], folder / "output") as process:
        server.pid = process.pid
        try:
            wait_for_port(process, server.port, server.log)
            yield server
        finally:
            # The process is a script around Postfix's master, which a signal to the script would leave behind.
            run([*postfix, "abort"])
            process.wait(10)


@contextmanager
def smtp_sink(*options: str) -> Iterator[int]:
    """Postfix's smtp-sink with options such as ("-q", "."); gives its port."""
    with private_folder("smtp-sink") as folder:
        port = free_port()
        # It does not run as root: it asks for a user to become.
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        log = folder / "log"
        log.touch()
        argv = [program("smtp-sink"), *user, *options, f"{LOOPBACK}:{port}", "100"]
        with running(argv, log) as process:
            wait_for_port(process, port, log)
            yield port
