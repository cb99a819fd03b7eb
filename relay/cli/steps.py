"""A test of a server or profile as people watch it: one line as each step is done."""

from typing import TYPE_CHECKING, Any

from relay.cli.output import print_json, words
from relay.control.json_values import from_json
from relay.control.tests.results import StepRecord
from relay.system.terminal import Progress, painted

if TYPE_CHECKING:
    from relay.cli.session import Session


def show_test(session: "Session", operation: str, *, as_json: bool, **params: Any) -> bool:
    """Run a test, show its steps, and return whether all of them went well."""
    answers: list[Any] = []
    steps: list[StepRecord] = []

    def tell(answer: Any) -> None:
        answers.append(answer)
        step = from_json(StepRecord, answer)
        steps.append(step)
        progress.tell(f"{step.step} is done, waiting for what comes next")
        if not as_json:
            detail = session.told(words(step.detail))
            how = painted("ok    ", "green") if step.ok else painted("FAILED", "red")
            progress.print(f"{how}  {step.step:<7}  {detail}".rstrip())

    with Progress("waiting for the first step") as progress:
        session.stream(operation, tell, **params)
    is_good = bool(steps) and all(step.ok for step in steps)
    if as_json:
        print_json({"ok": is_good, "steps": answers})
    return is_good
