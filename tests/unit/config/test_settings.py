"""relay.toml: its defaults, how it is found, and the exact sentence for everything that can be wrong in it."""

import os
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from relay.app.reload import keys_for_restart
from relay.config import machine
from relay.config import settings as settings_module
from relay.config.endpoint import InheritedSocket, TcpAddress, UnixAddress
from relay.config.faults import Faults
from relay.config.machine import find_settings_file
from relay.config.notification import Alert, Webhook
from relay.config.schema import meanings_of
from relay.config.settings import (
    LISTS,
    Listener,
    Settings,
    as_table,
    check_modes,
    left_out,
    load_settings,
    shown_table,
    without_password,
)
from tests.peers.rows import each_row

# The whole file with its defaults, as DESIGN section 3 gives it.
DESIGN_DEFAULTS = """
hostname = ""
state_dir = "/var/lib/relay"
runtime_dir = ""
directory = "directory.toml"
store = "sqlite:relay.db"
store_password_from = ""
node = ""
workers = 1

[[listener]]
name = "local"
address = "127.0.0.1:2525"
security = "none"
auth = "optional"
trusted_networks = ["127.0.0.0/8", "::1/128"]
may_send_as = ["*"]
users = {}
bounces = ""
proxy_protocol = false
proxy_networks = []
devices = false

[tls]
certificate = ""
key = ""

[delivery]
mode = "auto"
patience = "15s"
retry = ["1m", "2m", "5m", "15m", "30m", "1h", "2h", "4h"]
warn_after = "4h"
give_up_after = "4d"
probe = ["15m", "1h", "4h"]
unknown = "retry"
unknown_pause = "30m"
connect_timeout = "30s"
reply_timeout = "5m"
free_space = "64MiB"

[policy]
unknown_sender = "reject"
from_mismatch = "rewrite"

[limits]
message_size = "36MiB"
recipients = 1000
connections = 1000
connections_per_client = 250
login_failures = 5
memory_per_message = "1MiB"

[secrets]
master_key = "file:master.key"

[web]
address = "127.0.0.1:8025"
public_url = "http://127.0.0.1:8025"
proxy_networks = []

[dns]
servers = []

[log]
format = "auto"
level = "info"
keep_messages = "90d"
"""
# There is no webhook and no alert by default.
DEFAULTS = tomllib.loads(DESIGN_DEFAULTS) | {"webhook": [], "alert": []}
SAMPLE = Path(__file__).parents[3] / "etc/relay.toml"

# Each line of a bad file, and the sentence about it behind "relay.toml: ".
BAD_LINES = [
    ('hostnme = "x"', "hostnme: there is no such key; did you mean 'hostname'?"),
    ("zzz = 1", "zzz: there is no such key; remove it"),
    ("hostname = 5", "hostname: 5 is not text; write it in quotes"),
    ('hostname = "a b"', "hostname: 'a b' is not a host name; write letters, digits, dots and hyphens"),
    ('state_dir = "here"', "state_dir: 'here' is not an absolute path; begin it with /"),
    ('runtime_dir = "here"', "runtime_dir: 'here' is not an absolute path; begin it with /"),
    ("state_dir = 5", "state_dir: 5 is not a path; write it in quotes"),
    ("workers = 0", 'workers: 0 is no number of processes; write 1 or more, or "auto"'),
    ("workers = true", 'workers: true is no number of processes; write 1 or more, or "auto"'),
    ('store = "mysql:x"', "store: this names no store; write sqlite:PATH or postgresql://user@host/db"),
    (
        'store_password_from = "hunter2"',
        "store_password_from: this names no source for the password; write credential:NAME, file:PATH or env:NAME",
    ),
    ("listener = 5", 'listener: 5 is not a list; write it in brackets, such as ["…"]'),
    ("[listener]", "listener: there may be several; write it with two brackets: [[listener]]"),
    ("[[listener]]\nadress = 'x'", "listener #1.adress: there is no such key; did you mean 'address'?"),
    (
        '[[listener]]\nname = "lan"\naddress = "2525"',
        "listener.lan.address: '2525' names no host; write host:port, such as 127.0.0.1:2525",
    ),
    (
        '[[listener]]\naddress = "::1:25"',
        "listener #1.address: '::1:25' is not an address; write an IPv6 address in brackets, such as [::1]:2525",
    ),
    ('[[listener]]\naddress = "[x]:25"', "listener #1.address: '[x]' is no IPv6 address"),
    (
        '[[listener]]\naddress = ":25"',
        "listener #1.address: ':25' names no host; write host:port, such as 127.0.0.1:2525",
    ),
    (
        '[[listener]]\naddress = "a:99999"',
        "listener #1.address: 'a:99999' is not an address; write host:port, [v6]:port or unix:/path",
    ),
    (
        '[[listener]]\naddress = "unix:relay.sock"',
        "listener #1.address: 'unix:relay.sock' is not an absolute path; write unix:/path",
    ),
    (
        '[[listener]]\naddress = "fd:"',
        "listener #1.address: 'fd:' is not an address; write host:port, [v6]:port or unix:/path",
    ),
    (
        '[[listener]]\nsecurity = "tsl"',
        "listener #1.security: 'tsl' is not 'none', 'starttls' or 'tls'; did you mean 'tls'?",
    ),
    ("[[listener]]\nauth = 1", "listener #1.auth: 1 is not 'none', 'optional' or 'required'"),
    (
        '[[listener]]\nusers = { root = ["*"] }',
        "listener.local.users: only a unix socket knows its users; choose an address unix:/path or remove the key",
    ),
    (
        "[[listener]]\nproxy_protocol = true",
        "listener.local.proxy_networks: proxy_protocol needs to know where the proxies are; name their networks",
    ),
    (
        '[[listener]]\nproxy_networks = ["10.0.0.0/8"]',
        "listener.local.proxy_protocol: proxy_networks are for proxy_protocol = true; set it or remove them",
    ),
    (
        '[[listener]]\ndevices = true\ntrusted_networks = ["10.0.0.0/8", "::/0"]',
        "listener.local.trusted_networks: devices = true is for networks that you name, not for all; name theirs",
    ),
    (
        '[[listener]]\naddress = "unix:/x"\ndevices = true',
        "listener.local.devices: no device comes through a unix socket; remove the key or choose another address",
    ),
    (
        '[[listener]]\naddress = "unix:/x"\nproxy_protocol = true',
        "listener.local.proxy_protocol: no proxy comes through a unix socket; remove the key",
    ),
    (
        "[[listener]]\nproxy_protocol = 'yes'",
        "listener #1.proxy_protocol: 'yes' is neither true nor false; write one of them, without quotes",
    ),
    (
        '[[listener]]\ntrusted_networks = ["10.0.0.5/8"]',
        "listener #1.trusted_networks #1: '10.0.0.5/8' is an address inside a network; write 10.0.0.0/8 for all of it",
    ),
    (
        '[[listener]]\ntrusted_networks = ["office"]',
        "listener #1.trusted_networks #1: 'office' is not a network; write an address and its prefix, such as 10.0.0.0/8",  # noqa: E501
    ),
    (
        "[[listener]]\ntrusted_networks = [5]",
        'listener #1.trusted_networks #1: 5 is not a network; write it in quotes, such as "10.0.0.0/8"',
    ),
    (
        '[[listener]]\nmay_send_as = "*"',
        "listener #1.may_send_as: '*' is not a list; write it in brackets, such as [\"…\"]",
    ),
    (
        '[[listener]]\naddress = "a:1"\n[[listener]]\naddress = "a:2"',
        "listener.local.name: two listeners are called 'local'; give each a name of its own: name = \"…\"",
    ),
    (
        '[[listener]]\n[[listener]]\nname = "b"',
        "listener.b.address: listener 'local' has this address already; choose another",
    ),
    (
        '[tls]\ncertificate = "/c.pem"\nkey = "k.pem"',
        "tls.key: 'k.pem' is not an absolute path; begin it with /",
    ),
    ('[tls]\nkey = "/k.pem"', "tls.certificate: a certificate and its key belong together; name this file too"),
    ('[tls]\ncertificate = "/c.pem"', "tls.key: a certificate and its key belong together; name this file too"),
    (
        '[tls]\ncertificate = "/c.pem"\n[[listener]]\nname = "lan"\nsecurity = "tls"',
        "tls.key: listener 'lan' has security = \"tls\", which needs this file; name it",
    ),
    (
        "[delivery]\nconnect_timeout = 15",
        'delivery.connect_timeout: 15 is not a duration; write a number with s, m, h or d in quotes, such as "15s"',
    ),
    (
        '[delivery]\nconnect_timeout = "5x"',
        'delivery.connect_timeout: \'5x\' is not a duration; write a number with s, m, h or d, such as "15s" or "4d"',
    ),
    ("[delivery]\nretry = []", "delivery.retry: the list is empty; write at least one duration"),
    (
        '[policy]\nunknown_sender = "defautl"',
        "policy.unknown_sender: 'defautl' is not 'reject' or 'default'; did you mean 'default'?",
    ),
    ("[limits]\nrecipients = 0", "limits.recipients: 0 is too small; the least is 1"),
    ('[limits]\nrecipients = "9"', "limits.recipients: '9' is not a whole number; write it without quotes"),
    (
        "[limits]\nmessage_size = true",
        'limits.message_size: true is not a size; write bytes or a number with KiB, MiB or GiB, such as "36MiB"',
    ),
    (
        '[limits]\nmessage_size = "36MB"',
        "limits.message_size: '36MB' is not a size; write bytes or a number with KiB, MiB or GiB, such as \"36MiB\"",
    ),
    (
        '[secrets]\nmaster_key = "hunter2"',
        "secrets.master_key: this names no source for the key; write file:PATH, credential:NAME or env:NAME",
    ),
    ("policy = 1", "policy: 1 is not a table"),
    ("[alert]\nto = 'x'", "alert: there may be several; write it with two brackets: [[alert]]"),
    ("[[alert]]\non = []", "alert #1.to: this key is needed; add it"),
    ("[[alert]]\nto = 'ops'", "alert #1.to: this is nobody who can be told; write mailto:ADDRESS or https://HOST/PATH"),
    ("[[alert]]\nto = 'mailto:ops'", "alert #1.to: 'mailto:ops' is no address; write mailto:ops@acmejets.example"),
    (
        "[[alert]]\nto = 'https://h/x'",
        "alert #1.secret_from: what goes to a webhook is signed; name its secret, such as env:NAME",
    ),
    (
        "[[alert]]\nto = 'mailto:a@b.c'\n[[alert]]\nto = 'mailto:a@b.c'",
        "alert #2.to: alert #1 tells the same already; put the two together",
    ),
    (
        "[[alert]]\nto = 'mailto:a@b.c'\non = ['disk']",
        (
            "alert #1.on #1: 'disk' is not 'account-held', 'server-unreached', 'queue-old', 'token-expires', "
            "'certificate-expires', 'disk-low' or 'self-check'; did you mean 'disk-low'?"
        ),
    ),
    (
        "[[webhook]]\nurl = 'https://u:hunter2@h/x'\nsecret_from = 'env:X'",
        "webhook #1.url: this is not an address of a webhook; write https://HOST/PATH without a name or password in it",
    ),
    (
        "[[webhook]]\nurl = 'https://h/x'\nsecret_from = 'whsec_hunter2'",
        (
            "webhook #1.secret_from: this names no source for the secret; write env:NAME, file:PATH, credential:NAME "
            "or command:LINE"
        ),
    ),
    (
        "[[webhook]]\nurl = 'https://h/x'\nsecret_from = 'env:X'\n" * 2,
        "webhook #2.url: webhook #1 has this address already; put the two together",
    ),
    (
        "[log]\nlevel = 'warn'",
        "log.level: 'warn' is not 'debug', 'info', 'warning' or 'error'; did you mean 'warning'?",
    ),
]


def written(folder: Path, text: str) -> Path:
    path = folder / "relay.toml"
    path.write_text(text)
    return path


def faults_of(path: Path) -> list[str]:
    with pytest.raises(Faults) as caught:
        load_settings(path, {})
    assert all(fault.file == str(path) for fault in caught.value.faults)
    return [str(fault).removeprefix(f"{path}: ") for fault in caught.value.faults]


def test_defaults_are_those_of_the_design() -> None:
    assert as_table(Settings()) == DEFAULTS


def test_the_sample_file_has_every_key_with_its_default_and_meaning() -> None:
    sample = SAMPLE.read_text()
    example = Webhook(url="https://crm.acmejets.example/hooks/relay", secret_from="env:HOOK_SECRET")
    settings = replace(Settings(), webhooks=(example,), alerts=(Alert(to="mailto:ops@acmejets.example"),))
    assert tomllib.loads(re.sub(r"^#(?! |$)", "", sample, flags=re.MULTILINE)) == as_table(settings)
    flat = re.sub(r"\n# ", " ", sample)
    tables = as_table(Settings()).keys() - LISTS.values()
    kinds = [Settings, Listener, Webhook, Alert, *(type(getattr(Settings(), key)) for key in tables)]
    for meaning in (meaning for kind in kinds for meaning in meanings_of(kind).values() if meaning):
        assert meaning in flat


def test_the_sample_file_changes_nothing() -> None:
    assert load_settings(SAMPLE, {}) == load_settings(None, {})


def test_only_what_is_not_built_is_marked_so() -> None:
    section, marked, is_later = "", set[str](), False
    for line in SAMPLE.read_text().splitlines():
        if found := re.fullmatch(r"\[(\w+)\]", line):
            section = f"{found[1]}."
        elif line.startswith("# (later)"):
            is_later = True
        elif found := re.match(r"#(\w+) = ", line):
            marked |= {section + found[1]} if is_later else set()
            is_later = False
    assert marked <= settings_module._UNBUILT.keys()


def test_what_needs_a_restart_is_marked_and_nothing_else() -> None:
    section, marked, mark = "", set[str](), False
    for line in SAMPLE.read_text().splitlines():
        if found := re.fullmatch(r"\[+(\w+)\]+", line):
            section = f"{found[1]}."
        elif line.startswith(("# (restart)", "# (later)")):
            mark = True
        elif found := re.match(r"#(\w+) = ", line):
            marked |= {section + found[1]} if mark else set()
            mark = False
    assert marked == set(keys_for_restart())


def test_what_is_written_reads_as_the_same_settings(tmp_path: Path) -> None:
    path = written(tmp_path, DESIGN_DEFAULTS)
    assert as_table(load_settings(path, {})) == as_table(load_settings(path, {})) | {"state_dir": "/var/lib/relay"}


@each_row(("text", "sentence"), BAD_LINES)
def test_a_bad_line_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    assert faults_of(written(tmp_path, text)) == [sentence]


@pytest.mark.parametrize("server", ["127.0.0.1:0", "127.0.0.1", "unix:/x", "::1", ":53"])
def test_a_name_server_is_an_address_with_its_port(tmp_path: Path, server: str) -> None:
    sentence = f"{server!r} is not a name server; write its address and port, such as 127.0.0.1:53"
    text = f'[dns]\nservers = ["localhost:5353", "[::1]:53", "{server}"]'
    assert faults_of(written(tmp_path, text)) == [f"dns.servers #3: {sentence}"]


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    text = (
        'workers = 0\nhostnme = ""\n[[listener]]\naddress = "fd:"\n[limits]\nconnections = -1\n[dns]\nservers = ["a"]'
    )
    keys = [line.partition(":")[0] for line in faults_of(written(tmp_path, text))]
    assert keys == ["dns.servers #1", "hostnme", "limits.connections", "listener #1.address", "workers"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a = 1\nb = = 2\n", "line 2, column 5: this is not TOML: "),
        (b"a = [1", "the end of the file: this is not TOML: "),
        (b"a = 1\na = 2\n", "line 2, column 6: this is not TOML: "),
        (b"# ok\nhostname = '\xff'\n", "line 2 is not UTF-8; save the file as UTF-8"),
    ],
)
def test_what_is_no_toml_is_one_fault_with_its_place(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "relay.toml"
    path.write_bytes(content)
    (fault,) = faults_of(path)
    assert fault.startswith(sentence)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_bytes(b'\xef\xbb\xbfhostname = "mx.example"\n')
    assert load_settings(path, {}).hostname == "mx.example"


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    assert faults_of(tmp_path / "relay.toml") == ["there is no such file"]


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    assert faults_of(tmp_path) == ["it cannot be read: Is a directory"]


def test_no_secret_is_in_a_fault(tmp_path: Path) -> None:
    text = 'store = "postgres://u:hunter2@h/db"\n[secrets]\nmaster_key = "hunter2"'
    assert "hunter2" not in "\n".join(faults_of(written(tmp_path, text)))


def test_a_value_of_what_works_is_taken(tmp_path: Path) -> None:
    text = """
    [[listener]]
    name = "six"
    address = "[::1]:0"
    auth = "none"
    trusted_networks = ["10.0.0.0/8"]
    [[listener]]
    name = "file"
    address = "unix:/tmp/x"
    [delivery]
    mode = "direct"
    connect_timeout = "90s"
    [limits]
    message_size = 1000
    [web]
    address = ""
    """
    settings = load_settings(written(tmp_path, text), {})
    assert [listener.endpoint for listener in settings.listeners] == [TcpAddress("::1", 0), UnixAddress(Path("/tmp/x"))]
    assert [str(listener.endpoint) for listener in settings.listeners] == ["[::1]:0", "unix:/tmp/x"]
    assert (settings.delivery.connect_timeout, settings.limits.message_size) == (90.0, 1000)


def test_no_listeners_are_the_default_listener(tmp_path: Path) -> None:
    assert load_settings(written(tmp_path, "listener = []"), {}).listeners == (Listener(),)


def test_two_listeners_may_ask_for_any_free_port(tmp_path: Path) -> None:
    text = '[[listener]]\naddress = "127.0.0.1:0"\n[[listener]]\nname = "b"\naddress = "127.0.0.1:0"'
    assert len(load_settings(written(tmp_path, text), {}).listeners) == 2


def test_an_inherited_socket_has_a_name() -> None:
    assert Listener(address="fd:smtp").endpoint == InheritedSocket("smtp")
    assert str(Listener(address="fd:smtp").endpoint) == "fd:smtp"


def test_where_the_settings_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "etc.toml"
    monkeypatch.setattr(machine, "SYSTEM_SETTINGS", system)
    environ = {"HOME": str(tmp_path)}
    assert find_settings_file(None, environ) is None
    system.touch()
    assert find_settings_file(None, environ) == system
    own = tmp_path / ".config/relay/relay.toml"
    own.parent.mkdir(parents=True)
    own.touch()
    assert find_settings_file(None, environ) == own
    assert find_settings_file(None, environ | {"RELAY_CONFIG": "/x/y.toml"}) == Path("/x/y.toml")
    assert find_settings_file(Path("/a"), environ | {"RELAY_CONFIG": "/x/y.toml"}) == Path("/a")


def test_state_is_kept_in_the_folder_of_whoever_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SYSTEM_STATE", tmp_path / "state")
    environ = {"HOME": "/home/jane"}
    assert machine.default_state_dir(environ, 0) == tmp_path / "state"
    assert machine.default_state_dir(environ, 1000) == Path("/home/jane/.local/share/relay")
    assert machine.default_state_dir(environ | {"STATE_DIRECTORY": "/srv/relay"}, 1000) == Path("/srv/relay")
    (tmp_path / "state").mkdir()
    assert machine.default_state_dir(environ, (tmp_path / "state").stat().st_uid) == tmp_path / "state"


def test_sockets_are_in_run_relay_only_for_the_relay_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, run = tmp_path / "state", tmp_path / "run"
    monkeypatch.setattr(machine, "SYSTEM_STATE", state)
    monkeypatch.setattr(machine, "SYSTEM_RUNTIME", run)
    assert machine.default_runtime_dir({}, state) == state
    run.mkdir()
    assert machine.default_runtime_dir({}, state) == run
    assert machine.default_runtime_dir({}, tmp_path) == tmp_path
    assert machine.default_runtime_dir({"RUNTIME_DIRECTORY": "/run/two"}, tmp_path) == Path("/run/two")


def test_paths_are_in_the_state_folder_or_absolute(tmp_path: Path) -> None:
    text = f'state_dir = "{tmp_path}"\ndirectory = "/etc/relay/directory.toml"\n[secrets]\nmaster_key = "env:KEY"'
    settings = load_settings(written(tmp_path, text), {})
    assert settings.directory_path == Path("/etc/relay/directory.toml")
    assert settings.database_path == tmp_path / "relay.db"
    assert settings.control_socket == tmp_path / "control.sock"
    assert settings.submit_socket == tmp_path / "submit.sock"
    assert settings.master_key_path is None


@pytest.mark.parametrize(
    ("full", "short", "name"),
    [
        ("mx.acme.example", "mx", "mx.acme.example"),
        ("localhost", "box", "box"),
        ("localhost.localdomain", "localhost", "localhost"),
        ("bad name", "box", "box"),
    ],
)
def test_the_machine_is_not_called_localhost_if_it_has_another_name(
    full: str, short: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda: full)
    monkeypatch.setattr("socket.gethostname", lambda: short)
    machine.machine_name.cache_clear()
    try:
        assert Settings().effective_hostname == name
    finally:
        machine.machine_name.cache_clear()
    assert Settings(hostname="mx.example").effective_hostname == "mx.example"


def test_what_is_shown_has_the_real_name_and_no_password() -> None:
    shown = shown_table(Settings(hostname="mx.example", store="postgresql://relay:hunter2@db/relay"))
    assert (shown["hostname"], shown["store"]) == ("mx.example", "postgresql://relay:***@db/relay")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://relay@db/relay", "postgresql://relay@db/relay"),
        ("postgresql://relay:pw@a:5432,b:5432/relay", "postgresql://relay:***@a:5432,b:5432/relay"),
        ("postgresql://relay:p:w@w/x@db/relay", "postgresql://relay:***@db/relay"),
        ("postgresql:///relay?host=/run/postgresql", "postgresql:///relay?host=/run/postgresql"),
        (
            "postgresql://db/relay?user=relay&password=pw&sslmode=require",
            "postgresql://db/relay?user=relay&password=***&sslmode=require",
        ),
        ("postgresql://db/relay?sslpassword=pw", "postgresql://db/relay?sslpassword=***"),
    ],
)
def test_no_password_of_a_store_is_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_files_of_secrets_that_others_may_open_are_faults(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    settings = Settings(state_dir=state)
    assert check_modes(settings) == ()
    for name, mode in {"master.key": 0o640, "relay.db": 0o600, "relay.db-wal": 0o604, "directory.toml": 0o644}.items():
        (state / name).touch()
        (state / name).chmod(mode)
    state.chmod(0o750)
    assert [str(fault) for fault in check_modes(settings)] == [
        f"{state}: others may open it (mode 0750); run: chmod 700 {state}",
        f"{state}/master.key: others may open it (mode 0640); run: chmod 600 {state}/master.key",
        f"{state}/relay.db-wal: others may open it (mode 0604); run: chmod 600 {state}/relay.db-wal",
    ]


def test_no_state_folder_is_no_fault_of_modes(tmp_path: Path) -> None:
    assert check_modes(Settings(state_dir=tmp_path / "missing")) == ()


def test_loading_reads_the_environment_of_the_process_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "STATE_DIRECTORY", "/srv/relay")
    assert load_settings(None).state_dir == Path("/srv/relay")


def test_an_fd_may_be_a_unix_socket_with_users(tmp_path: Path) -> None:
    text = '[[listener]]\naddress = "fd:submit"\nusers = { root = ["*"] }\n'
    (listener,) = load_settings(written(tmp_path, text)).listeners
    assert listener.users == {"root": ("*",)}


@pytest.mark.parametrize(
    ("addresses", "opened", "is_left_out"),
    [
        (["127.0.0.1:2525"], ["127.0.0.1:2525"], False),
        (["[::]:2525"], ["[::]:2525"], True),  # ours, which is for IPv6 alone
        (["fd:any"], ["[::]:2525"], False),  # one of systemd's, which is for both
        (["fd:any"], ["127.0.0.1:2525"], False),
        (["fd:any"], ["[::]:587", "unix:/run/relay/submit.sock"], True),
        (["127.0.0.1:25"], ["127.0.0.1:25"], True),
    ],
)
def test_that_nobody_hears_at_the_default_address_is_said(
    addresses: list[str], opened: list[str], is_left_out: bool
) -> None:
    listeners = tuple(Listener(name=str(number), address=address) for number, address in enumerate(addresses))
    said = left_out(Settings(listeners=listeners), opened)
    assert bool(said) == is_left_out
    assert "unless" not in said
