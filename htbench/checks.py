"""Conformance checks for methods: for pytest, and for ``htbench method check``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType

from benchmark.check_subject import Locked, Subject
from benchmark.checks import Check, checks_of
from benchmark.errors import UsageError
from benchmark.in_process import Loaded, load
from benchmark.method import Method
from benchmark.methods.describe import setting_text
from benchmark.methods.find import entry_point_sources, file_source
from leaderboard.gamma_star import DERIVED


def method_checks(
    method: type[Method] | Method, *, plugins: Sequence[str | Path] = ()
) -> list[Check]:
    """The conformance checks of a method, to be called one by one or by pytest.

    Calling a check does nothing if the method passes, raises an ``AssertionError`` that says what
    was seen and what to do if it does not, and raises ``unittest.SkipTest``, which pytest shows as
    skipped, if the check does not apply. All together take a minute or two on a CPU.

    Call it in a file other than the method's: a run imports the method's file, and may import
    neither the checks nor the files of other methods.

    Args:
        method: the class, or an instance to check with settings other than the defaults.
        plugins: files of methods that it starts from, unless these are installed.

    Returns:
        The checks in order; pytest uses their names as ids.

    Raises:
        HTBenchError: it is not a method, or a method that it starts from does not exist.

    Example:
        >>> from baselines.finetune import Finetune
        >>> from htbench import method_checks
        >>> checks = method_checks(Finetune)  # for @pytest.mark.parametrize("check", checks)
        >>> checks[2].name, checks[2].purpose
        ('same-seed', 'the same seed gives the same bytes')
        >>> checks[2]()
    """
    if isinstance(method, type) and issubclass(method, Method):
        method = method()
    if not isinstance(method, Method):
        raise UsageError(
            f"{method!r} is not a method: give a class that derives from htbench.Method, or an "
            "instance of one; `htbench method check` takes names and files"
        )
    files = [str(plugin) for plugin in plugins]
    bases = [entry.method for entry in load([method.base], files)] if method.base else []

    def locked() -> Locked:
        names, own = _located(type(method))
        loaded = load(names, [*own, *files], derived=DERIVED)
        return Locked([entry.description for entry in loaded], _settings(method))

    return list(checks_of(Subject([*bases, method], locked)))


def checks_of_argument(
    method: str, plugins: Sequence[str], settings: Mapping[str, str] = MappingProxyType({})
) -> list[Check]:
    """The checks of a method by its name or file.

    Raises:
        MethodError: it does not exist or is not valid.
    """
    chain = load_argument(method, plugins, settings)
    locked = Locked([entry.description for entry in chain], settings)
    return list(checks_of(Subject([entry.method for entry in chain], lambda: locked)))


def load_argument(
    method: str, plugins: Sequence[str], settings: Mapping[str, str] = MappingProxyType({})
) -> list[Loaded]:
    """Import a method by its name or file into this process, after those that it starts from.

    Args:
        method: name of an installed method, or ``FILE.py[:CLASS]``.
        plugins: further files, with methods that it may start from.
        settings: hyper-parameters as text.

    Raises:
        MethodError: it does not exist or is not valid.
    """
    is_file = is_plugin(method)
    # The class counts, too: the file may define the base of its method.
    own = file_source(method, option="") if is_file else None
    loaded = load(
        [] if is_file else [method], [*([method] if is_file else []), *plugins], settings, DERIVED
    )
    by_name = {entry.description.name: entry for entry in loaded}
    wanted = method
    if own is not None:
        (wanted,) = (entry.description.name for entry in loaded if entry.description.source == own)
    chain = [by_name[wanted]]
    while (base := chain[0].description.base) is not None:
        chain.insert(0, by_name[base])
    return chain


def is_plugin(argument: str) -> bool:
    """Whether an argument means a file, with or without a class, and not a name."""
    return argument.partition(":")[0].endswith(".py") or "/" in argument


def _located(method: type[Method]) -> tuple[list[str], list[str]]:
    """The installed name of a class, or else its file as ``--plugin`` takes it; one is empty."""
    for name, source in entry_point_sources().items():
        if (source.module, source.attribute) == (method.__module__, method.__qualname__):
            return [name], []
    try:
        file = inspect.getsourcefile(method)
    except (TypeError, OSError):  # defined in a notebook
        file = None
    if file is None or not Path(file).is_file() or "<locals>" in method.__qualname__:
        raise UsageError(
            f"a run imports {method.__name__} from its file: define it there, outside of functions"
        )
    return [], [f"{file}:{method.__qualname__}"]


def _settings(method: Method) -> dict[str, str]:
    """The hyper-parameters of a method as ``--set`` takes them."""
    values = {field.name: getattr(method, field.name) for field in fields(method) if field.init}
    return {name: setting_text(value) for name, value in values.items()}
