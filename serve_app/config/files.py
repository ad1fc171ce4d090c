"""Reads and checks configuration files, and reports every fault with its line.

A file holds an AppConfig, or it is a Ray Serve config whose `args:` hold an AppConfig. Nothing is started.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path as FilePath
from typing import Any

import yaml

from serve_app.config.auth import auth_findings, unset_variables
from serve_app.config.devices import device_findings
from serve_app.config.findings import Finding, Path, place_of, validated
from serve_app.config.schema import AppConfig
from serve_app.config.serve_config import is_serve_config, serve_findings
from serve_app.errors import ConfigError

MAX_FILE_BYTES = 1024 * 1024
"""A larger file is not read, because the path probably names something else, such as a checkpoint."""


@dataclass(frozen=True)
class Problem:
    """One fault of a file.

    Attributes:
        line: counted from 1; None if the fault concerns the whole file.
        place: the path of the key, such as "applications[0].args"; empty if the fault concerns the whole file.
        message: what is wrong.
    """

    line: int | None
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message

    def at(self, name: str) -> str:
        """Write the problem as one line that starts with the file's name."""
        return f"{name}:{self.line}: {self}" if self.line else f"{name}: {self}"


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration file without faults.

    Attributes:
        app: the configuration of the application. For a Serve config, these are its `args:` with each deployment's
            `user_config` applied.
        serve: the whole Serve config as read from YAML; None if the file is an AppConfig.
    """

    app: AppConfig
    serve: dict[str, Any] | None


def check_file(path: str | PathLike[str]) -> list[Problem]:
    """List every unknown key, wrong type and impossible number of a configuration file.

    Args:
        path: an AppConfig or a Serve config, in YAML.

    Returns:
        The problems in the order of the file; empty if there are none. A file that cannot be read, or is not YAML, has
        one problem.
    """
    return _examine(path)[1]


def check_environment(path: str | PathLike[str], environment: Mapping[str, str]) -> list[Problem]:
    """List each `auth.token_env` of a configuration file whose environment variable holds no usable token.

    Args:
        path: an AppConfig or a Serve config, in YAML.
        environment: the environment variables of this process.

    Returns:
        The problems in the order of the file; empty for a file that cannot be read, which `check_file` reports.
    """
    try:
        root = _compose(_read(FilePath(path)))
        if not isinstance(root, yaml.MappingNode):
            return []
        findings = unset_variables(_construct(root), environment)
        return [Problem(_line_of(root, each), place_of(each.path), each.message) for each in findings]
    except _Unreadable:
        return []


def load_file(path: str | PathLike[str]) -> LoadedConfig:
    """Read a configuration file.

    Args:
        path: an AppConfig or a Serve config, in YAML.

    Raises:
        ConfigError: the file cannot be read or has problems. Each problem is one line that starts with the file's name
            and the line number.
    """
    loaded, problems = _examine(path)
    if loaded is None:
        raise ConfigError("\n".join(problem.at(fspath(path)) for problem in problems))
    return loaded


def app_config_from(mapping: object) -> AppConfig:
    """Check the `args` of a Serve application.

    Args:
        mapping: the sections of AppConfig by their names; an empty mapping means every default.

    Raises:
        ConfigError: one line for each unknown key (with the nearest known key), wrong type and impossible number.
    """
    config, findings = validated(AppConfig, mapping)
    if config is None:
        problems = [Problem(None, place_of(finding.path), finding.message) for finding in findings]
        raise ConfigError("\n".join(str(problem) for problem in problems))
    return config


def _examine(path: str | PathLike[str]) -> tuple[LoadedConfig | None, list[Problem]]:
    try:
        root = _compose(_read(FilePath(path)))
        if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == "tag:yaml.org,2002:null"):
            return None, [Problem(None, "", "the file is empty")]
        if not isinstance(root, yaml.MappingNode):
            return None, [Problem(_line(root), "", "the file must be a mapping of keys, such as 'models:'")]
        findings = [Finding(at, "the key is given twice", on_key=True) for at in _repeated_keys(root)]
        document = _construct(root)
    except _Unreadable as error:
        return None, [error.problem]
    except RecursionError:
        return None, [Problem(None, "", "nests too deeply for a configuration")]
    is_serve = is_serve_config(document)
    config, found = serve_findings(document) if is_serve else validated(AppConfig, document)
    findings += found
    if not is_serve:
        findings += [finding.under(("auth",)) for finding in auth_findings(document.get("auth"))]
        findings += device_findings(config, {}) if config is not None else ()
    problems = [Problem(_line_of(root, item), place_of(item.path), item.message) for item in findings]
    if config is None or problems:
        return None, sorted(dict.fromkeys(problems), key=lambda problem: problem.line or 0)
    return LoadedConfig(config, document if is_serve else None), []


class _Unreadable(Exception):
    """The file cannot be read as YAML; holds the one problem to report."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


def _read(path: FilePath) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except IsADirectoryError:
        raise _Unreadable(Problem(None, "", "is a folder, not a file")) from None
    except FileNotFoundError:
        raise _Unreadable(Problem(None, "", "no such file")) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _Unreadable(Problem(None, "", f"cannot be read: {reason}")) from None
    if len(data) > MAX_FILE_BYTES:
        raise _Unreadable(Problem(None, "", f"is over {MAX_FILE_BYTES} bytes, too large for a configuration"))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _Unreadable(Problem(line, "", "is not UTF-8 text")) from None


def _compose(text: str) -> yaml.Node | None:
    try:
        root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = error.problem or error.context or "cannot be understood"
        raise _Unreadable(Problem(mark.line + 1 if mark else None, "", f"is not valid YAML: {reason}")) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        reason = "it holds control characters"
        raise _Unreadable(Problem(line, "", f"is not valid YAML: {reason}")) from None
    except (ValueError, OverflowError) as error:  # such as the escape "\UFFFFFFFF"
        raise _Unreadable(Problem(None, "", f"is not valid YAML: {error}")) from None
    return root


def _construct(root: yaml.Node) -> dict[str, Any]:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(root)  # type: ignore[no-any-return]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _Unreadable(Problem(mark.line + 1 if mark else None, "", f"is not valid YAML: {error.problem}")) from None
    except ValueError as error:  # such as the date 2024-99-99
        raise _Unreadable(Problem(None, "", f"is not valid YAML: {error}")) from None
    finally:
        loader.dispose()


def _repeated_keys(node: yaml.Node, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every key that a mapping has twice, because PyYAML keeps the last one without a warning."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen and isinstance(key, yaml.ScalarNode) and name != "<<":
                yield (*path, name)
            seen.add(name)
            yield from _repeated_keys(value, (*path, name))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _repeated_keys(item, (*path, index))


def _line_of(root: yaml.Node, finding: Finding) -> int:
    """Return the line of the key if the key is wrong or its value is a collection, otherwise the line of the value."""
    node, line = root, _line(root)
    for part in finding.path:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = _line(node)
        elif isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == str(part) or _scalar(key) == part]
            if not pairs:
                break
            key, node = pairs[-1]
            line = _line(key) if finding.on_key or isinstance(node, yaml.CollectionNode) else _line(node)
        else:
            break
    return line


def _scalar(node: yaml.Node) -> object:
    return yaml.SafeLoader("").construct_object(node) if isinstance(node, yaml.ScalarNode) else None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
