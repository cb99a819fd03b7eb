"""What people write mail with: git send-email, mutt and s-nail."""

import re
from collections.abc import Mapping
from email import message_from_bytes
from pathlib import Path
from urllib.parse import quote

from tests.peers.clients.letter import OPEN, Access, Composition, Endpoint, Letter
from tests.peers.clients.surroundings import surroundings
from tests.peers.packages import program
from tests.peers.system import Finished, private_folder, run


def git_send_email(endpoint: Endpoint, letter: Letter, access: Access = OPEN) -> Finished:
    """Send by git send-email, which takes the letter for a patch: the body stays, the header gets more fields."""
    settings = {
        "smtpServer": endpoint.host,
        "smtpServerPort": str(endpoint.port),
        "smtpDomain": "git.test",
        "smtpEncryption": {"starttls": "tls", "tls": "ssl"}.get(access.security, "none"),
        "smtpSSLCertPath": str(access.ca_file),
        "smtpAuth": access.mechanism if access.logs_in else "none",
        # As in the letter, or git writes a second From into the body.
        "from": str(message_from_bytes(letter.content)["From"]),
        "envelopeSender": letter.sender,
        "to": ", ".join(letter.recipients),
        "confirm": "never",
        "suppressCc": "all",
        "transferEncoding": "8bit",
    }
    if access.logs_in:
        settings |= {"smtpUser": access.username, "smtpPass": access.password}
    settings = {f"sendemail.{name}": value for name, value in settings.items()}
    settings |= {"user.name": "Jane", "user.email": letter.sender}
    with private_folder("git") as folder:
        patch = folder / "letter.patch"
        patch.write_bytes(letter.content)
        # In a folder that is no repository: there is no configuration beside ours.
        environment = surroundings(**_git_settings(settings), GIT_CEILING_DIRECTORIES=str(folder.parent))
        argv = [program("git-send-email"), "--smtp-debug=1", "--no-validate", str(patch)]
        return run(argv, env=environment, cwd=folder)


def mutt(endpoint: Endpoint, composition: Composition, access: Access = OPEN) -> Finished:
    """Send by mutt. Its words for SASL's mechanisms are those of EHLO."""
    settings = {
        "smtp_url": _url(endpoint, access),
        "smtp_pass": access.password,
        "smtp_authenticators": access.mechanism.lower(),
        "ssl_starttls": "yes" if access.security == "starttls" else "no",
        "ssl_force_tls": "no" if access.security == "none" else "yes",
        "ssl_ca_certificates_file": str(access.ca_file or ""),
        "certificate_file": "",
        "from": composition.sender,
        "envelope_from_address": composition.sender,
        "use_envelope_from": "yes",
        "hostname": "mutt.test",
        "send_charset": "utf-8",
        "record": "",
    }
    with private_folder("mutt") as folder:
        config = folder / "muttrc"
        config.write_text("".join(f"set {name}={_quoted(value)}\n" for name, value in settings.items()))
        attached = _attachment(folder, composition)
        argv = [program("mutt"), "-n", "-F", str(config), "-s", composition.subject]
        argv += ["-a", str(attached)] if attached else []
        argv += ["--", *composition.recipients]
        return run(argv, data=composition.text.encode(), env=surroundings(HOME=str(folder)))


def s_nail(endpoint: Endpoint, composition: Composition, access: Access = OPEN) -> Finished:
    """Send by s-nail, which is mailx on many systems."""
    settings = {
        "v15-compat": "yes",
        "mta": _url(endpoint, access, with_password=True),
        "smtp-auth": access.mechanism.lower() or ("plain" if access.logs_in else "none"),
        "hostname": "nail.test",
        "from": composition.sender,
        "ttycharset": "utf-8",
        "tls-verify": "strict",
        "tls-ca-file": str(access.ca_file),
        "tls-ca-no-defaults": "",
        "sendwait": "",
        "verbose": "",
    }
    if access.security == "starttls":
        settings["smtp-use-starttls"] = ""
    with private_folder("s-nail") as folder:
        config = folder / "mailrc"
        config.write_text("".join(f"set {name}='{value}'\n" for name, value in settings.items()))
        attached = _attachment(folder, composition)
        argv = [program("s-nail"), "-:u", "-s", composition.subject, "-r", composition.sender]
        argv += ["-a", str(attached)] if attached else []
        argv += composition.recipients
        environment = surroundings(MAILRC=str(config), DEAD="/dev/null", TMPDIR=str(folder))
        return run(argv, data=composition.text.encode(), env=environment)


def _git_settings(settings: Mapping[str, str]) -> Mapping[str, str]:
    """The variables that give git its settings (git-config(1), ENVIRONMENT): not seen in the list of processes."""
    variables = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        variables |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def _quoted(value: str) -> str:
    """A value for muttrc."""
    return '"' + re.sub(r'["\\$`]', r"\\\g<0>", value) + '"'


def _url(endpoint: Endpoint, access: Access, *, with_password: bool = False) -> str:
    """The server as mutt and s-nail name it."""
    scheme = "smtps" if access.security == "tls" else "smtp"
    user = quote(access.username, safe="")
    if with_password and user:
        user += ":" + quote(access.password, safe="")
    return f"{scheme}://{user}{'@' if user else ''}{endpoint.host}:{endpoint.port}"


def _attachment(folder: Path, composition: Composition) -> Path | None:
    """The attachment as a file, if there is one."""
    if not composition.attachment:
        return None
    file = folder / "attached.bin"
    file.write_bytes(composition.attachment)
    return file
