"""directory.toml: the exact sentence for everything that can be wrong in it, and all of them at once."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from relay.config.faults import Faults
from relay.config.schema import keys_of
from relay.directory.directory import Directory
from relay.directory.model import Agent, Application, Channel, Script, Server
from relay.directory.reading import read_tables
from relay.directory.routing import Routing
from relay.directory.rules.validation import parse_directory
from relay.mail.address import Address
from tests.peers.rows import each_row
from tests.peers.work import growth
from tests.unit.directory.directory_kit import HOUSE

SAMPLE = Path(__file__).parents[3] / "etc/directory.toml"

OAUTH_SERVER = (
    "[servers.o]\nhost = 'smtp.gmail.com'\nusername = 'u@a.example'\nauth = 'oauth2'\n"
    "oauth = { provider = 'google', client_id = 'c' }\n"
)
# Two good servers before each of the bad texts below.
BASE = """
default_server = "gmail"
[servers.gmail]
host = "smtp.gmail.com"
username = "m@acme.example"
[servers.shared]
host = "smtp.acme.example"
username = "s@acme.example"
internal = true
"""


def _api(kind: str, provider: str, more: str = "auth = 'oauth2'", url: str = "") -> str:
    oauth = f"[servers.x.oauth]\nprovider = '{provider}'\nclient_id = 'c'\n"
    return f"[servers.x]\nkind = '{kind}'\nusername = 'm@acme.example'\n{more}\n{url}\n{oauth}"


BAD_FILES = [
    ("[chanels.a]", "chanels: there is no such key; did you mean 'channels'?"),
    ("[servers]\nhost = 1", "servers.host: 1 is not a table; write each entry as [servers.NAME]"),
    ("[servers.x]\nprt = 1\nhost = 'h'", "servers.x.prt: there is no such key; did you mean 'port'?"),
    ("[servers.x]\nname = 'x'\nhost = 'h'", "servers.x.name: there is no such key; did you mean 'username'?"),
    ("[servers.x]\nnam = 'x'\nhost = 'h'", "servers.x.nam: there is no such key; remove it"),
    ("[servers.x]", "servers.x.host: this key is needed; add it"),
    (
        "[servers.x]\nhost = 'h'\napi_url = 'https://a.example'",
        'servers.x.api_url: kind = "smtp" has a host and no API; remove it',
    ),
    ("[servers.x]\nhost = 5", "servers.x.host: 5 is not text; write it in quotes"),
    (
        "[servers.x]\nhost = 'smtp://h'",
        "servers.x.host: it is a URL; write the name alone, and the protection as security",
    ),
    ("[servers.x]\nhost = '[::1]'", "servers.x.host: write an IPv6 address without brackets"),
    ("[servers.x]\nhost = 'h:587'", 'servers.x.host: there is a port in it; write host = "h" and port = 587'),
    ("[servers.x]\nhost = 'a b'", "servers.x.host: 'a b' is no host; write a name or an IP address"),
    ("[servers.x]\nhost = ''", "servers.x.host: this key is needed; add it"),
    ("[servers.x]\nhost = 'a..b'", "servers.x.host: 'a..b' is no host; write a name or an IP address"),
    (
        f"[servers.x]\nhost = '{'a' * 64}.example'",
        f"servers.x.host: '{'a' * 64}.example' is no host; write a name or an IP address",
    ),
    ("[servers.x]\nhost = 'h'\nport = '25'", "servers.x.port: '25' is not a whole number; write it without quotes"),
    ("[servers.x]\nhost = 'h'\nport = 0", "servers.x.port: 0 is too small; the least is 1"),
    ("[servers.x]\nhost = 'h'\nport = 70000", "servers.x.port: 70000 is too large; the most is 65535"),
    (
        "[servers.x]\nhost = 'h'\nsecurity = 'ttls'",
        "servers.x.security: 'ttls' is not 'none', 'starttls' or 'tls'; did you mean 'tls'?",
    ),
    (
        "[servers.x]\nhost = 'h'\nverify_tls = 'no'",
        "servers.x.verify_tls: 'no' is neither true nor false; write one of them, without quotes",
    ),
    ("[servers.x]\nhost = 'h'\naddress = 'me'", "servers.x.address: 'me' has no domain; write it as name@domain"),
    (
        (
            "[servers.x]\nhost = 'h'\nauth = 'oauth2'\nsecurity = 'none'\nallow_plaintext_password = true\n"
            "[servers.x.oauth]\nprovider = 'google'\nclient_id = 'c'"
        ),
        ('servers.x.auth: an access token never goes unprotected over the network; set security = "starttls" or "tls"'),
    ),
    (
        "[servers.x]\nhost = 'h'\nauth = 'none'\nusername = 'u'",
        'servers.x.username: auth = "none" logs in as nobody; remove username, or choose another auth',
    ),
    (
        "[servers.x]\nhost = 'h'\nsecurity = 'none'\nauth = 'plain'",
        (
            "servers.x.auth: 'plain' may send the password unprotected over the network; "
            'set security = "starttls" or "tls", or allow_plaintext_password = true'
        ),
    ),
    (
        "[servers.x]\nhost = 'h'\nsecurity = 'none'",
        (
            "servers.x.auth: 'auto' may send the password unprotected over the network; "
            'set security = "starttls" or "tls", or allow_plaintext_password = true'
        ),
    ),
    (
        "[servers.x]\nhost = 'h'\n[servers.x.oauth]\nprovider = 'google'\nclient_id = 'c'",
        'servers.x.oauth: it counts for auth = "oauth2" alone; set that, or remove this table',
    ),
    (
        "[servers.x]\nhost = 'h'\n[servers.x.incoming]\nhost = 'i'",
        'servers.x.incoming.username: the server has no username to take; add username = "…"',
    ),
    (
        "[servers.x]\nhost = 'h'\n[servers.x.incoming]\nhost = 'i:993'\nusername = 'u'",
        'servers.x.incoming.host: there is a port in it; write host = "i" and port = 993',
    ),
    (
        "[channels.c]\naddress = 'c@a.example'\n[channels.c.incoming]\nhost = 'i'\nsecurity = 'none'",
        (
            "channels.c.incoming.security: the secret would go unprotected over the network; "
            'set security = "tls" or "starttls"'
        ),
    ),
    (
        "[channels.c]\naddress = 'c@a.example'\n[channels.c.incoming]\nhost = 'i'\nusername = \"a\\nb\"",
        "channels.c.incoming.username: a user name holds no control characters; write it on one line",
    ),
    (
        "[agents.c]\naddress = 'c@a.example'\n[agents.c.incoming]\nhost = 'i'\npassword_from = 'hunter2'",
        "agents.c.incoming.password_from: it names no source; begin it with file:, env:, credential: or command:",
    ),
    (
        "[agents.c]\naddress = 'c@a.example'\n[agents.c.incoming]\nhost = 'i'\npassword_from = 'env:X'\npassword = 'p'",
        "agents.c.incoming.password: password_from gives the password already; keep one of the two",
    ),
    (
        f"{OAUTH_SERVER}incoming = {{ host = 'imap.elsewhere.example', auth = 'oauth2' }}",
        "servers.o.incoming.host: a token of server 'o' goes nowhere but to imap.gmail.com or pop.gmail.com",
    ),
    (
        f"{OAUTH_SERVER}incoming = {{ host = 'imap.gmail.com', auth = 'oauth2', password_from = 'env:X' }}",
        'servers.o.incoming.password_from: auth = "oauth2" logs in without a password; remove it',
    ),
    (
        f"""{OAUTH_SERVER}[channels.c]
        address = 'c@a.example'
        server = 'o'
        incoming = {{ host = 'imap.gmail.com', auth = 'oauth2' }}""",
        ("channels.c.incoming.auth: its mail leaves with the account of server 'o'; give that one the mailbox instead"),
    ),
    (
        "[servers.x]\nhost = 'h'\nusername = 'u'\nincoming = { host = 'imap.gmail.com', auth = 'oauth2' }",
        "servers.x.incoming.auth: server 'x' logs in without OAuth, so there is no token; set a password instead",
    ),
    (
        """[servers.x]
        kind = 'msgraph'
        auth = 'oauth2'
        username = 'u'
        oauth = { provider = 'microsoft', client_id = 'c' }
        incoming = { host = 'outlook.office365.com', auth = 'oauth2' }""",
        (
            "servers.x.incoming.protocol: tokens for Microsoft Graph are not taken by IMAP and POP3; "
            'set protocol = "api"'
        ),
    ),
    (
        "[servers.x]\nhost = 'h'\n[[servers.x.answers]]\nmatch = 'a'\nmeans = 'throtle'",
        (
            "servers.x.answers #1.means: 'throtle' is not 'refused', 'temporary', 'throttle', 'quota', 'lock-out', "
            "'login-refused', 'identity-refused', 'account-full' or 'unknown'; did you mean 'throttle'?"
        ),
    ),
    (
        "[servers.x]\nhost = 'h'\n[[servers.x.answers]]\nmatch = 'a'\nmeans = 'quota'\nmach = 1",
        "servers.x.answers #1.mach: there is no such key; did you mean 'match'?",
    ),
    (
        "[servers.x]\nhost = 'h'\n[servers.x.answers]\nmatch = 'a'",
        "servers.x.answers: there may be several; write it with two brackets: [[answers]]",
    ),
    (
        "[servers.x]\nhost = 'h'\npassword_from = 'hunter2'",
        "servers.x.password_from: it names no source; begin it with file:, env:, credential: or command:",
    ),
    (
        "[servers.x]\nhost = 'h'\npassword_from = 'env:P'\npassword = 'hunter2'",
        "servers.x.password: password_from gives the password already; keep one of the two",
    ),
    ("[servers.x]\nhost = 'h'\npassword = 12345678", "servers.x.password: the value is not text; write it in quotes"),
    (
        '[servers.x]\nhost = "h"\nusername = "a\\u0000b"',
        "servers.x.username: a user name holds no control characters; write it on one line",
    ),
    (
        "[servers.x]\nhost = 'h'\nauth = 'none'\n[channels.c]\naddress = 'c@a.example'\nserver = 'x'",
        "servers.x.address: channel 'c' sends with this server's address, and it has none; add address = \"…\"",
    ),
    (
        "[servers.x]\nhost = 'h'\nusername = 'u7'\n[agents.j]\naddress = 'j@a.example'\nserver = 'x'",
        "servers.x.address: agent 'j' sends with this server's address, and its username is none; add address = \"…\"",
    ),
    (
        "[servers.x]\nhost = 'h'\naddress = 'a@b.example'\n[channels.c]\naddress = 'c@a.example'\nserver = 'x'",
        'servers.x.username: channel \'c\' sends with this server\'s account; add username = "…", or auth = "none"',
    ),
    (
        '[channels."a b"]\naddress = "s@a.example"',
        "channels.a b: 'a b': a name cannot contain spaces",
    ),
    ("channels.s = 5", "channels.s: 5 is not a table; write each entry as [channels.NAME]"),
    ("[channels.s]", "channels.s.address: this key is needed; add it"),
    ("[channels.s]\naddress = 's'", "channels.s.address: 's' has no domain; write it as name@domain"),
    (
        "[channels.s]\naddress = 's@a.example'\naliases = ['@-']",
        "channels.s.aliases: '-' is no domain",
    ),
    (
        "[channels.s]\naddress = 's@a.example'\naliases = 'h@a.example'",
        "channels.s.aliases: 'h@a.example' is not a list; write it in brackets, such as [\"…\"]",
    ),
    (
        "[channels.s]\naddress = 's@a.example'\naliases = ['h@a.example', 5]",
        "channels.s.aliases #2: 5 is not text; write it in quotes",
    ),
    (
        "[channels.support]\naddress = 's@a.example'\nserver = 'gmial'",
        "channels.support.server: there is no server 'gmial'; did you mean 'gmail'?",
    ),
    (
        "[channels.c]\naddress = 'c@a.example'\nserver = 'gmial'\nincoming = { host = 'i' }",
        "channels.c.server: there is no server 'gmial'; did you mean 'gmail'?",
    ),
    ("[channels.s]\naddress = 's@a.example'\nscript = 'x'", "channels.s.script: there is no script 'x'"),
    (
        "[channels.s]\naddress = 's@a.example'\n[agents.s]\naddress = 't@a.example'",
        "agents.s: this name belongs to channel 's' already; choose another",
    ),
    (
        "[channels.s]\naddress = 's@a.example'\n[agents.j]\naddress = 'S@A.example'",
        "agents.j.address: S@A.example belongs to channel 's' already; take it from one of them",
    ),
    (
        (
            "[channels.s]\naddress = 's@a.example'\naliases = ['@A.example']\n"
            "[agents.j]\naddress = 'j@b.example'\naliases = ['@a.example']"
        ),
        "agents.j.aliases: @a.example belongs to channel 's' already; take it from one of them",
    ),
    (
        "[channels.s]\naddress = 's@bücher.example'\n[agents.j]\naddress = 'S@xn--bcher-kva.example'",
        "agents.j.address: S@xn--bcher-kva.example belongs to channel 's' already; take it from one of them",
    ),
    (
        "[channels.s]\naddress = 's@a.example'\n[agents.\"S@a.example\"]\naddress = 'j@b.example'",
        "agents.S@a.example: this name is the address of channel 's'; choose another",
    ),
    (
        "[channels.s]\naddress = 's@a.example'\nserver = 'shared'\noverride = true",
        (
            "channels.s.override: server 'shared' is internal, where no profile has its own account; "
            "remove override or choose another server"
        ),
    ),
    (
        "[channels.s]\naddress = 's@a.example'\nalias_identity = 'keep'",
        "channels.s.alias_identity: 'keep' needs override = true; without it mail leaves with the server's address",
    ),
    (
        "[agents.j]\naddress = 'j@a.example'\nmay_send_as = ['s']",
        "agents.j.may_send_as: there is no channel or agent 's'",
    ),
    ("[channels.s]\naddress = 's@a.example'\ngroup = 'g'", "channels.s.group: there is no such key; remove it"),
    (
        "[channels.support]\naddress = 's@a.example'\n[applications.crm]\nmay_send_as = ['suport']",
        "applications.crm.may_send_as: there is no channel or agent 'suport'; did you mean 'support'?",
    ),
    (
        "[agents.j]\naddress = 'j@a.example'\ngroup = 'sales'\n[applications.crm]\nmay_send_as = ['group:sale']",
        "applications.crm.may_send_as: there is no group 'sale'; did you mean 'sales'?",
    ),
    (
        "[applications.bot]\n[applications.crm]\nmay_send_as = ['bot']",
        "applications.crm.may_send_as: there is no channel or agent 'bot'",
    ),
    (
        "[agents.j]\naddress = 'j@a.example'\n[applications.j]",
        "applications.j: this name belongs to agent 'j' already; choose another",
    ),
    (
        "[channels.s]\naddress = 's@b\u00fccher.example'\n[applications.\"S@xn--bcher-kva.example\"]",
        "applications.S@xn--bcher-kva.example: this name is the address of channel 's'; choose another",
    ),
    (
        "[applications.crm]\nmay_send_as = 5",
        'applications.crm.may_send_as: 5 is not a list; write it in brackets, such as ["…"]',
    ),
    (
        "[scripts.d]\nset_headers = { From = 'x' }",
        "scripts.d.set_headers: 'From' is for Relay alone to set or remove; take it out",
    ),
    (
        "[scripts.d]\nremove_headers = ['content-type']",
        "scripts.d.remove_headers: 'content-type' is for Relay alone to set or remove; take it out",
    ),
    (
        "[scripts.d]\nremove_headers = ['X Y']",
        "scripts.d.remove_headers: 'X Y' cannot be the name of a header field; write letters, digits and hyphens",
    ),
    (
        '[scripts.d]\nset_headers = { X = "a\\nb" }',
        "scripts.d.set_headers.X: the text of a header field is one line without control characters",
    ),
    ("[scripts.d]\nset_headers = { X = 5 }", "scripts.d.set_headers.X: 5 is not text; write it in quotes"),
    ("[scripts.d]\nset_headers = 'X'", "scripts.d.set_headers: 'X' is not a table"),
]

# Files with several faults in one entry or around it: all sentences of the first run.
MANY_FAULTS = [
    (
        _api("msgraph", "google", "auth = 'oauth2'\nhost = 'h'\nport = 5", "api_url = 'http://a.example'"),
        [
            "servers.x.api_url: the token and the mail go there; write a URL that begins with https://",
            'servers.x.host: kind = "msgraph" is reached by the provider\'s API; remove it',
            'servers.x.oauth.provider: kind = "msgraph" takes tokens of "microsoft"',
            'servers.x.port: kind = "msgraph" is reached by the provider\'s API; remove it',
        ],
    ),
    (
        "[servers.x]\nkind = 'https'\nport = 443\nauth = 'plain'",
        [
            'servers.x.api: this key is needed; set api = "ses" or "mailgun"',
            'servers.x.auth: kind = "https" logs in by user name and password as the provider wants it; remove it',
            "servers.x.host: this key is needed; add it",
            'servers.x.port: kind = "https" is reached by the provider\'s API; remove it',
        ],
    ),
    (
        "[servers.x]\nkind = 'https'\napi = 'postmark'\napi_url = 'http://a.example'\nhost = 'https://a.example'",
        [
            (
                "servers.x.api: Postmark takes no whole message by its API, only parts of which it makes another one; "
                "use its SMTP (--provider postmark), with port 2525 where 587 is blocked"
            ),
            "servers.x.api_url: host says where the API is already; keep one of the two",
            "servers.x.api_url: the token and the mail go there; write a URL that begins with https://",
        ],
    ),
    (
        "[servers.x]\nkind = 'https'\napi = 'ses'\nhost = 'ses.acme.example'\nusername = 'A'",
        ["servers.x.host: no region stands in it; write email.REGION.amazonaws.com with your region"],
    ),
    (
        "[servers.x]\nhost = 'h'\napi = 'sess'",
        ['servers.x.api: kind = "smtp" has a host and no API; remove it'],
    ),
    (
        "[servers.x]\nkind = 'gmail'\nusername = 'm@acme.example'\nsecurity = 'tls'",
        [
            'servers.x.auth: kind = "gmail" logs in by OAuth alone; set auth = "oauth2"',
            'servers.x.security: kind = "gmail" is reached by the provider\'s API; remove it',
        ],
    ),
    (
        "[servers.x]\nsecurity = 'ssl'\nhost = 'smtp.x:587'",
        [
            'servers.x.host: there is a port in it; write host = "smtp.x" and port = 587',
            "servers.x.security: 'ssl' is not 'none', 'starttls' or 'tls'",
        ],
    ),
    (
        "[agents.j]\noverride = 'yes'\naddress = 'j'\nserver = 'sharde'",
        [
            "agents.j.address: 'j' has no domain; write it as name@domain",
            "agents.j.override: 'yes' is neither true nor false; write one of them, without quotes",
            "agents.j.server: there is no server 'sharde'; did you mean 'shared'?",
        ],
    ),
    (
        "[agents.j]\nserver = 'sharde'",
        [
            "agents.j.address: this key is needed; add it",
            "agents.j.server: there is no server 'sharde'; did you mean 'shared'?",
        ],
    ),
    (
        "[agents.j]\naddress = 'j@a.example'\naliases = ['@-', 5]",
        ["agents.j.aliases: '-' is no domain", "agents.j.aliases #2: 5 is not text; write it in quotes"],
    ),
    (
        "[agents.i]\naddress = 'j@a.example'\n[agents.j]\naddress = 'j@a.example'\noverride = 1",
        [
            "agents.j.address: j@a.example belongs to agent 'i' already; take it from one of them",
            "agents.j.override: 1 is neither true nor false; write one of them, without quotes",
        ],
    ),
    (
        "[servers.x]\nport = 0\n[servers.x.incoming]\nprotocol = 'imap'\n[agents.j]\naddress = 'j'\nserver = 'x'",
        [
            "agents.j.address: 'j' has no domain; write it as name@domain",
            "servers.x.address: agent 'j' sends with this server's address, and it has none; add address = \"…\"",
            "servers.x.host: this key is needed; add it",
            "servers.x.incoming.host: this key is needed; add it",
            "servers.x.port: 0 is too small; the least is 1",
            'servers.x.username: agent \'j\' sends with this server\'s account; add username = "…", or auth = "none"',
        ],
    ),
]

# A malformed value that another rule reads too: what only follows from it is no second sentence.
FOLLOWS_FROM_ANOTHER = [
    (
        "[agents.j]\naddress = 'j@a.example'\ngroup = 5\n[applications.crm]\nmay_send_as = ['group:g']",
        "agents.j.group: 5 is not text; write it in quotes",
    ),
    (
        "[agents]\nj = 5\n[applications.crm]\nmay_send_as = ['j']",
        "agents.j: 5 is not a table; write each entry as [agents.NAME]",
    ),
    (
        "channels = 5\n[applications.crm]\nmay_send_as = ['c']",
        "channels: 5 is not a table; write each entry as [channels.NAME]",
    ),
    (
        "[servers.x]\nhost = 5\nsecurity = 'none'",
        "servers.x.host: 5 is not text; write it in quotes",
    ),
    (
        "[servers.x]\nhost = 'h'\nsecurity = 'none'\nallow_plaintext_password = 1",
        "servers.x.allow_plaintext_password: 1 is neither true nor false; write one of them, without quotes",
    ),
    (
        "[servers.x]\nhost = 'h'\nsecurity = 'none'\nauth = 5",
        ("servers.x.auth: 5 is not 'none', 'plain', 'login', 'cram-md5', 'scram-sha-256', 'oauth2' or 'auto'"),
    ),
    (
        (
            "[servers.x]\nhost = 'h'\naddress = 'a@b.example'\nauth = 'nnoe'\n"
            "[agents.j]\naddress = 'j@a.example'\nserver = 'x'"
        ),
        (
            "servers.x.auth: 'nnoe' is not 'none', 'plain', 'login', 'cram-md5', 'scram-sha-256', 'oauth2' or 'auto'; "
            "did you mean 'none'?"
        ),
    ),
    (
        "[servers.x]\nhost = 'h'\nusername = 5\n[agents.j]\naddress = 'j@a.example'\nserver = 'x'",
        "servers.x.username: 5 is not text; write it in quotes",
    ),
    (
        "[servers.x]\nhost = 'h'\nusername = 'u'\naddress = 5\n[agents.j]\naddress = 'j@a.example'\nserver = 'x'",
        "servers.x.address: 5 is not text; write it in quotes",
    ),
    (
        "[servers.x]\nhost = 'h'\n[agents.j]\naddress = 'j@a.example'\nserver = 'x'\noverride = 'yes'",
        "agents.j.override: 'yes' is neither true nor false; write one of them, without quotes",
    ),
    (
        "[agents.j]\naddress = 'j@a.example'\nalias_identity = 'keep'\noverride = 'yes'",
        "agents.j.override: 'yes' is neither true nor false; write one of them, without quotes",
    ),
    (
        "default_server = 'x'\n[servers.x]\nhost = 'h'\n[agents.j]\naddress = 'j@a.example'\nserver = 5",
        "agents.j.server: 5 is not text; write it in quotes",
    ),
    (
        (
            "default_server = 'x'\n[servers.x]\nhost = 'h'\ninternal = true\n"
            "[agents.j]\naddress = 'j@a.example'\noverride = true\nserver = 5"
        ),
        "agents.j.server: 5 is not text; write it in quotes",
    ),
    (
        "default_server = 5\n[agents.j]\naddress = 'j@a.example'",
        "default_server: 5 is not text; write the server's name in quotes",
    ),
    (
        "scripts = 5\n[agents.j]\naddress = 'j@a.example'\nscript = 's'",
        "scripts: 5 is not a table; write each entry as [scripts.NAME]",
    ),
]

BAD_DEFAULTS = [
    (
        "default_server = 'x'\nservers = 5\n[agents.j]\naddress = 'j@a.example'\nserver = 'x'",
        "servers: 5 is not a table; write each entry as [servers.NAME]",
    ),
    (
        "[servers.b]\nhost = 'h'\n[servers.a]\nhost = 'h'",
        'default_server: it is missing; name the server of all who choose none: default_server = "a"',
    ),
    ("default_server = 'x'", "default_server: there is no server 'x'"),
    (
        "default_server = 'gmial'\n[servers.gmail]\nhost = 'h'",
        "default_server: there is no server 'gmial'; did you mean 'gmail'?",
    ),
    ("default_server = 5", "default_server: 5 is not text; write the server's name in quotes"),
    ("servers = 5", "servers: 5 is not a table; write each entry as [servers.NAME]"),
    (
        "[agents.j]\naddress = 'j@a.example'\n[channels.s]\naddress = 's@a.example'",
        "channels.s: there is no server to send through; add [servers.NAME] and make it default_server",
    ),
    (
        (
            "default_server = 's'\n[servers.s]\nhost = 'h'\ninternal = true\n"
            "[channels.c]\naddress = 'c@a.example'\noverride = true"
        ),
        (
            "channels.c.override: the default server 's' is internal, where no profile has its own account; "
            "remove override or choose another server"
        ),
    ),
]

GOOD_FILES = [
    "",
    "[servers.x]\nhost = 'localhost'\nsecurity = 'none'\nauth = 'plain'",
    "[servers.x]\nhost = '127.0.0.5'\nsecurity = 'none'\nauth = 'login'",
    "[servers.x]\nhost = '::1'\nsecurity = 'none'",
    "[servers.x]\nhost = 'h'\nsecurity = 'none'\nauth = 'plain'\nallow_plaintext_password = true",
    "[servers.x]\nhost = 'h'\nchunking = true",
    "[servers.x]\nhost = 'h'\nsecurity = 'none'\nauth = 'cram-md5'",
    "[servers.x]\nhost = 'h'\nsecurity = 'none'\nauth = 'none'",
    "[servers.x]\nhost = 'smtp.bücher.example'",
    "[servers.x]\nhost = 'h'\nmessage_size = '25MiB'",
    "[servers.x]\nhost = 'h'\nauth = 'none'\n[channels.c]\naddress = 'c@a.example'\nserver = 'x'\noverride = true",
    "[servers.x]\nhost = 'h'\n[channels.c]\naddress = 'c@a.example'\nserver = 'x'\noverride = true",
    "[channels.s]\naddress = 's@a.example'\naliases = ['S@a.example', '@a.example']",
    "[channels.\"ß-team_1\"]\naddress = 's@a.example'",
    "[agents.j]\naddress = 'j@a.example'\ngroup = 'g'\nmay_send_as = ['j', 'group:g', '*']\n[applications.crm]",
    "[agents.j]\naddress = 'j@a.example'\n[applications.\"crm@a.example\"]\nmay_send_as = ['j']",
    "[scripts.default]\nset_headers = { Organization = 'Zoë' }\nremove_headers = ['X-Originating-IP']",
]


def sentences(text: str) -> list[str]:
    with pytest.raises(Faults) as caught:
        parse_directory(tomllib.loads(text), "d.toml")
    assert all(fault.file == "d.toml" for fault in caught.value.faults)
    return [f"{fault.key}: {fault.message}" for fault in caught.value.faults]


def sentences_after_base(text: str) -> list[str]:
    good = tomllib.loads(BASE)
    bad = tomllib.loads(text)
    tables = {**good, **bad}
    if isinstance(bad.get("servers"), dict):
        tables["servers"] = good["servers"] | bad["servers"]
    with pytest.raises(Faults) as caught:
        parse_directory(tables)
    return [f"{fault.key}: {fault.message}" for fault in caught.value.faults]


@each_row(("text", "sentence"), BAD_FILES)
def test_a_bad_entry_is_one_sentence(text: str, sentence: str) -> None:
    assert sentences_after_base(text) == [sentence]


@pytest.mark.parametrize(("text", "expected"), MANY_FAULTS)
def test_a_malformed_key_hides_no_other_fault(text: str, expected: list[str]) -> None:
    assert sentences_after_base(text) == expected


@pytest.mark.parametrize(("text", "sentence"), FOLLOWS_FROM_ANOTHER)
def test_what_follows_from_a_malformed_key_is_no_second_fault(text: str, sentence: str) -> None:
    assert sentences_after_base(text) == [sentence]


@pytest.mark.parametrize(("text", "sentence"), BAD_DEFAULTS)
def test_a_bad_file_is_one_sentence(text: str, sentence: str) -> None:
    assert sentences(text) == [sentence]


@pytest.mark.parametrize("text", GOOD_FILES)
def test_a_good_entry_is_no_fault(text: str) -> None:
    good = tomllib.loads(BASE)
    more = tomllib.loads(text)
    parse_directory({**good, **more, "servers": good["servers"] | more.get("servers", {})})


def test_all_faults_are_reported_at_once_in_the_order_of_their_keys() -> None:
    text = (
        BASE
        + """
    [servers.x]
    hots = "h"
    [channels.b]
    address = "b"
    server = "sharde"
    [agents.b]
    address = "b@a.example"
    override = "yes"
    [agents.c]
    address = "c@a.example"
    server = "sharde"
    """
    )
    assert sentences(text) == [
        "agents.b: this name belongs to channel 'b' already; choose another",
        "agents.b.override: 'yes' is neither true nor false; write one of them, without quotes",
        "agents.c.server: there is no server 'sharde'; did you mean 'shared'?",
        "channels.b.address: 'b' has no domain; write it as name@domain",
        "channels.b.server: there is no server 'sharde'; did you mean 'shared'?",
        "servers.x.host: this key is needed; add it",
        "servers.x.hots: there is no such key; did you mean 'host'?",
    ]


def test_a_reference_to_a_malformed_server_is_no_second_fault() -> None:
    text = BASE + "[servers.x]\nhost = 5\n[channels.c]\naddress = 'c@a.example'\nserver = 'x'\noverride = true"
    assert sentences(text) == ["servers.x.host: 5 is not text; write it in quotes"]


def test_an_empty_file_is_an_empty_directory() -> None:
    assert parse_directory({}) == Directory()


def test_no_secret_is_in_a_fault_or_a_repr() -> None:
    text = BASE + "[channels.c]\naddress = 'c'\npassword = 'hunter2'\npassword_from = 'hunter3'"
    assert not re.search("hunter[23]", "\n".join(sentences(text)))
    house = parse_directory(tomllib.loads(HOUSE + "[channels.c]\naddress = 'c@a.example'\npassword = 'hunter2'"))
    assert "hunter2" not in repr(house)


def test_the_sample_file_has_every_key_with_its_default() -> None:
    sample = SAMPLE.read_text()
    tables = tomllib.loads(re.sub(r"^#(?! |$)", "", sample, flags=re.MULTILINE))
    reading = read_tables(tables)
    assert reading.faults == []
    entries = {
        Server: tables["servers"]["acmejets"],
        Channel: tables["channels"]["support"],
        Agent: tables["channels"]["support"] | tables["agents"]["jane"],
        Application: tables["applications"]["contact-center"] | {"name": ""},
        Script: tables["scripts"]["default"],
    }
    for kind, entry in entries.items():
        assert {"name", *entry} == set(keys_of(kind)), kind
    commented = re.findall(r"((?:^# .*\n)+)#(\w+) = ", sample, flags=re.MULTILINE)
    examples = {key for comment, key in commented if "xample" in comment}
    default = Server(name="acmejets", host="smtp.gmail.com")
    for key, value in tables["servers"]["acmejets"].items():
        if key not in examples | {"answers", "oauth", "incoming", "port"}:
            assert getattr(default, key) == value, key


def test_the_sample_file_is_an_empty_directory() -> None:
    assert parse_directory(tomllib.loads(SAMPLE.read_text())) == Directory()


def _routing_of(count: int) -> Callable[[], Routing]:
    agents = {
        f"agent{number}": {
            "address": f"agent{number}@acme.example",
            "aliases": [f"a{number}@acme.example"],
            "override": number % 2 == 0,
            "full_name": f"Agent {number}",
            "group": "sales",
        }
        for number in range(count)
    }
    tables = tomllib.loads(BASE + tomli_w.dumps({"agents": agents}))
    return lambda: Routing(parse_directory(tables))


def test_an_agent_costs_the_same_however_many_others_there_are() -> None:
    """What ten thousand take is measured by `make bench LOADS=size`."""
    assert growth(_routing_of, 250) < 5
    owner = _routing_of(1000)().owner(Address.parse("A999@acme.example"))
    assert owner is not None
    assert owner.profile.name == "agent999"
