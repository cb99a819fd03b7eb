"""The API's description keeps its word: each body has an example, which is what is really sent and answered."""

import asyncio
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message

from relay.control.refused import Unavailable
from relay.web.api.problems import REFUSALS, refusal
from relay.web.kit import guard
from tests.pages.described import Described, Operation, read_description
from tests.pages.full_house import House
from tests.peers.api import Answer, ApiClient
from tests.peers.console import Console, console_process
from tests.peers.recorder import Recorder
from tests.peers.relay import one_channel, open_server
from tests.unit.control.control_kit import TWO_SERVERS, AdminOperations, parts_in, with_holds_read
from tests.unit.control.queue_kit import hold_row

pytestmark = pytest.mark.slow

# What is asked of others, and takes seconds.
_ASKS_OTHERS = frozenset({"/doctor"})
# The examples of these lead to a provider, to the server of an example, or to a day whose events are kept no more.
_CONNECTS = ("/authorized", "/servers/try", "/webhooks/replay")
# Additions, in the order in which one needs the other.
_ADDITIONS = ("/servers", "/channels", "/agents", "/applications", "/scripts", "/administrators")


@pytest.fixture(scope="module")
def described(house: House) -> Described:
    return read_description(house.writer)


def test_every_body_has_an_example_that_is_valid(described: Described) -> None:
    bodies, wrong = 0, []
    for operation in described.operations:
        for content in operation.contents():
            bodies += 1
            where = f"{operation.line}, {content.whose}"
            if "example" not in content.said:
                wrong.append(f"{where}: no example")
            elif content.is_json:
                wrong += [
                    f"{where}: {said}" for said in described.faults(content.said["schema"], content.said["example"])
                ]
            elif not isinstance(content.said["example"], str):
                wrong.append(f"{where}: the example is not text")
    assert wrong == []
    assert bodies > 800


def test_an_example_with_a_fault_is_found(described: Described) -> None:
    by_line = {operation.line: operation for operation in described.operations}
    (answer,) = (one for one in by_line["GET /agents/{name}"].contents() if one.whose == "200")
    schema, example = answer.said["schema"], answer.said["example"]
    assert described.faults(schema, example) == []
    for change in ({"address": 1}, {"last_test": {"at": "now"}}, {"nonsense": True}, {"alias_identity": "both"}):
        assert described.faults(schema, {**example, **change}), change
    assert described.faults(schema, {key: value for key, value in example.items() if key != "last_test"})


def test_every_example_of_a_value_is_valid(described: Described) -> None:
    wrong, seen = [], 0
    for where, schema in _schemas(described):
        for example in schema.get("examples", ()):
            seen += 1
            wrong += [f"{where}: {example!r}: {said}" for said in described.faults(schema, example)]
    assert wrong == []
    assert seen > 200


def _schemas(described: Described) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the schema of every parameter, and of every key of a body."""
    for operation in described.operations:
        for parameter in operation.said.get("parameters", ()):
            yield f"{operation.line} {parameter['name']}", parameter["schema"]
    for name, schema in described.parts["schemas"].items():
        for key, inner in schema.get("properties", {}).items():
            yield f"{name}.{key}", inner


def test_whoever_reads_the_description_alone_knows_what_to_do(described: Described) -> None:
    silent = []
    for operation in described.operations:
        summary, text = operation.said["summary"], operation.said["description"]
        if not summary or text.startswith(summary) or not text.endswith((" administrators.", " administrators alone.")):
            silent.append(operation.line)
        parameters = operation.said.get("parameters", ())
        silent += [f"{operation.line} {one['name']}" for one in parameters if not one.get("description")]
    for name in ("Server", "Channel", "Agent", "Application", "Script", "NewServer", "NewAgent", "Incoming"):
        schema = described.parts["schemas"][name]
        silent += [f"{name}.{key}" for key, inner in schema["properties"].items() if not inner.get("description")]
    assert silent == []
    told = described.document["info"]["description"]
    for word in ("Bearer", "If-Match", "ETag", "problem+json", "`next`", "`start`", "administrator", "viewer"):
        assert word in told, word
    tags = {tag["name"] for tag in described.document["tags"] if tag["description"]}
    assert {tag for one in described.operations for tag in one.said["tags"]} == tags


def test_what_is_answered_has_the_keys_that_are_described(described: Described, house: House) -> None:
    """Those and no others: what a program sees, it can look up."""
    wrong, seen = [], 0
    for operation in described.operations:
        if operation.method == "GET" and operation.path not in _ASKS_OTHERS:
            answer = house.writer.ask("GET", house.filled(operation.path) + operation.query)
            assert answer.status == 200, (operation.line, answer.content)
            (content,) = (one for one in operation.contents() if one.whose == "200")
            assert answer.headers.get_content_type() == content.media_type, operation.line
            if content.is_json:
                seen += 1
                wrong += [f"{operation.line}: {said}" for said in described.faults(content.said["schema"], answer.json)]
    assert wrong == []
    assert seen > 25


async def test_accounts_in_trouble_have_the_keys_that_are_described(described: Described, tmp_path: Path) -> None:
    """The house has none."""
    oauth = {"provider": "microsoft", "client_id": "4711"}
    consented = {"host": "smtp.office365.com", "auth": "oauth2", "username": "x@acmejets.example", "oauth": oauth}
    directory = {**TWO_SERVERS, "servers": {**TWO_SERVERS["servers"], "consented": consented}}
    async with parts_in(tmp_path, directory) as parts:
        await parts.queue.put_hold(hold_row("acmejets", "jane@acmejets.example"))
        await parts.queue.put_hold(hold_row("acmejets", "mailer@acmejets.example", "support@acmejets.example"))
        operations = AdminOperations(await with_holds_read(parts))
        names = ("account.list", "account.troubled", "overview")
        told = {name: json.loads(json.dumps(await operations.run(name, {}))) for name in names}
    assert (len(told["account.troubled"]), told["overview"]["troubled"]) == (2, 2)
    assert [one["oauth"]["state"] for one in told["account.list"] if one["oauth"]] == ["missing"]
    for operation in described.operations:
        if operation.said["operationId"] in told:
            (content,) = (one for one in operation.contents() if one.whose == "200")
            assert described.faults(content.said["schema"], told[operation.said["operationId"]]) == [], operation.line


def test_every_list_is_sorted_by_each_key_that_is_named(described: Described, house: House) -> None:
    keys = 0
    for operation in described.operations:
        for parameter in operation.said.get("parameters", ()):
            for key in parameter["schema"].get("enum", ()) if parameter["name"] == "sort" else ():
                keys += 1
                answer = house.writer.ask("GET", f"{operation.path}?sort={key}&descending=true")
                assert answer.status == 200, (operation.line, key, answer.content)
    assert keys > 60


@pytest.fixture(scope="module")
def empty_console(upstream: Recorder) -> Iterator[Console]:
    """A relay whose directory has a server alone, of another name than those of the examples."""
    directory = one_channel(open_server(upstream.port))
    only = {"default_server": "main", "servers": {"main": directory["servers"]["acmejets"]}}
    with console_process(only, {"node": "one"}) as console:
        yield console


def test_the_examples_of_requests_are_taken(empty_console: Console) -> None:
    """Each is sent as it stands, to the entries that the examples of additions make."""
    writer = ApiClient(empty_console.url, empty_console.add_token("writer"))
    described = read_description(writer)
    sent = [one for one in described.operations if one.example is not None and not one.path.endswith(_CONNECTS)]
    assert len(sent) > 25

    def refusals(operations: list[Operation]) -> list[str]:
        answers = [(one, writer.ask(one.method, _addressed(one), one.example)) for one in operations]
        return [f"{one.line}: {said.status} {said.content!r}" for one, said in answers if said.status >= 300]

    additions = [one for one in sent if one.method == "POST" and one.path in _ADDITIONS]
    assert refusals(sorted(additions, key=lambda one: _ADDITIONS.index(one.path))) == []
    # What the examples of these have not, and passwords are set for.
    for path in ("/servers/acmejets", "/agents/jane"):
        assert writer.ask("PATCH", path, {"incoming": {"host": "imap.gmail.com"}}).status == 200
    by_oauth = {"host": "smtp.office365.com", "auth": "oauth2", "username": "mailer@acmejets.example"}
    oauth = {"name": "microsoft", "oauth": {"provider": "microsoft"}}
    assert writer.ask("POST", "/servers", by_oauth | oauth).status == 201
    assert refusals([one for one in sent if one not in additions]) == []
    assert writer.get("/agents/jane")["may_send_as"] == ["support"]
    assert writer.get("/administrators")[0] == {**writer.get("/administrators")[0], "name": "ann", "role": "viewer"}


def _addressed(operation: Operation) -> str:
    """Return the address of a request by its examples; what connects goes to the server that answers here."""
    path = operation.path
    for parameter in operation.said.get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["schema"]["examples"][0])
    return "/servers/main/test" if path == "/servers/acmejets/test" else path


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 413, 421, 422])
def test_a_refusal_is_said_as_the_description_has_it(status: int, house: House, described: Described) -> None:
    before = house.everything
    answer = _refused(status, house)
    assert answer.status == status
    assert answer.headers.get_content_type() == "application/problem+json"
    said = described.parts["responses"][f"Problem{status}"]["content"]["application/problem+json"]
    assert answer.json == said["example"]
    assert house.everything == before


def _refused(status: int, house: House) -> Answer:
    """Ask for what is refused with a status."""
    writer, url = house.writer, house.console.url
    new = {"name": "joe", "address": "joe@acmejets.example", "server": "nowhere"}
    match status:
        case 400:
            return _send(house, b'{"name": "\xff"}')
        case 401:
            return ApiClient(url, "").ask("GET", "/status")
        case 403:
            return house.reader.ask("DELETE", "/agents/jane")
        case 404:
            return writer.ask("GET", "/agents/nobody")
        case 409:
            return writer.ask("DELETE", "/servers/acmejets")
        case 412:
            return writer.ask("PATCH", "/agents/jane", {"group": "sales"}, If_Match='"0"')
        case 413:
            return _send(house, b"", length=17 * 1024 * 1024)
        case 421:
            return writer.ask("GET", "/status", Host="elsewhere.example")
        case _:
            return writer.ask("POST", "/agents", new)


def _send(house: House, body: bytes, *, length: int | None = None) -> Answer:
    """Send a body that is no JSON, or announce one of another length."""
    headers = {"Authorization": f"Bearer {house.writer.token}", "Content-Type": "application/json"}
    headers["Content-Length"] = str(len(body) if length is None else length)
    with closing(http.client.HTTPConnection(urlsplit(house.console.url).netloc, timeout=10)) as connection:
        connection.request("POST", "/api/v1/agents", body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


async def test_who_dawdles_and_who_meets_a_broken_store_are_told_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing() -> Message:
        await asyncio.sleep(60)  # it is given up for
        raise AssertionError

    monkeypatch.setattr(guard, "_BODY_SECONDS", 0.01)
    with pytest.raises(HTTPException) as late:
        await guard._bounded(nothing, 1)()
    assert (late.value.status_code, late.value.detail) == (408, REFUSALS[408].detail)
    broken = json.loads(bytes(refusal(Unavailable("/var/lib/relay/relay.db: it is full")).body))
    assert (broken["status"], broken["detail"]) == (503, REFUSALS[503].detail)
