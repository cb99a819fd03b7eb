"""What must hold for a server whose accounts log in by OAuth."""

import tomllib

import pytest

from relay.config.faults import Faults
from relay.directory.rules.validation import parse_directory

HEAD = "default_server = 'x'\n[servers.x]\nhost = 'h'\n"
CUSTOM = "provider = 'custom'\nclient_id = 'c'\nauthorize_url = 'https://a/'\ntoken_url = 'https://t/'\n"


def faults(oauth: str, auth: str = "oauth2") -> list[str]:
    text = f"{HEAD}auth = '{auth}'\n" + (f"[servers.x.oauth]\n{oauth}" if oauth else "")
    try:
        parse_directory(tomllib.loads(text))
    except Faults as error:
        return [f"{fault.key}: {fault.message}" for fault in error.faults]
    return []


@pytest.mark.parametrize(
    "oauth",
    [
        "provider = 'microsoft'",
        "provider = 'microsoft'\nclient_id = 'c'",
        "provider = 'microsoft'\nclient_id = 'c'\nflow = 'device'\ntenant = 'acme.onmicrosoft.com'",
        "provider = 'microsoft'\nclient_id = 'c'\nflow = 'client_credentials'\ntenant = 'acme.onmicrosoft.com'",
        "provider = 'google'\nclient_id = 'c'\nscope = 'https://mail.google.com/'",
        CUSTOM,
        CUSTOM.replace("https://a/", "http://localhost:8080/auth").replace("https://t/", "http://[::1]:8080/token"),
        "provider = 'custom'\nclient_id = 'c'\nflow = 'client_credentials'\ntoken_url = 'https://t/'",
    ],
)
def test_a_client_that_is_right(oauth: str) -> None:
    assert faults(oauth) == []


@pytest.mark.parametrize(
    ("oauth", "fault"),
    [
        ("", 'oauth: auth = "oauth2" needs it: the provider, and the client_id of the app'),
        ("provider = 'google'\nclient_id = ' '", "oauth.client_id: it is blank"),
        ("provider = 'google'\nclient_id = 'c'\nflow = 'device'", "oauth.flow: Google gives devices no access to mail"),
        ("provider = 'google'\nclient_id = 'c'\nflow = 'client_credentials'", "oauth.key_file: with flow = "),
        ("provider = 'google'\nclient_id = 'c'\nkey_file = '/k'", "oauth.key_file: only an app that"),
        ("provider = 'google'\nclient_id = 'c'\ntenant = 't'", "oauth.tenant: only Microsoft has tenants"),
        ("provider = 'google'\nclient_id = 'c'\ntoken_url = 'https://t/'", "oauth.token_url: google has its own"),
        ("provider = 'microsoft'\nclient_id = 'c'\ntenant = 'a/b'", "oauth.tenant: it is no tenant"),
        ("provider = 'microsoft'\nclient_id = 'c'\nflow = 'client_credentials'", "oauth.tenant: flow = "),
        (CUSTOM + "flow = 'device'", 'oauth.device_url: provider = "custom" with flow = "device" needs it'),
        (CUSTOM.replace("https://t/", ""), 'oauth.token_url: provider = "custom" with flow = "code" needs it'),
        (CUSTOM.replace("https://t/", "http://t/"), "oauth.token_url: a secret is told there"),
        (CUSTOM.replace("https://t/", "https://user:pass@t/"), "oauth.token_url: a secret is told there"),
        (CUSTOM.replace("https://t/", "https://t:x/"), "oauth.token_url: a secret is told there"),
        (CUSTOM.replace("https://t/", "https://[t/"), "oauth.token_url: a secret is told there"),
        (CUSTOM.replace("https://t/", "t"), "oauth.token_url: a secret is told there"),
    ],
)
def test_a_client_that_is_wrong(oauth: str, fault: str) -> None:
    (found,) = faults(oauth)
    assert found.startswith(f"servers.x.{fault}")


def test_a_malformed_key_is_one_fault() -> None:
    assert len(faults("provider = 'goggle'\nclient_id = 'c'")) == 1
    assert len(faults(CUSTOM, auth="oath2")) == 1


def test_a_password_where_none_is_used() -> None:
    text = f"""{HEAD}auth = 'oauth2'\npassword = 'p'\n[servers.x.oauth]\n{CUSTOM}
[channels.c]\naddress = 'c@a.example'\noverride = true\npassword = 'p'
[channels.d]\naddress = 'd@a.example'\noverride = true\npassword_from = 'command:oauth2-token d'"""
    with pytest.raises(Faults) as caught:
        parse_directory(tomllib.loads(text))
    assert [fault.key for fault in caught.value.faults] == ["channels.c.password", "servers.x.password"]
