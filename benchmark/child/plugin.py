"""Import a method, describe it, and check that its code is what the run's key covers."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from torch import nn

from benchmark.child.job import ContractError, Worker
from benchmark.files import digest_file
from benchmark.folders import harness_packages, installed_folders
from benchmark.jobs import ConfigureJob, DescribeJob, MethodCode
from benchmark.method import Method
from benchmark.networks.build import Classifier
from benchmark.text import near


def describe(worker: Worker, job: DescribeJob) -> dict[str, Any]:
    """Import a method and describe it: its name, base and fields, and the files that it declares.

    Raises:
        ContractError: it is not a valid method.
    """
    worker.enter_sandbox(job.method)
    return declarations(load_method(job.method))


def declarations(method: type[Method]) -> dict[str, Any]:
    """What a class declares, in a form that JSON can hold.

    Raises:
        ContractError: it is not a valid method.
    """
    _check_class(method)
    if not hasattr(method, "name"):
        raise ContractError(
            f"{method.__name__} does not set its name; add a class attribute such as "
            'name = "my-method"'
        )
    _check_attributes(method)
    return {
        "name": method.name,
        "summary": (inspect.getdoc(method) or "").partition("\n\n")[0].replace("\n", " "),
        "base": method.base,
        "is_base": _may_be_base(method),
        "track": method.track,
        "uses_features": method.uses_features,
        "needs": list(method.needs),
        "fields": [
            {
                "name": f.name,
                "type": f.type if isinstance(f.type, str) else getattr(f.type, "__name__", "?"),
                "default": _json_default(f.default),
            }
            for f in dataclasses.fields(method)
            if f.init  # others are set by the method itself
        ],
        "files": list(method.files),
        "search": _search(method),
        "refusal": _refusal(method),
    }


def _refusal(method: type[Method]) -> str | None:
    """Why ``__post_init__`` rejects the method's own defaults, such as a field that must be set."""
    try:
        method()
    except Exception as error:  # whatever the author's code raises; fields are checked elsewhere
        return str(error) or type(error).__name__
    return None


def _may_be_base(method: type[Method]) -> bool:
    """Whether methods can start from its adapted model, as far as ``adapt``'s annotation tells."""
    adapt: Any = inspect.unwrap(method.adapt)
    returns = _annotations(adapt).get("return")
    if isinstance(returns, str):  # looked up rather than evaluated; an unknown name tells nothing
        returns = adapt.__globals__.get(returns)
    if not (isinstance(returns, type) and issubclass(returns, nn.Module)):
        return True
    return issubclass(returns, Classifier) or issubclass(Classifier, returns)


def _search(method: type[Method]) -> dict[str, list[bool | int | float | str | None]] | None:
    """The search space in a form that JSON can hold; the driver checks the values.

    Raises:
        ContractError: it is not a mapping from names to lists, or a text takes the place of a list.
    """
    search: Any = method.search
    if search is None:
        return None
    try:
        if texts := [name for name in search if isinstance(search[name], str)]:
            raise ContractError(
                f"{method.__name__}.search has the text {search[texts[0]]!r:.100} for "
                f"{texts[0]}; write a tuple of the values to try: ({search[texts[0]]!r:.100},)"
            )
        return {str(name): [_json_default(value) for value in search[name]] for name in search}
    except TypeError:
        raise ContractError(
            f"{method.__name__}.search is {search!r:.100}; write a dictionary from names of fields "
            'to the values to try, such as {"alpha": (0.1, 1.0)}'
        ) from None


def configure(worker: Worker, job: ConfigureJob) -> dict[str, Any]:
    """Create the method with its settings, which ``__post_init__`` may reject."""
    worker.enter_sandbox(job.method)
    load_method(job.method)(**job.config)
    return {}


def _json_default(default: Any) -> bool | int | float | str | None:
    """A default that JSON can hold; None for any other, which the driver then rejects."""
    if type(default) is float:
        return default if math.isfinite(default) else None
    if type(default) is int:  # one of thousands of digits has no JSON
        return default if -(2**63) <= default < 2**63 else None
    return default if type(default) in (bool, str) else None


def _check_class(method: type[Method]) -> None:
    """Check what Python would accept in silence, or refuse only in the middle of a run.

    Raises:
        ContractError: hyper-parameters are not fields, or ``adapt`` takes other arguments.
    """
    own = [n for n, t in _annotations(method).items() if "ClassVar" not in str(t)]
    fields = (field.name for field in dataclasses.fields(method))
    if declared := [name for name in (*own, *fields) if name in _annotations(Method)]:
        raise ContractError(
            f"{method.__name__}.{declared[0]} has an annotation, so it is a hyper-parameter; write "
            f"{declared[0]} = ... without one"
        )
    if own and "__dataclass_fields__" not in vars(method):
        raise ContractError(
            f"{method.__name__} has hyper-parameters ({', '.join(own)}) but is not a dataclass; "
            "decorate it with @dataclass(frozen=True)"
        )
    bare = [
        name
        for name, value in vars(method).items()
        if type(value) in (bool, int, float, str)
        and name.islower()
        and name[0] != "_"
        and name not in _annotations(method)
        and not hasattr(Method, name)
        and name not in ("name", "base", "track")
    ]
    if bare:
        kind = type(vars(method)[bare[0]]).__name__
        raise ContractError(
            f"{method.__name__}.{bare[0]} has no annotation, so it is not a hyper-parameter; write "
            f"{bare[0]}: {kind} = ..., or {bare[0].upper()} = ... for a constant"
        )
    try:
        _signature(method.adapt).bind(*range(4))
    except TypeError:
        raise ContractError(
            f"{method.__name__}.adapt takes {_signature(method.adapt)}; write "
            "adapt(self, source, target, run)"
        ) from None


def _check_attributes(method: type[Method]) -> None:
    """Check the types of what a class declares beside its fields; the driver checks the values.

    Raises:
        ContractError: one has another type.
    """

    def refuse(name: str, remedy: str) -> NoReturn:
        value = f"{getattr(method, name)!r:.100}"
        raise ContractError(f"{method.__name__}.{name} is {value}; {remedy}")

    base: Any = method.base
    if isinstance(base, type) and isinstance(name := getattr(base, "name", None), str):
        refuse("base", f"write its name: base = {name!r}")
    for name, kinds, kind in (
        ("name", str, "a string"),
        ("base", str | None, "the name of a method"),
        ("track", str, "'standard'"),
        ("uses_features", bool, "True or False"),
    ):
        if not isinstance(getattr(method, name), kinds):
            refuse(name, f"it must be {kind}")
    for name, example in (("files", "prompts.json"), ("needs", "a BatchNorm layer")):
        values = getattr(method, name)
        if isinstance(values, str):
            refuse(name, f"write a tuple: {name} = ({values!r},)")
        if not (isinstance(values, tuple | list) and all(isinstance(v, str) for v in values)):
            refuse(name, f'write a tuple of strings, such as {name} = ("{example}",)')


# Python 3.14 evaluates annotations when they are asked for. They may name what only a type checker
# imports, which is then an error unless it may stay a name.
_FORMAT: Any = None
if sys.version_info >= (3, 14):
    from annotationlib import Format

    _FORMAT = Format.FORWARDREF


def _annotations(item: Any) -> Mapping[str, Any]:
    """The annotations of a class or a function by name."""
    options = {} if _FORMAT is None else {"format": _FORMAT}
    return inspect.get_annotations(item, **options)


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function."""
    options = {} if _FORMAT is None else {"annotation_format": _FORMAT}
    return inspect.signature(function, **options)


def load_method(code: MethodCode) -> type[Method]:
    """Import a method's class from its module or file.

    Raises:
        ContractError: there is no such class, or it is not a method.
    """
    module = _import(code.module)
    method: Any = module
    if code.attribute is None:
        method = _only_method(module)
    else:
        for part in code.attribute.split("."):
            if not hasattr(method, part):
                raise ContractError(_no_class(module, code.attribute))
            method = getattr(method, part)
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise ContractError(f"{code.attribute} is not a subclass of htbench.Method")
    if inspect.isabstract(method):
        raise ContractError(f"{method.__name__} does not define adapt(self, source, target, run)")
    return method


def _import(module: str) -> ModuleType:
    """Import a module.

    Raises:
        ContractError: a dataclass in it is not frozen, or it or a file that it imports is not text;
            Python's message does not say how to fix it, or that it is about a file.
    """
    try:
        return importlib.import_module(module)
    except SyntaxError as error:
        if error.filename is not None:
            raise
        raise ContractError(
            f"it, or a file that it imports, is not Python code ({error})"
        ) from None
    except TypeError as error:
        if "non-frozen dataclass" not in str(error):
            raise
        raise ContractError(
            "a method is a frozen dataclass; decorate it with @dataclass(frozen=True)"
        ) from error


def _no_class(module: ModuleType, name: str) -> str:
    """What to say about a class that a module does not have."""
    known = [item.__name__ for item in _methods_in(module)]
    by_case = {known_name.lower(): known_name for known_name in known}
    hint = near(by_case.get(name.lower(), name), known)
    return f"there is no class {name}; {hint}it has: {', '.join(known) or 'no method'}"


def _methods_in(module: ModuleType) -> list[type[Method]]:
    """The methods that a module defines."""
    return [
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Method)
        and item.__module__ == module.__name__
    ]


def _only_method(module: ModuleType) -> type[Method]:
    own = _methods_in(module)
    concrete = [item for item in own if not inspect.isabstract(item)]
    if not own:
        raise ContractError("the file does not define a method; add a subclass of htbench.Method")
    if len(concrete) > 1:
        names = ", ".join(item.__name__ for item in concrete)
        raise ContractError(
            f"the file defines {len(concrete)} methods ({names}); choose one by FILE.py:Class"
        )
    return (concrete or own)[0]


def _own_files(modules: set[str]) -> set[Path]:
    """The files behind some modules, without those of installed packages and of the harness."""
    closed = (*harness_packages(), *installed_folders())
    origins = (getattr(sys.modules.get(name), "__file__", None) for name in modules)
    paths = {Path(origin).resolve() for origin in origins if origin}
    return {path for path in paths if not any(map(path.is_relative_to, closed))}


def check_code(modules: set[str], code: Sequence[tuple[str, str]], scratch: Path) -> None:
    """Check that the imported files are those in the run's key.

    The driver compares all of the method's files once the run has ended, whatever the child says.
    This check ends a run early, and finds imports that only a sandbox would refuse.

    Args:
        modules: names of the imported modules.
        code: (name, SHA-256) of each file in the run's key.
        scratch: files in here are created by the method itself, and allowed.

    Raises:
        ContractError: a file is not part of the key.
    """
    digests = {digest for _, digest in code}
    for path in sorted(_own_files(modules)):
        if path.is_relative_to(scratch) or not path.is_file():
            continue
        if digest_file(path) not in digests:
            raise ContractError(
                f"{path.name} is not among the files recorded in the run's key. Either it was "
                "edited after the command started (run the command again), or it was found at run "
                "time (import it with an import statement, so that the key covers it)"
            )
