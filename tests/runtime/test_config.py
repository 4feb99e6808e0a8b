# SPDX-License-Identifier: Apache-2.0
"""Settings: what is wrong is named with field, value and rule, and a password is never shown."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from seawall.core.errors import ConfigurationError
from seawall.runtime.config import Settings, load_settings
from seawall.runtime.database_url import DatabaseUrl

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEAWALL_DATA_DIR", str(tmp_path))
    return tmp_path


def refused(**options: object) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(options=options)
    return caught.value


def everything(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


def test_options_win_over_variables_and_those_over_the_file(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "seawall.yaml").write_text("port: 1\nworkers: 2\nmovers: 3\n")
    monkeypatch.setenv("SEAWALL_PORT", "4")
    monkeypatch.setenv("SEAWALL_WORKERS", "5")
    found = load_settings(options={"port": 6, "movers": None})

    assert (found.port, found.workers, found.movers) == (6, 5, 3)
    assert found.data_dir == data
    assert found.database == data / "seawall.db"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot: 1", "prot: '...' is not a setting; known are data_dir"),
        ("port: 70000", "port: 70000 must be less than or equal to 65535 (from "),
        ("log_level: loud", "log_level: 'loud' must"),
        ("heartbeat_s: 20", "heartbeat_s: 20 must be at most half of lease_s"),
        ("operation_folders: [here]", "must be absolute paths, 'here' is not"),
        ("- 1", "must hold `name: value` lines"),
        ("port: [", "must be valid YAML"),
        ("database_url: mysql://one", "database_url: '(hidden)' must begin with postgresql://"),
        ("database_url: postgresql://one", "must end in the name of a database"),
        ("database_url: 'postgresql://[one/x'", "must be an address like postgresql://"),
        ("management_url: ftp://one", "management_url: '(hidden)' must be an address like http://user:"),
        ("management_url: 'http://[one'", "management_url: '(hidden)' must be an address like http://user:"),
        ("management_url: http://one:0/", "management_url: '(hidden)' must be an address like http://user:"),
        ("database_password_file: /nonexistent", "cannot be read: No such file or directory (from "),
    ],
)
def test_a_wrong_line_is_named_with_its_value_and_rule(data: Path, text: str, said: str) -> None:
    (data / "seawall.yaml").write_text(text + "\n")
    error = refused()

    assert said in str(error)
    assert error.exit_code == 2


def test_every_wrong_setting_is_named_at_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "seawall.yaml").write_text("movers: 0\n")
    monkeypatch.setenv("SEAWALL_WORKERS", "many")
    error = refused(port=-1)

    assert {one.field: one.rule.rpartition("(")[2] for one in error.fields} == {
        "movers": f"from {data / 'seawall.yaml'})",
        "workers": "from SEAWALL_WORKERS)",
        "port": "from an option)",
    }


def test_a_misspelt_variable_is_refused_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAWALL_DATABASE_PASSWORT_FILE", SECRET)
    error = refused()

    assert "DATABASE_PASSWORT_FILE" in str(error)
    assert SECRET not in everything(error)


def test_a_chosen_file_must_be_there(data: Path) -> None:
    with pytest.raises(ConfigurationError, match="must be a file that exists"):
        load_settings(config=data / "other.yaml")


@pytest.mark.parametrize(
    "lines",
    [
        f"database_url: postgresql://one:{SECRET}@host",
        f"database_url: mysql://one:{SECRET}@host/name",
        f"database_url: postgresql://host/name?password={SECRET}",
        f"database_url: [postgresql, '{SECRET}']",
        f"database_passwort: {SECRET}",
    ],
)
def test_a_password_that_is_refused_is_not_shown(data: Path, lines: str) -> None:
    (data / "seawall.yaml").write_text(lines + "\n")
    assert SECRET not in everything(refused())


def test_a_password_is_shown_by_nothing_that_holds_it() -> None:
    found = load_settings(
        options={"database_url": f"postgresql://one:{SECRET}%40x@host:1/name?sslmode=require"}
    )
    url = found.database

    assert isinstance(url, DatabaseUrl)
    assert url.address == str(url) == "postgresql://one@host:1/name?sslmode=require"
    assert url.password() == f"{SECRET}@x"
    assert SECRET not in repr(found) + str(found) + repr(url) + found.model_dump_json()


def test_a_password_file_is_read_anew_each_time(data: Path) -> None:
    file = data / "password"
    file.write_text("first\n")
    options = {"database_url": "postgresql://one@host/name", "database_password_file": str(file)}
    url = load_settings(options=options).database
    assert isinstance(url, DatabaseUrl)
    assert url.password() == "first"
    file.write_text("second")
    assert url.password() == "second"

    file.write_text("two\nlines\n")
    with pytest.raises(ConfigurationError, match="one line"):
        url.password()
    assert "one line" in str(refused(**options))


def test_two_passwords_are_refused(data: Path) -> None:
    (data / "password").write_text("first\n")
    url = f"postgresql://one:{SECRET}@host/name"
    error = refused(database_url=url, database_password_file=data / "password")

    assert "must hold no password when there is a database_password_file" in str(error)
    assert SECRET not in everything(error)


def test_without_a_password_the_library_looks_for_its_own() -> None:
    assert DatabaseUrl.parse("postgresql:///name").password() is None


def test_folders_in_the_environment_are_separated_by_colons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAWALL_OPERATION_FOLDERS", "/one:/two")
    found = load_settings()
    assert found.all_operation_folders == [found.folder.operations, Path("/one"), Path("/two")]


def test_settings_do_not_change() -> None:
    settings: Settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1
