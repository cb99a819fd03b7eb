"""The tools of scripts: swaks, curl and msmtp. They send a message as it stands."""

from collections.abc import Sequence
from pathlib import Path

from tests.peers.clients.letter import OPEN, Access, Endpoint, Letter
from tests.peers.clients.surroundings import surroundings
from tests.peers.packages import program
from tests.peers.system import Finished, private_folder, run


def swaks(endpoint: Endpoint, letter: Letter, access: Access = OPEN, options: Sequence[str] = ()) -> Finished:
    """Send by swaks. Its certificate check looks at the authority, not at the name."""
    if endpoint.path:
        where = ["--socket", str(endpoint.path)]
    else:
        where = ["--server", endpoint.host, "--port", str(endpoint.port)]
    if access.security != "none":
        where += ["--tls" if access.security == "starttls" else "--tlsc", "--tls-verify"]
        where += ["--tls-ca-path", str(access.ca_file)]
    environment = surroundings()
    if access.logs_in:
        where += ["--auth", *filter(None, [access.mechanism]), "--auth-user", access.username, "--auth-hide-password"]
        environment = surroundings(SWAKS_OPT_auth_password=access.password)
    who = ["--from", letter.sender, "--to", ",".join(letter.recipients), "--helo", "swaks.test"]
    argv = [program("swaks"), *where, *who, *options, "--data", "-"]
    return run(argv, data=letter.open_content, env=environment)


def curl(endpoint: Endpoint, letter: Letter, access: Access = OPEN) -> Finished:
    """Send by curl, which passes its input on as it is: bare LF, and a dot behind it is not doubled."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    scheme = "smtps" if access.security == "tls" else "smtp"
    where = ["--url", f"{scheme}://{host}:{endpoint.port or 25}/curl.test"]
    if endpoint.path:
        where += ["--unix-socket", str(endpoint.path)]
    if access.security != "none":
        where += ["--ssl-reqd", "--cacert", str(access.ca_file)]
    who = ["--mail-from", letter.sender]
    for recipient in letter.recipients:
        who += ["--mail-rcpt", recipient]
    talk = ["--disable", "--silent", "--show-error", "--verbose", "--upload-file", "-"]
    with private_folder("curl") as folder:
        config = _curl_login(folder, access) if access.logs_in else []
        argv = [program("curl"), *talk, *config, *where, *who]
        return run(argv, data=letter.open_content, env=surroundings())


def msmtp(endpoint: Endpoint, letter: Letter, access: Access = OPEN, options: Sequence[str] = ()) -> Finished:
    """Send by msmtp."""
    where = [f"--host={endpoint.host}", f"--port={endpoint.port}"]
    if endpoint.path:
        where = ["--host=localhost", f"--socket={endpoint.path}"]
    talk = ["--auth=off", "--tls=off", "--domain=msmtp.test", "--debug"]
    if access.security != "none":
        talk += ["--tls=on", f"--tls-starttls={'on' if access.security == 'starttls' else 'off'}"]
        talk += [f"--tls-trust-file={access.ca_file}"]
    if access.logs_in:
        talk += [f"--auth={access.mechanism.lower() or 'on'}", f"--user={access.username}"]
        talk += ["--passwordeval=printenv PASSWORD"]
    argv = [program("msmtp"), *where, *talk, f"--from={letter.sender}", *options, "--", *letter.recipients]
    return run(argv, data=letter.content, env=surroundings(PASSWORD=access.password))


def _curl_login(folder: Path, access: Access) -> list[str]:
    """A file with name and password, and the options that name it."""
    file = folder / "login"
    user = f"{access.username}:{access.password}".replace("\\", "\\\\").replace('"', '\\"')
    file.write_text(f'user = "{user}"\nlogin-options = "AUTH={access.mechanism or "*"}"\n')
    return ["--config", str(file)]
