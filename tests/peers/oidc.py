"""An identity provider: a real one by Authlib's server side, over HTTP on loopback, with a person to click in it.

oidc-provider-mock knows neither devices nor client credentials nor PKCE, and it changes no refresh token; all of that
is Authlib's own here. Its access tokens are JSON Web Tokens that the tests' Dovecot checks by itself.
"""

import json
import logging
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from itertools import count
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin, grants
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint, DeviceCodeGrant, DeviceCredentialDict
from flask import Flask, request
from markupsafe import escape
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

from tests.peers.canaries import plain_canary
from tests.peers.system import LOOPBACK, free_port

_FORBIDDEN_KEY = b"another key of thirty-two octets"


class Signs(Protocol):
    """Makes an access token that the mail server takes (`Dovecot.token`)."""

    def __call__(self, user: str, *, seconds: float, key: bytes | None, jti: str) -> str: ...


@dataclass(slots=True)
class Client(ClientMixin):  # type: ignore[misc]
    """An app that is registered at the provider; `mailbox` is whose tokens it gets for itself.

    `redirects` are the addresses that a browser may be sent to with a code.
    """

    client_id: str
    secret: str = field(repr=False)
    mailbox: str
    redirects: tuple[str, ...] = ("http://localhost",)

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.redirects

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == self.secret

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == ("client_secret_post" if self.secret else "none")

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return True


@dataclass(slots=True)
class Code:
    """An authorization code that a browser carries."""

    code: str
    client_id: str
    user: str
    scope: str
    code_challenge: str
    code_challenge_method: str
    redirect: str

    def get_redirect_uri(self) -> str:
        return self.redirect

    def get_scope(self) -> str:
        return self.scope


@dataclass(slots=True)
class Refresh(TokenMixin):  # type: ignore[misc]
    """A refresh token that is good."""

    token: str
    client_id: str
    user: str
    scope: str

    def get_scope(self) -> str:
        return self.scope

    def check_client(self, client: Client) -> bool:
        return client.client_id == self.client_id


@dataclass(slots=True, kw_only=True)
class Behaviour:
    """How the provider behaves; tests change it while it runs.

    `seconds` is what it says of an access token's life, `lives` how long that really is (None: the same). With
    `forges` its tokens are signed with a wrong key, with `is_busy` it answers 503, `rotates`: each refresh token is
    good for once. `names` is who it says allowed it, where that is somebody else.
    """

    seconds: int = 3600
    lives: float | None = None
    forges: bool = False
    is_busy: bool = False
    rotates: bool = True
    interval: int = 1
    names: str = ""


class IdentityServer:
    """The provider: its URLs, its apps and what a person does there."""

    def __init__(self, sign: Signs) -> None:
        self.port = free_port()
        self.behaviour = Behaviour()
        self.clients: dict[str, Client] = {}
        self.asked: list[str] = []  # the grant types of all token requests
        self.asked_at = 0.0
        self._codes: dict[str, Code] = {}
        self._refresh: dict[str, Refresh] = {}
        self._devices: dict[str, DeviceCredentialDict] = {}
        self._allowed: dict[str, tuple[str, bool]] = {}
        self._polled: dict[str, float] = {}
        self._sign = sign
        self._numbers = count(1)
        self._app = _app(self)
        self._thread: threading.Thread | None = None
        self._server: Any = None

    @property
    def table(self) -> dict[str, Any]:
        """[servers.NAME.oauth] without client_id and flow."""
        base = f"http://{LOOPBACK}:{self.port}"
        return {
            "provider": "custom",
            "authorize_url": f"{base}/authorize",
            "token_url": f"{base}/token",
            "device_url": f"{base}/device",
            "scope": "mail offline_access",
        }

    @property
    def seconds_since_asked(self) -> float:
        """How long ago the last token request came."""
        return time.monotonic() - self.asked_at

    def start(self) -> None:
        """Listen; the port stays the same after a stop."""
        self._server = make_server(LOOPBACK, self.port, self._app, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        """Be gone: connections are refused from now on."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._thread = None

    def allow_in_browser(self, url: str, user: str, *, allows: bool = True) -> str:
        """Open the page as a browser does, say yes or no as `user`, and return the address that the browser ends at."""
        parts = urlsplit(url)
        assert parts.port == self.port
        connection = HTTPConnection(LOOPBACK, self.port, timeout=10)
        body = urlencode({"user": user, "allows": "yes" if allows else ""})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", f"{parts.path}?{parts.query}", body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        assert answer.status == 302, text
        return answer.headers["Location"]

    def allow_device(self, user_code: str, user: str, *, allows: bool = True) -> None:
        """Type a device's code and say yes or no as `user`."""
        assert user_code in {device["user_code"] for device in self._devices.values()}
        self._allowed[user_code] = (user, allows)

    def revoke(self, user: str) -> None:
        """Take back what a user allowed: no refresh token of theirs is good any more."""
        self._refresh = {token: one for token, one in self._refresh.items() if one.user != user}

    def tokens(self, client: Client, user: str | None, scope: str | None, *, renewable: bool) -> dict[str, Any]:
        """New tokens, as a token endpoint gives them."""
        whose, number = user or client.mailbox, next(self._numbers)
        behaviour = self.behaviour
        lives = behaviour.seconds if behaviour.lives is None else behaviour.lives
        key = _FORBIDDEN_KEY if behaviour.forges else None
        given: dict[str, Any] = {
            "token_type": "Bearer",
            "access_token": self._sign(whose, seconds=lives, key=key, jti=plain_canary(f"access-{number}")),
            "expires_in": behaviour.seconds,
            "scope": scope or "",
        }
        if renewable:
            refresh = Refresh(plain_canary(f"refresh-{number}"), client.client_id, whose, scope or "mail")
            self._refresh[refresh.token] = refresh
            given |= {"refresh_token": refresh.token, "id_token": _id_token(behaviour.names or whose)}
        return given


class _Quiet(WSGIRequestHandler):
    def log(self, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def identity_server(sign: Signs) -> Iterator[IdentityServer]:
    """A provider that runs; `sign` makes its access tokens."""
    server = IdentityServer(sign)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _id_token(user: str) -> str:
    parts = ({"alg": "none"}, {"sub": "1", "preferred_username": user})
    return ".".join(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def _app(server: IdentityServer) -> Flask:
    app = Flask("identity")
    logging.getLogger("authlib").setLevel(logging.WARNING)
    authorization = AuthorizationServer()
    authorization.init_app(app, query_client=server.clients.get, save_token=lambda token, request: None)
    for grant in _grants(server):
        authorization.register_grant(*grant)
    authorization.register_endpoint(_device_endpoint(server))

    def generate(
        grant_type: str,
        client: Client,
        user: str | None = None,
        scope: str | None = None,
        expires_in: int | None = None,
        include_refresh_token: bool = True,
    ) -> dict[str, Any]:
        renewable = include_refresh_token and (grant_type != "refresh_token" or server.behaviour.rotates)
        return server.tokens(client, user, scope, renewable=renewable)

    authorization.register_token_generator("default", generate)

    @app.before_request
    def busy() -> tuple[str, int] | None:
        return ("busy", 503) if server.behaviour.is_busy else None

    @app.get("/authorize")
    def ask() -> str:
        """What a person sees; the browser sends the form to the same address."""
        hint = escape(request.args.get("login_hint", ""))
        return (
            f'<!doctype html><title>Allow?</title><form method="post"><input name="user" value="{hint}">'
            '<button name="allows" value="yes">Allow</button><button name="allows" value="">Refuse</button></form>'
        )

    @app.post("/authorize")
    def authorize() -> Response:
        user = request.form["user"] if request.form["allows"] else None
        try:
            grant = authorization.get_consent_grant(end_user=user)
        except OAuth2Error as error:
            return Response(str(error), 400)
        answer: Response = authorization.create_authorization_response(grant_user=user, grant=grant)
        return answer

    @app.post("/token")
    def token() -> Response:
        server.asked.append(request.form["grant_type"])
        server.asked_at = time.monotonic()
        answer: Response = authorization.create_token_response()
        return answer

    @app.post("/device")
    def device() -> Response:
        answer: Response = authorization.create_endpoint_response("device_authorization")
        return answer

    return app


def _grants(server: IdentityServer) -> Iterator[tuple[Any, ...]]:
    class AuthorizationCode(grants.AuthorizationCodeGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_post", "none")

        def save_authorization_code(self, code: str, request: Any) -> None:
            said = request.payload.data
            server._codes[code] = Code(
                code,
                request.client.client_id,
                request.user,
                request.payload.scope or "",
                said["code_challenge"],
                said["code_challenge_method"],
                said["redirect_uri"],
            )

        def query_authorization_code(self, code: str, client: Client) -> Code | None:
            found = server._codes.get(code)
            return found if found and found.client_id == client.client_id else None

        def delete_authorization_code(self, authorization_code: Code) -> None:
            del server._codes[authorization_code.code]

        def authenticate_user(self, authorization_code: Code) -> str:
            return authorization_code.user

    class RefreshToken(grants.RefreshTokenGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_post", "none")
        INCLUDE_NEW_REFRESH_TOKEN = True

        def authenticate_refresh_token(self, refresh_token: str) -> Refresh | None:
            return server._refresh.get(refresh_token)

        def authenticate_user(self, refresh_token: Refresh) -> str:
            return refresh_token.user

        def revoke_old_credential(self, refresh_token: Refresh) -> None:
            if server.behaviour.rotates:
                server._refresh.pop(refresh_token.token, None)

    class ClientCredentials(grants.ClientCredentialsGrant):  # type: ignore[misc]
        TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_post",)

    class Device(DeviceCodeGrant):  # type: ignore[misc]
        def query_device_credential(self, device_code: str) -> DeviceCredentialDict | None:
            return server._devices.get(device_code)

        def query_user_grant(self, user_code: str) -> tuple[str, bool] | None:
            return server._allowed.get(user_code)

        def should_slow_down(self, credential: DeviceCredentialDict) -> bool:
            last, now = server._polled.get(credential["device_code"], 0.0), time.monotonic()
            server._polled[credential["device_code"]] = now
            return now - last < server.behaviour.interval - 0.5

    yield AuthorizationCode, [CodeChallenge(required=True)]
    yield (RefreshToken,)
    yield (ClientCredentials,)
    yield (Device,)


def _device_endpoint(server: IdentityServer) -> Any:
    class Endpoint(DeviceAuthorizationEndpoint):  # type: ignore[misc]
        @property
        def INTERVAL(self) -> int:  # noqa: N802  Authlib's name
            return server.behaviour.interval

        def get_verification_uri(self) -> str:
            return f"http://{LOOPBACK}:{server.port}/enter-code"

        def save_device_credential(self, client_id: str, scope: str, data: dict[str, Any]) -> None:
            server._devices[data["device_code"]] = DeviceCredentialDict(client_id=client_id, scope=scope, **data)

    return Endpoint
