"""Ask a child about a method: its description, and whether it accepts its settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import MethodError
from benchmark.isolation.conversation import reason_of, request
from benchmark.jobs import ConfigureJob, DescribeJob, Value, new_scratch
from benchmark.methods.places import place_in

if TYPE_CHECKING:
    from benchmark.isolation.client import ForkServer
    from benchmark.jobs import MethodCode
    from benchmark.methods.describe import MethodDescription
    from benchmark.methods.find import MethodLocation


def describe(server: ForkServer, location: MethodLocation, code: MethodCode, folder: Path) -> Any:
    """Have a child describe a method.

    Args:
        server: forks the child.
        location: where the method is.
        code: what the child may import and read.
        folder: an empty folder for the child's output.

    Returns:
        The description as JSON, unchecked.

    Raises:
        MethodError: its code cannot be imported, or it breaks the contract.
    """
    reply = request(server, DescribeJob(new_scratch(folder), code), folder)
    if "done" in reply:
        return reply["done"]
    name = f"method {location.name!r} of {location.origin}" if location.name else location.origin
    failed = reply["failed"]
    message = failed["message"].removeprefix("ContractError: ")
    place = location.file and place_in(failed.get("traceback", ""), [location.file])
    raise MethodError(f"cannot load {name}: {message}" + (f" ({place})" if place else ""))


def check_settings(
    server: ForkServer, method: MethodDescription, config: Mapping[str, Value], folder: Path
) -> None:
    """Have a child create a method with its settings.

    Raises:
        MethodError: the method rejects them, with its own message.
    """
    job = ConfigureJob(new_scratch(folder), method.own.message, dict(config))
    reply = request(server, job, folder)
    if "failed" in reply:
        raise MethodError(f"{method.label(config)}: {reason_of(reply['failed'])}")
