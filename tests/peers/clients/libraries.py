"""The mail libraries of other languages, each in a small program of tests/peers/clients/programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.peers.clients.letter import OPEN, Access, Composition, Endpoint, Letter
from tests.peers.clients.surroundings import surroundings
from tests.peers.packages import program
from tests.peers.system import Finished, private_folder, run

_ROOT = Path(__file__).parents[3]
_SOURCES = Path(__file__).parent / "programs"
# Compilers are slow and these programs do not change: what they make is kept beside what pytest keeps.
_JAVA_CLASSES = _ROOT / ".pytest_cache" / "java"
GO_ENVIRONMENT = {"GOCACHE": str(_ROOT / ".pytest_cache" / "go"), "GO111MODULE": "off", "CGO_ENABLED": "0"}


def nodemailer(endpoint: Endpoint, composition: Composition, access: Access = OPEN) -> Finished:
    """Send by nodemailer."""
    argv = [program("node"), str(_SOURCES / "nodemailer.js"), program("nodemailer.js")]
    return _compose(argv, endpoint, composition, access)


def phpmailer(endpoint: Endpoint, composition: Composition, access: Access = OPEN) -> Finished:
    """Send by PHPMailer."""
    library = Path(program("PHPMailer.php")).parent
    return _compose([program("php"), str(_SOURCES / "phpmailer.php"), str(library)], endpoint, composition, access)


def javamail(endpoint: Endpoint, composition: Composition, access: Access = OPEN) -> Finished:
    """Send by JavaMail."""
    library = Path(program("javax.mail.jar"))
    classes = f"{_JAVA_CLASSES}:{library}:{library.with_name('javax.activation.jar')}"
    source = _SOURCES / "Send.java"
    made = _JAVA_CLASSES / "Send.class"
    if not made.exists() or made.stat().st_mtime < source.stat().st_mtime:
        compiled = run([program("javac"), "-cp", classes, "-d", str(_JAVA_CLASSES), str(source)], env=surroundings())
        if compiled.status != 0:
            return compiled
    return _compose([program("java"), "-cp", classes, "Send"], endpoint, composition, access)


def go_net_smtp(endpoint: Endpoint, letter: Letter, access: Access = OPEN) -> Finished:
    """Send by Go's net/smtp. It gives a password without TLS only to localhost, and checks names of hosts."""
    trust = {"SSL_CERT_FILE": str(access.ca_file), "SSL_CERT_DIR": "/nonexistent"} if access.ca_file else {}
    argv = [program("go"), "run", str(_SOURCES / "send.go")]
    data = _work(endpoint, letter.sender, letter.recipients, access) + letter.content
    return run(argv, data=data, env=surroundings(**GO_ENVIRONMENT, **trust))


def _compose(argv: Sequence[str], endpoint: Endpoint, composition: Composition, access: Access) -> Finished:
    """Run a program that makes the message itself."""
    with private_folder("library") as folder:
        attached = folder / "attached.bin"
        attached.write_bytes(composition.attachment)
        more = {"subject": composition.subject, "attachment": str(attached) if composition.attachment else ""}
        work = _work(endpoint, composition.sender, composition.recipients, access, more)
        return run(argv, data=work + composition.text.encode(), env=surroundings())


def _work(
    endpoint: Endpoint, sender: str, recipients: Sequence[str], access: Access, more: Mapping[str, str] | None = None
) -> bytes:
    """What a program is to do, as tests/peers/clients/programs/README.md says, up to the empty line."""
    work = {
        "host": endpoint.host,
        "port": str(endpoint.port),
        "security": access.security,
        "ca_file": str(access.ca_file or ""),
        "mechanism": access.mechanism,
        "username": access.username,
        "password": access.password,
        "sender": sender,
        "recipients": ",".join(recipients),
        **(more or {}),
    }
    return "".join(f"{name}: {value}\n" for name, value in work.items()).encode() + b"\n"
