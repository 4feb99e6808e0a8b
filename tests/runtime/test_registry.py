# SPDX-License-Identifier: Apache-2.0
"""Plugins are found, checked and isolated (M11)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar, Protocol

import pytest

from seawall.core.errors import PluginError
from seawall.runtime.registry import PluginKind, Plugins, load_plugins


class Greeter(Protocol):
    """A kind of plugin for these tests."""

    word: ClassVar[str]

    def greet(self) -> str: ...


class Installed:
    word: ClassVar[str] = "installed"

    def greet(self) -> str:
        return "from a package"


class AlsoInstalled(Installed):
    """The same word from another package."""


KIND: PluginKind[Greeter] = PluginKind(
    "test.greeters",
    "word",
    Greeter,  # type: ignore[type-abstract]  # a protocol is what a kind is made of
)
GOOD = """
class Hello:
    word = "{word}"
    def greet(self):
        return "{answer}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "plugins"
    made.mkdir(mode=0o700)
    return made


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


def load(*folders: Path, installed: Sequence[EntryPoint] = ()) -> Plugins[Greeter]:
    return load_plugins(KIND, folders=folders, installed=lambda group: installed)


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, f"{__name__}:{value}" if ":" not in value else value, KIND.group)


def faults(plugins: Plugins[Greeter]) -> str:
    return "\n".join(map(str, plugins.faults))


def test_a_file_in_a_folder_is_found_and_used_by_its_name(folder: Path) -> None:
    path = put(folder, "hello.py", GOOD.format(word="hello", answer="hi"))
    put(folder, "_private.py", "raise RuntimeError")
    put(folder, "notes.txt", "nothing")
    plugins = load(folder)

    assert plugins.names() == ("hello",)
    assert plugins.get("hello")().greet() == "hi"
    assert plugins.source("hello") == str(path)
    assert dict(plugins.items()) == {"hello": plugins.get("hello")}
    assert plugins.faults == ()


def test_a_file_that_is_put_in_later_is_found_when_it_is_asked_for(folder: Path) -> None:
    plugins = load(folder)
    with pytest.raises(PluginError, match="there is no 'hello'; known: none"):
        plugins.get("hello")
    put(folder, "hello.py", GOOD.format(word="hello", answer="hi"))

    assert plugins.get("hello")().greet() == "hi"


def test_a_changed_file_is_read_anew_and_what_runs_goes_on(folder: Path) -> None:
    path = put(folder, "hello.py", GOOD.format(word="hello", answer="old"))
    plugins = load(folder)
    old = plugins.get("hello")()
    plugins.refresh()
    assert plugins.get("hello") is type(old)
    path.write_text(GOOD.format(word="hello", answer="new"))
    plugins.refresh()

    assert plugins.get("hello")().greet() == "new"
    assert old.greet() == "old"
    path.unlink()
    plugins.refresh()
    assert plugins.names() == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("class {", "SyntaxError"),
        ("raise SystemExit(1)", "SystemExit"),
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("x = 1", "has no class with word"),
        ("class Hello:\n    word = 'hello'", "lacks greet"),
        ("class Hello:\n    word = 'Not A Word'\n    def greet(self): ...", "must be a word like"),
        (
            "import abc\nclass Hello(abc.ABC):\n    word = 'hello'\n"
            "    @abc.abstractmethod\n    def greet(self): ...",
            "is abstract",
        ),
    ],
)
def test_a_broken_plugin_is_named_and_the_others_work(folder: Path, text: str, reason: str) -> None:
    path = put(folder, "a_broken.py", text)
    put(folder, "b_good.py", GOOD.format(word="good", answer="hi"))
    plugins = load(folder)

    assert plugins.names() == ("good",)
    assert str(path) in faults(plugins)
    assert reason in faults(plugins)
    with pytest.raises(PluginError, match=r"known: good; not usable: .*a_broken\.py"):
        plugins.get("hello")


def test_a_mended_plugin_works_without_a_restart(folder: Path) -> None:
    path = put(folder, "hello.py", "raise RuntimeError('broken')")
    plugins = load(folder)
    assert "broken" in faults(plugins)
    path.write_text(GOOD.format(word="hello", answer="hi"))

    assert plugins.get("hello")().greet() == "hi"
    assert plugins.faults == ()


def test_a_second_plugin_of_a_name_is_refused_and_the_first_stays(folder: Path) -> None:
    first = put(folder, "a.py", GOOD.format(word="hello", answer="first"))
    second = put(folder, "b.py", GOOD.format(word="hello", answer="second"))
    plugins = load(folder)

    assert plugins.get("hello")().greet() == "first"
    assert f"{second}: refused: 'hello' exists already, from {first}" in faults(plugins)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_can_write_is_refused(folder: Path, mode: int) -> None:
    put(folder, "hello.py", GOOD.format(word="hello", answer="hi"))
    folder.chmod(mode)
    plugins = load(folder)

    assert plugins.names() == ()
    assert f"{folder}: refused: the folder can be written by its group or others" in faults(plugins)
    folder.chmod(0o755)
    assert plugins.get("hello")().greet() == "hi"


def test_a_folder_below_one_that_others_can_write_is_refused(tmp_path: Path) -> None:
    above = tmp_path / "above"
    folder = above / "plugins"
    folder.mkdir(parents=True, mode=0o700)
    put(folder, "hello.py", GOOD.format(word="hello", answer="hi"))
    above.chmod(0o777)

    assert "the folder above" in faults(load(folder))
    above.chmod(0o1777)  # like /tmp: others cannot exchange what is ours
    assert load(folder).names() == ("hello",)


def test_a_file_that_others_can_write_or_that_is_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    put(folder, "open.py", GOOD.format(word="open", answer="hi")).chmod(0o666)
    target = put(tmp_path, "target.py", GOOD.format(word="linked", answer="hi"))
    (folder / "linked.py").symlink_to(target)
    os.mkfifo(folder / "pipe.py", 0o600)
    plugins = load(folder)

    assert plugins.names() == ()
    assert "open.py: refused: the file can be written" in faults(plugins)
    assert "linked.py: refused: it is a symbolic link" in faults(plugins)
    assert "pipe.py: refused: it is not a regular file" in faults(plugins)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(folder: Path) -> None:
    path = put(folder, "hello.py", GOOD.format(word="hello", answer="hi"))
    os.chown(path, 12345, 12345)
    assert "belongs to user 12345" in faults(load(folder))


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    plugins = load(tmp_path / "none")
    assert (plugins.names(), plugins.faults) == ((), ())


def test_an_installed_package_brings_plugins(folder: Path) -> None:
    path = put(folder, "late.py", GOOD.format(word="installed", answer="late"))
    plugins = load(
        folder,
        installed=[
            point("b", "AlsoInstalled"),
            point("a", "Installed"),
            point("c", "Installed"),
            point("d", "nothing:Here"),
            point("e", "put"),
        ],
    )

    assert plugins.get("installed") is Installed
    assert plugins.source("installed").startswith("entry point a = ")
    assert [one.source.split(" = ")[0] for one in plugins.faults] == [
        "entry point b",
        "entry point d",
        "entry point e",
        str(path),
    ]
    assert "ModuleNotFoundError" in faults(plugins)
    assert "put: is not a class" in faults(plugins)
