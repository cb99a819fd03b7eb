"""Dovecot's submission service: an upstream with real SASL, STARTTLS and implicit TLS, that relays to a sink."""

import grp
import os
import pwd
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tests.peers.access_tokens import access_token, write_passdb
from tests.peers.canaries import leaks_in
from tests.peers.clients import Access
from tests.peers.packages import program
from tests.peers.system import LOOPBACK, free_port, private_folder, running, wait_for_port, wait_until

MECHANISMS = ("plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256", "xoauth2", "oauthbearer")

_CONFIG = Template("""\
base_dir = $folder/run
state_dir = $folder/lib
log_path = $log
protocols = submission
hostname = upstream.test
ssl = yes
ssl_cert = <$certificate
ssl_key = <$certificate
disable_plaintext_auth = no
auth_mechanisms = $mechanisms
auth_verbose = yes
auth_failure_delay = 0
# Every character: names with a plus sign too.
auth_username_chars =
# %{lport} tells STARTTLS from implicit TLS in the log.
login_log_format_elements = user=<%u> method=%m lport=%{lport} %c session=<%{session}>
mail_max_userip_connections = 0
mail_location = maildir:$folder/lib/mail
first_valid_uid = 1
submission_relay_host = $host
submission_relay_port = $sink_port
# Tells the sink by XCLIENT who logged in.
submission_relay_trusted = yes
submission_max_mail_size = 40M
passdb {
  driver = passwd-file
  mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
  args = $users/%u
}
$token_passdb
userdb {
  driver = static
  args = uid=$user gid=$group home=$folder/lib
}
# Nobody waits longer after a failed login: the tests count logins, Dovecot need not slow them.
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
# Postfix asks here whether a login is good.
service auth {
  inet_listener {
    address = $host
    port = $auth_port
  }
}
service submission-login {
  inet_listener submission {
    address = $host
    port = $starttls_port
  }
  inet_listener submissions {
    address = $host
    port = $tls_port
    ssl = yes
  }
}
""")
# As a normal user Dovecot runs everything as that user and locks nothing into a chroot.
_ROOTLESS = Template("""\
default_internal_user = $user
default_internal_group = $group
default_login_user = $user
service anvil {
  chroot =
}
service submission-login {
  chroot =
}
service stats {
  chroot =
}
""")
# Where the next server is a relay instead of the sink.
_RELAYS_BY = Template("""\
submission_relay_host = localhost
submission_relay_ssl = $ssl
submission_relay_ssl_verify = yes
submission_relay_user = $user
submission_relay_password = $password
ssl_client_ca_file = $ca_file
""")
_LOGIN = re.compile(r"submission-login: Info: Login: user=<(.*?)>, method=(\S+?), lport=(\d+)(, TLS)?")
_FAILED = re.compile(r"auth: Info: \S+?\((.*?),.*(?:Password mismatch|unknown user|Invalid)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Login:
    """A login that Dovecot logged as good: user, mechanism as EHLO names it, and the port and whether it was TLS."""

    user: str
    method: str
    port: int
    is_tls: bool


class Dovecot:
    """A running Dovecot: its ports, its users and what its log says about logins."""

    def __init__(self, folder: Path) -> None:
        self.host = LOOPBACK
        self.starttls_port = free_port()
        self.tls_port = free_port()
        self.auth_port = free_port()
        self.log = folder / "log"
        self.users_folder = folder / "users"
        self.users_folder.mkdir()

    def add_users(self, passwords: Mapping[str, str]) -> None:
        """Add users with their passwords, from `tests.peers.canaries`; a user keeps the first one.

        Each has a file of its own: Dovecot looks only once a second whether a file that it knows has changed.
        """
        for name, password in passwords.items():
            assert leaks_in(password.encode()), "take a password from tests.peers.canaries"
            (self.users_folder / name).write_text(f"{name}:{{PLAIN}}{password}::::::\n")

    def token(self, user: str, *, seconds: float = 3600, key: bytes | None = None, jti: str = "") -> str:
        """An access token of one user, good for so many seconds; signed with another key it is good for nothing.

        `jti` is its own name (RFC 7519 section 4.1.7), where it is to have one.
        """
        return access_token(user, seconds=seconds, key=key, jti=jti)

    def logins(self, user: str) -> list[Login]:
        """The logins of one user up to now."""
        found = (Login(name, method, int(port), bool(tls)) for name, method, port, tls in _LOGIN.findall(self._said()))
        return [login for login in found if login.user == user]

    def wait_for_login(self, user: str, count: int = 1) -> list[Login]:
        """The logins of one user, once Dovecot has logged `count` of them: its log is written a moment later."""

        def enough() -> list[Login] | None:
            found = self.logins(user)
            return found if len(found) >= count else None

        return wait_until(enough, f"login number {count} of {user}")

    def failed_logins(self, user: str) -> int:
        """How often a wrong password was given for one user."""
        return sum(name == user for name in _FAILED.findall(self._said()))

    def _said(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def dovecot_server(
    sink_port: int,
    certificate: bytes,
    mechanisms: Sequence[str] = MECHANISMS,
    relays_by: Access | None = None,
) -> Iterator[Dovecot]:
    """Dovecot, relaying to `sink_port`. `certificate` is PEM: the private key and the chain.

    With `relays_by` it gets in there as a client does. It picks the mechanism itself.
    """
    with private_folder("dovecot") as folder:
        server = Dovecot(folder)
        config = folder / "dovecot.conf"
        config.touch(mode=0o600)
        text = _config(server, folder, sink_port, mechanisms)
        config.write_text(text + (_next_server(relays_by) if relays_by else ""))
        key = folder / "certificate.pem"
        key.write_bytes(certificate)
        key.chmod(0o600)
        (folder / "lib").mkdir()
        with running([program("dovecot"), "-F", "-c", str(config)], server.log) as process:
            wait_for_port(process, server.starttls_port, server.log)
            wait_for_port(process, server.tls_port, server.log)
            yield server


def _next_server(access: Access) -> str:
    ssl = {"none": "no", "starttls": "starttls", "tls": "smtps"}[access.security]
    quoted = access.password.replace("\\", "\\\\").replace('"', '\\"')
    return _RELAYS_BY.substitute(ssl=ssl, user=access.username, password=f'"{quoted}"', ca_file=access.ca_file)


def _config(server: Dovecot, folder: Path, sink_port: int, mechanisms: Sequence[str]) -> str:
    is_root = os.geteuid() == 0
    user = "nobody" if is_root else pwd.getpwuid(os.geteuid()).pw_name
    group = "nogroup" if is_root else grp.getgrgid(os.getegid()).gr_name
    text = _CONFIG.substitute(
        folder=folder,
        log=server.log,
        certificate=folder / "certificate.pem",
        users=server.users_folder,
        token_passdb=write_passdb(folder),
        mechanisms=" ".join(mechanisms),
        host=server.host,
        starttls_port=server.starttls_port,
        tls_port=server.tls_port,
        auth_port=server.auth_port,
        sink_port=sink_port,
        user=user,
        group=group,
    )
    return text if is_root else text + _ROOTLESS.substitute(user=user, group=group)
