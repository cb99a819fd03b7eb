"""Dovecot as the place where mail arrives: mailboxes that are filled by LMTP and read by IMAP and POP3.

They are opened by a password, or by an access token of `tests.peers.access_tokens`.
"""

import grp
import os
import pwd
import smtplib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from string import Template

from tests.peers.access_tokens import write_passdb
from tests.peers.canaries import leaks_in
from tests.peers.packages import program
from tests.peers.system import LOOPBACK, free_port, private_folder, running, wait_for_port

_CONFIG = Template("""\
base_dir = $folder/run
state_dir = $folder/lib
log_path = $log
protocols = imap pop3 lmtp
hostname = mailboxes.test
ssl = yes
ssl_cert = <$certificate
ssl_key = <$certificate
disable_plaintext_auth = no
auth_mechanisms = plain login xoauth2 oauthbearer
auth_verbose = yes
auth_failure_delay = 0
auth_username_chars =
mail_max_userip_connections = 0
mail_location = maildir:$folder/lib/mail/%u
first_valid_uid = 1
# What is addressed to a tag goes to the folder of that name: support+Junk@… is how a test says junk.
recipient_delimiter = +
lmtp_save_to_detail_mailbox = yes
namespace inbox {
  inbox = yes
  mailbox Unwanted {
    auto = create
    special_use = \\Junk
  }
}
passdb {
  driver = passwd-file
  mechanisms = plain login
  args = $users/%u
}
$token_passdb
userdb {
  driver = passwd-file
  args = $users/%u
  override_fields = uid=$user gid=$group home=$folder/lib
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service auth {
  inet_listener {
    address = $host
    port = $auth_port
  }
}
service lmtp {
  inet_listener lmtp {
    address = $host
    port = $lmtp_port
  }
}
service imap-login {
  inet_listener imap {
    address = $host
    port = $imap_port
  }
  inet_listener imaps {
    address = $host
    port = $imaps_port
    ssl = yes
  }
}
service pop3-login {
  inet_listener pop3 {
    address = $host
    port = $pop3_port
  }
  inet_listener pop3s {
    address = $host
    port = $pop3s_port
    ssl = yes
  }
}
""")
_ROOTLESS = Template("""\
default_internal_user = $user
default_internal_group = $group
default_login_user = $user
service anvil {
  chroot =
}
service imap-login {
  chroot =
}
service pop3-login {
  chroot =
}
service stats {
  chroot =
}
""")
JUNK = "Unwanted"
NEEDS = ("dovecot", "imap", "pop3", "lmtp")


class MailboxServer:
    """A running Dovecot: its ports, its users, and a way to put mail into a mailbox."""

    def __init__(self, folder: Path) -> None:
        self.host = LOOPBACK
        self.imap_port = free_port()
        self.imaps_port = free_port()
        self.pop3_port = free_port()
        self.pop3s_port = free_port()
        self.lmtp_port = free_port()
        self.auth_port = free_port()
        self.log = folder / "log"
        self.mail = folder / "lib" / "mail"
        self.users_folder = folder / "users"
        self.users_folder.mkdir()

    def add_users(self, passwords: Mapping[str, str]) -> None:
        """Add users, each an address, with their passwords, from `tests.peers.canaries`."""
        for name, password in passwords.items():
            assert leaks_in(password.encode()), "take a password from tests.peers.canaries"
            (self.users_folder / name).write_text(f"{name}:{{PLAIN}}{password}::::::\n")

    def port(self, protocol: str, security: str) -> int:
        """The port for a protocol ("imap", "pop3") and a security; "none" and "starttls" share one."""
        ports = {"imap": (self.imap_port, self.imaps_port), "pop3": (self.pop3_port, self.pop3s_port)}
        return ports[protocol][security == "tls"]

    def deliver(self, recipient: str, message: bytes | EmailMessage, sender: str = "") -> None:
        """Put a message into a mailbox by LMTP, as a mail server does. `sender` "" is the null sender."""
        with smtplib.LMTP(self.host, self.lmtp_port) as client:
            client.ehlo_or_helo_if_needed()
            client.sendmail(sender, [recipient], message if isinstance(message, bytes) else message.as_bytes())

    def files(self, user: str, folder: str = "") -> list[Path]:
        """The mails in a folder, "" for the inbox, as their files; a flag "S" would say that one was read."""
        place = self.mail / user / (f".{folder}" if folder else "")
        return [path for part in ("new", "cur") for path in sorted((place / part).glob("*"))]


@contextmanager
def mailbox_server(certificate: bytes) -> Iterator[MailboxServer]:
    """Dovecot with IMAP, POP3 and LMTP. `certificate` is PEM: the private key and the chain."""
    with private_folder("mailboxes") as folder:
        server = MailboxServer(folder)
        config = folder / "dovecot.conf"
        config.touch(mode=0o600)
        config.write_text(_config(server, folder))
        key = folder / "certificate.pem"
        key.write_bytes(certificate)
        key.chmod(0o600)
        (folder / "lib").mkdir()
        server.mail.mkdir()
        if os.geteuid() == 0:
            os.chown(server.mail, pwd.getpwnam("nobody").pw_uid, grp.getgrnam("nogroup").gr_gid)
        with running([program("dovecot"), "-F", "-c", str(config)], server.log) as process:
            for port in (server.imap_port, server.pop3_port, server.lmtp_port):
                wait_for_port(process, port, server.log)
            yield server


def _config(server: MailboxServer, folder: Path) -> str:
    is_root = os.geteuid() == 0
    user = "nobody" if is_root else pwd.getpwuid(os.geteuid()).pw_name
    group = "nogroup" if is_root else grp.getgrgid(os.getegid()).gr_name
    ports = {name: getattr(server, name) for name in vars(server) if name.endswith("_port")}
    text = _CONFIG.substitute(
        folder=folder,
        log=server.log,
        certificate=folder / "certificate.pem",
        users=server.users_folder,
        token_passdb=write_passdb(folder),
        host=server.host,
        user=user,
        group=group,
        **ports,
    )
    return text if is_root else text + _ROOTLESS.substitute(user=user, group=group)
