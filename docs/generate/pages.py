"""All pages that are made from the code, and where they are kept."""

from collections.abc import Iterable
from pathlib import Path

from docs.generate.blocks import Block, Heading, Terms, Text
from docs.generate.commands import command_page
from docs.generate.keys import directory_page, settings_page
from docs.generate.markdown import from_markdown, to_markdown
from docs.generate.providers import provider_page
from docs.generate.replies import answer_page, reply_page
from docs.generate.roff import Manual, to_roff
from relay import __version__

DOCS = Path(__file__).parents[2] / "docs"
_NOTICE = 'Made by "make docs" from the code; change it there.'
_DATE = "2026-11-25"

_FILES = Terms(
    ("file", "what it is"),
    [
        ("/etc/relay/relay.toml", "The settings, relay.toml(5)."),
        ("/var/lib/relay/directory.toml", "Who may send and how, relay-directory.toml(5)."),
        ("/var/lib/relay/relay.db", "Queue, history and, encrypted, the passwords."),
        ("/var/lib/relay/master.key", "The key that the passwords are encrypted with."),
        ("/run/relay/control.sock", "Where commands speak to a running relay; /run/relay/submit.sock takes mail."),
    ],
)
_COMMAND_ENVIRONMENT = Terms(
    ("variable", "meaning"),
    [
        ("RELAY_CONFIG", "The settings file, where no --config is given."),
        ("RELAY_SUBMIT", "Where relay sendmail hands over, and only there."),
        ("NO_COLOR", "Where it is set, no colours are used."),
    ],
)


def pages() -> dict[Path, str]:
    """Return every page by its file."""
    reference = {
        "settings": settings_page(),
        "directory": directory_page(),
        "commands": command_page(),
        "replies": reply_page(),
        "answers": answer_page(),
        "providers": provider_page(),
    }
    made = {DOCS / f"reference/{name}.md": to_markdown(list(blocks), _NOTICE) for name, blocks in reference.items()}
    return made | {DOCS / f"man/{name}": text for name, text in manuals().items()}


def manuals() -> dict[str, str]:
    """Return every manual page by the name of its file."""
    sendmail = from_markdown((DOCS / "sendmail.md").read_text())
    return {
        "relay.1": _manual(
            "relay",
            1,
            "the SMTP service that lets every channel and agent send as itself",
            _with_synopsis("`relay` [`--config FILE`] COMMAND [ARGUMENTS]", command_page()),
            "relay.toml(5), relay-directory.toml(5), relay-sendmail(8)",
            [Heading(2, "Environment"), _COMMAND_ENVIRONMENT, Heading(2, "Files"), _FILES],
        ),
        "relay.toml.5": _manual(
            "relay.toml", 5, "the settings of relay", _described(settings_page()), "relay(1), relay-directory.toml(5)"
        ),
        "relay-directory.toml.5": _manual(
            "relay-directory.toml",
            5,
            "who may send through relay, and how",
            _described(directory_page()),
            "relay(1), relay.toml(5)",
        ),
        "relay-sendmail.8": _manual(
            "relay-sendmail",
            8,
            "hand a message to relay, as sendmail does",
            _with_synopsis("`relay-sendmail` [OPTIONS] [`--`] [RECIPIENT]...", sendmail),
            "relay(1)",
        ),
    }


def _manual(name: str, section: int, summary: str, blocks: list[Block], see: str, more: Iterable[Block] = ()) -> str:
    end = [*more, Heading(2, "See also"), Text(see)]
    return to_roff(Manual(name, section, summary, __version__, _DATE), [*blocks, *end])


def _with_synopsis(usage: str, page: Iterable[Block]) -> list[Block]:
    return [Heading(2, "Synopsis"), Text(usage), *_described(page)]


def _described(page: Iterable[Block]) -> list[Block]:
    return [Heading(2, "Description"), *(block for block in page if block != Heading(1, getattr(block, "text", "")))]
