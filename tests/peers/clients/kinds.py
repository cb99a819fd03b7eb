"""Every client that the tests know: what it is, what it can do, and what it needs."""

from dataclasses import dataclass

from tests.peers.clients.letter import OPEN, Access, Client, Composer, Composition, Endpoint
from tests.peers.clients.libraries import go_net_smtp, javamail, nodemailer, phpmailer
from tests.peers.clients.mailers import git_send_email, mutt, s_nail
from tests.peers.clients.python import python_smtplib
from tests.peers.clients.tools import curl, msmtp, swaks
from tests.peers.system import Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of client. It sends what it is given as it stands (`sends`), or makes the message (`composes`)."""

    name: str
    needs: tuple[str, ...] = ()
    sends: Client | None = None
    composes: Composer | None = None
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    # With which encryptions it says HELO if it does not log in; whether it asks for SMTPUTF8 wherever that is offered.
    says_helo_over: tuple[str, ...] = ()
    asks_for_utf8: bool = False
    # What not all can do.
    checks_names: bool = True
    passwords_beyond_ascii: bool = True
    # Compilers, and big runtimes: not in every run of the tests.
    is_slow: bool = False

    def __post_init__(self) -> None:
        if (self.sends is None) == (self.composes is None):
            raise ValueError(f"{self.name} either sends or composes")

    def protocol(self, security: str, *, logs_in: bool) -> str:
        """How a server has to call what this client speaks (RFC 3848, RFC 6531 section 3.7.3)."""
        if security in self.says_helo_over and not logs_in:
            return "SMTP"
        name = "UTF8SMTP" if self.asks_for_utf8 else "ESMTP"
        return name + ("S" if security != "none" else "") + ("A" if logs_in else "")

    def send(self, endpoint: Endpoint, composition: Composition, access: Access = OPEN) -> Finished:
        """Send a composition, as a finished letter where the client makes none."""
        if self.composes:
            return self.composes(endpoint, composition, access)
        assert self.sends
        return self.sends(endpoint, composition.letter, access)


_PERL = ("SASL.pm", "SSL.pm", "Address.pm")
_SCRAM = ("PLAIN", "LOGIN", "SCRAM-SHA-256")

KINDS = (
    Kind(name="swaks", sends=swaks, needs=("swaks", "SSL.pm"), checks_names=False),
    Kind(name="curl", sends=curl, needs=("curl",)),
    Kind(name="msmtp", sends=msmtp, needs=("msmtp",), mechanisms=_SCRAM),
    Kind(name="smtplib", sends=python_smtplib, passwords_beyond_ascii=False),
    Kind(name="git", sends=git_send_email, needs=("git", "git-send-email", *_PERL)),
    Kind(name="mutt", composes=mutt, needs=("mutt",), says_helo_over=("none",), mechanisms=_SCRAM),
    Kind(name="s-nail", composes=s_nail, needs=("s-nail",), says_helo_over=("none", "starttls", "tls")),
    Kind(name="nodemailer", composes=nodemailer, needs=("node", "nodemailer.js"), is_slow=True),
    Kind(name="phpmailer", composes=phpmailer, needs=("php", "PHPMailer.php"), is_slow=True),
    Kind(name="go", sends=go_net_smtp, needs=("go",), asks_for_utf8=True, is_slow=True),
    Kind(name="javamail", composes=javamail, needs=("java", "javac", "javax.mail.jar"), is_slow=True),
)
