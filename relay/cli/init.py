"""`relay init`: from nothing to settings, a directory with a first server and profile, and a test of both."""

import ipaddress
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Context, Exit, Option, Typer

from relay.cli import complete
from relay.cli.invocation import Invocation, WrongUsage
from relay.cli.provider import AUTH, ClientId, Provider, Tenant, oauth_values, preset_of
from relay.cli.shared import PasswordStdin, ask, ask_yes, command, is_person, read_password, show_test
from relay.control.refused import Refused
from relay.system.files import create_private

if TYPE_CHECKING:
    from relay.config.settings import Settings
    from relay.directory.presets import Preset


_TLS_PORT = 465
_LAST_PORT = 65535
_HOST_FORM = "a host name or an IP address, with its port if need be, such as smtp.acmejets.example:587 or [::1]:25"
_SYSTEM_SETTINGS = Path("/etc/relay/relay.toml")


@dataclass(slots=True, kw_only=True)
class FirstEntries:
    """The first server and the first profile. `kind` is "channel" or "agent"; `password` is of the account in use.

    `server_address` is the address that the server's mail leaves with, where its user name is none.

    "" is what nobody said: the provider's preset or the server's default holds.
    """

    server: str
    host: str
    port: int | None = None
    provider: str
    security: str
    auth: str
    username: str
    client_id: str
    tenant: str
    kind: str
    profile: str
    address: str
    override: bool
    server_address: str = ""
    password: str = ""

    @property
    def preset(self) -> "Preset | None":
        """What is known about the provider. Raises Refused for an unknown one."""
        return preset_of(self.provider) if self.provider else None

    @property
    def needs_host(self) -> bool:
        """Whether nobody knows yet where the server is."""
        return not self.host and (self.preset is None or bool(self.preset.host_form))

    @property
    def has_server_username(self) -> bool:
        """Whether it is known as whom the server itself logs in."""
        return bool(self.username or (self.preset and self.preset.values.get("username")))

    @property
    def has_username(self) -> bool:
        """Whether it is known who logs in there."""
        return self.override or self.has_server_username

    @property
    def login(self) -> str:
        """How the server is logged in at: a word of `auth`."""
        if self.auth or self.client_id:
            return self.auth or "oauth2"
        return str(self.preset.values["auth"]) if self.preset else "auto"

    def take_host(self, text: str) -> None:
        """Take the server's place from "HOST" or "HOST:PORT". Port 465 means TLS from the first byte (RFC 8314).

        Raises ValueError with the sentence that says what is expected.
        """
        self.host, self.port = host_and_port(text)
        if self.port == _TLS_PORT and not self.security:
            self.security = "tls"

    def server_values(self) -> dict[str, Any]:
        """Return the keys of the server, as far as they are known."""
        given = {
            "host": self.host,
            "port": self.port,
            "security": self.security,
            "auth": self.auth,
            "username": self.username,
            "address": self.server_address,
        }
        return {key: value for key, value in given.items() if value} | oauth_values(self.client_id, self.tenant)

    def profile_values(self) -> dict[str, Any]:
        """Return the keys of the profile."""
        return {"address": self.address} | ({"override": True} if self.override else {})

    def fill_server_address(self) -> None:
        """Let the server's mail leave with the profile's address where its user name is no address ("apikey")."""
        from relay.mail.address import Address, AddressError

        username = self.username or str((self.preset.values if self.preset else {}).get("username", ""))
        if self.override or not username:
            return
        try:
            Address.parse(username)
        except AddressError:
            self.server_address = self.address


def host_and_port(text: str) -> tuple[str, int | None]:
    """Return what "HOST", "HOST:PORT", "V6" or "[V6]:PORT" says. Raises ValueError with a sentence."""
    from relay.directory.rules.servers import host_faults

    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
        is_good = _is_v6(host) and bool(bracket) and rest[:1] in {"", ":"}
    elif text.count(":") == 1 and "/" not in text:
        host, _, port = text.partition(":")
        is_good = not any(host_faults(host))
    else:
        is_good = not any(host_faults(host))
    if not is_good or text.endswith(":"):
        raise ValueError(f"{text!r} is no server; write {_HOST_FORM}")
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port) <= _LAST_PORT):
        raise ValueError(f"{port!r} is no port; write a number from 1 to {_LAST_PORT} behind the colon")
    return host, int(port) if port else None


def _is_v6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def register(app: Typer) -> None:
    """Add the command."""
    options = ("--host smtp.gmail.com --username mailer@acmejets.example", "--address support@acmejets.example")
    example = " \\\n      ".join([f"relay init {options[0]}", options[1]])
    command(app, "init", example)(init)


def init(
    context: Context,
    host: Annotated[
        str, Option("--host", metavar="HOST", help="The server that takes the mail: HOST, or HOST:PORT.")
    ] = "",
    provider: Provider = None,
    server: Annotated[str, Option(metavar="NAME", help="What to call it.")] = "main",
    security: Annotated[
        str,
        Option(
            metavar="S", autocompletion=complete.one_of(*complete.SECURITIES), help="none, starttls (default) or tls."
        ),
    ] = "",
    auth: Annotated[
        str, Option(metavar="A", autocompletion=complete.one_of(*complete.AUTHS), help=f"{AUTH}. Default: auto.")
    ] = "",
    username: Annotated[str, Option(metavar="U", help="Who logs in there.")] = "",
    address: Annotated[str, Option(metavar="A", help="The address of the first profile.")] = "",
    profile: Annotated[str, Option(metavar="NAME", help="What to call it. Default: as its address begins.")] = "",
    agent: Annotated[bool, Option("--agent", help="It is a person's, not a shared one.")] = False,
    override: Annotated[bool, Option("--override", help="It logs in with its own account.")] = False,
    client_id: ClientId = None,
    tenant: Tenant = None,
    password_stdin: PasswordStdin = False,
    no_test: Annotated[
        bool, Option("--no-test", help="Do not log in at the server to see whether all is good.")
    ] = False,
) -> None:
    """Write the files with a first server and profile; test them.

    They are relay.toml and directory.toml. Nothing is overwritten. On a terminal it asks for what is not given.
    """
    invocation = _invocation(context.obj)
    _check_new(invocation)
    first = FirstEntries(
        server=server,
        host="",
        provider=provider or "",
        security=security,
        auth=auth,
        username=username,
        client_id=client_id or "",
        tenant=tenant or "",
        kind="agent" if agent else "channel",
        profile=profile,
        address=address,
        override=override,
    )
    _take_host(first, host)
    _fill_in(first, needs_account=_needs_account(invocation), password_stdin=password_stdin)
    with _written(invocation):
        _fill(invocation, first)
    if not no_test and (first.password or first.login == "none"):
        _try_out(invocation, first, context.obj.hint)
    print(f"ready; start it with: {context.obj.hint('relay serve')}")


def _invocation(invocation: Invocation) -> Invocation:
    """Return the invocation with the settings file that is there, or else the one that will be written."""
    if invocation.settings_file is not None:
        return invocation
    system = os.geteuid() == 0
    return Invocation(_SYSTEM_SETTINGS if system else Path.home() / ".config/relay/relay.toml")


def _check_new(invocation: Invocation) -> None:
    """Refuse where there is a directory already."""
    settings = _settings_to_be(invocation)
    is_there = invocation.run("server.list") if settings.is_directory_stored else settings.directory_path.exists()
    if is_there:
        way = invocation.hint("relay server add")
        raise Refused(f"{settings.directory_name} is there already, and nothing is overwritten; go on with: {way}")


def _settings_to_be(invocation: Invocation) -> "Settings":
    """Return the settings that count when the files are written."""
    from relay.config.settings import load_settings

    file = invocation.settings_file
    assert file is not None
    return invocation.settings if file.exists() else load_settings(None)


def _needs_account(invocation: Invocation) -> bool:
    """Whether the settings send mail by the server's own account, whatever the first profile does."""
    return _settings_to_be(invocation).policy.unknown_sender == "default"


def _take_host(first: FirstEntries, host: str) -> None:
    """Take what the options say, and refuse what is wrong about it before anybody is asked for the rest."""
    from relay.config.faults import Faults

    try:
        if host:
            first.take_host(host)
        _check_so_far(first)
    except (ValueError, Faults) as error:
        raise Refused(str(error)) from None
    sentence = (first.address and _address_fault(first.address)) or (first.profile and _name_fault(first.profile))
    if sentence:
        raise Refused(sentence)


def _check_so_far(first: FirstEntries) -> None:
    """Look at the server as far as it is known. Raises Faults."""
    from relay.directory.rules.validation import parse_directory

    values = first.server_values()
    if first.preset is not None:
        form = {"host": first.host or first.preset.host_form} if first.preset.host_form else {}
        values = first.preset.fill({**values, **form})
    else:
        values = {"host": "localhost", **values}
    parse_directory({"default_server": first.server, "servers": {first.server: values}})


def _fill_in(first: FirstEntries, *, needs_account: bool, password_stdin: bool) -> None:
    """Ask for what is missing. Raises WrongUsage where nobody can be asked."""
    if is_person():
        _interview(first, needs_account=needs_account)
    wanted = (("--host", not first.needs_host), ("--address", first.address))
    missing = [option for option, value in wanted if not value]
    if first.login != "none" and not first.has_username:
        missing.append("--username (or --override, or --auth none)")
    if first.login == "oauth2" and not first.client_id:
        missing.append("--client-id (or another --auth)")
    if missing:
        raise WrongUsage(f"stdin is no terminal, so nobody can be asked; give {', '.join(missing)}")
    first.profile = first.profile or _name_in(first.address)
    if sentence := _name_fault(first.profile):
        raise WrongUsage(f"{sentence}; give the profile a name with --profile")
    first.fill_server_address()
    if password_stdin or (is_person() and first.login not in {"none", "oauth2"}):
        whose = first.username if first.username and not first.override else first.address
        first.password = read_password(whose, from_stdin=password_stdin)


def _interview(first: FirstEntries, *, needs_account: bool) -> None:
    if first.needs_host:
        _ask_where(first)
    first.address = first.address or ask("The first address that sends", fault=_address_fault)
    if not first.profile and _name_fault(_name_in(first.address)):
        first.profile = ask("What to call it", default=first.kind, fault=_name_fault)
    if first.login == "oauth2" and not first.client_id:
        first.client_id = ask("The client id of the app that you registered there")
    if first.login == "none":
        first.server_address = "" if first.override and not needs_account else first.address
        return
    if needs_account and not first.has_server_username:
        print('unknown_sender = "default" in relay.toml sends by the server\'s own account', file=sys.stderr)
        first.username = ask("Who logs in there")
    elif not first.has_username:
        first.override = ask_yes(f"Does {first.address} log in there with an account of its own", default=False)
        if not first.override:
            first.username = ask("Who logs in there then")


def _ask_where(first: FirstEntries) -> None:
    """Ask for a host, or for a provider that has one: no host is named as they are."""
    if first.preset is None:
        answer = ask(
            "The server that takes your mail (its name, such as smtp.acmejets.example, or a provider: google)",
            fault=_place_fault,
        )
        if not _is_provider(answer):
            first.take_host(answer)
            return
        first.provider = answer
    print(f"{first.provider}: {first.preset.note if first.preset else ''}")
    if first.needs_host and first.preset:
        first.take_host(ask(f"Its name ({first.preset.host_form})", fault=_host_fault))


def _is_provider(text: str) -> bool:
    from relay.directory.presets import presets

    return text in presets()


def _place_fault(text: str) -> str:
    """Return what is wrong with the name of a server or provider; "" where nothing is."""
    if _is_provider(text):
        return ""
    if text.isalnum() and text != "localhost":
        try:
            preset_of(text)
        except Refused as error:
            if "did you mean" in str(error):  # a short name of a machine is one all the same
                return str(error)
    return _host_fault(text)


def _host_fault(text: str) -> str:
    try:
        host_and_port(text)
    except ValueError as error:
        return str(error)
    return ""


def _name_fault(text: str) -> str:
    from relay.directory.reading import name_fault

    return name_fault(text)


def _name_in(address: str) -> str:
    """Return what a profile is called where nobody says it: as its address begins."""
    return address.partition("@")[0].partition("+")[0]


def _address_fault(text: str) -> str:
    from relay.mail.address import Address, AddressError

    try:
        Address.parse(text)
    except AddressError as error:
        return str(error)
    return ""


@contextmanager
def _written(invocation: Invocation) -> Iterator[None]:
    """Write the files that are missing, each with all its keys as comments; they go again if the rest fails."""
    file = invocation.settings_file
    assert file is not None
    made: list[Path] = []
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            _create(file, "relay.toml", made)
        invocation.settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not invocation.settings.is_directory_stored:
            _create(invocation.settings.directory_path, "directory.toml", made)
        yield
    except BaseException:
        for path in made:
            path.unlink()
        raise
    for path in made:
        print(f"wrote {path}")


def _create(path: Path, sample: str, made: list[Path]) -> None:
    content = (files("relay.cli") / "samples" / sample).read_bytes()
    if sample == "directory.toml":  # it names accounts, and is private whoever makes it
        descriptor = create_private(path)
        made.append(path)
        with os.fdopen(descriptor, "wb") as new:
            new.write(content)
        return
    with path.open("xb") as new:
        made.append(path)
        new.write(content)


def _fill(invocation: Invocation, first: FirstEntries) -> None:
    password = first.password or None
    own = first.override
    server = {"name": first.server, "values": first.server_values(), "provider": first.provider or None}
    # The test of the first profile, once both are there, tries the password step by step.
    invocation.run("server.add", password=None if own else password, unchecked=True, **server)
    profile = {"name": first.profile, "values": first.profile_values()}
    invocation.run(f"{first.kind}.add", password=password if own else None, unchecked=True, **profile)


def _try_out(invocation: Invocation, first: FirstEntries, hint: Callable[[str], str]) -> None:
    """Log in at the server as the first profile does. Where that fails, say how to go on, and end with 1."""
    test = f"{first.kind}.test"
    try:
        is_good = show_test(invocation, test, as_json=False, name=first.profile, to=None, send=False)
    except Refused as error:
        is_good = False
        print(error, file=sys.stderr)
    if is_good:
        return
    print("the files are written, but the test failed", file=sys.stderr)
    print(f"mend it with: {hint(f'relay server set {first.server} KEY=VALUE')}", file=sys.stderr)
    if first.password:
        holder = f"{first.kind} password {first.profile}" if first.override else f"server password {first.server}"
        print(f"or, if the password is wrong: {hint(f'relay {holder}')}", file=sys.stderr)
    print(f"test again with: {hint(f'relay {first.kind} test {first.profile} --no-send')}", file=sys.stderr)
    raise Exit(1)
