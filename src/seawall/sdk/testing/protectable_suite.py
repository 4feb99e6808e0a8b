# SPDX-License-Identifier: Apache-2.0
"""The contract of protectables. Subclass ``ProtectableSuite`` and say how to make a resource."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from seawall.core.errors import ForbiddenError, InvalidInputError, NotFoundError, SeawallError
from seawall.sdk.protection import Instance, Protectable

REFUSALS = (NotFoundError, ForbiddenError, InvalidInputError)
BAD_IDS = ("", "x", "\x00", "../x", "/..", "/" + "n" * 300, "/a" * 3000, "é" * 200, "\ud800")


class ProtectableSuite:
    """What every protectable must do. Paths are used only by those that live on a host."""

    def make_protectable(self) -> Protectable:
        """One of the kind that is tested."""
        raise NotImplementedError

    def make_resource(self, folder: Path, name: str) -> str:
        """Make a resource below ``folder``, which is there; its id."""
        raise NotImplementedError

    def make_other(self, folder: Path, name: str) -> str | None:
        """Make something below ``folder`` that is there and is no such resource; its id, or None if there is
        no such thing."""
        raise NotImplementedError

    @pytest.fixture
    def protectable(self) -> Protectable:
        return self.make_protectable()

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        made = tmp_path / "root"
        made.mkdir()
        return made

    def listed(self, protectable: Protectable, roots: Sequence[Path]) -> list[Instance]:
        return list(protectable.instances(roots, {}))

    def test_it_says_what_it_is(self, protectable: Protectable) -> None:
        assert protectable.resource_type
        assert isinstance(protectable.on_host, bool)
        assert all(isinstance(one, str) for one in protectable.dependent_types)

    def test_a_resource_is_found_by_its_id(self, protectable: Protectable, root: Path) -> None:
        resource_id = self.make_resource(root, "one")
        found = protectable.instance(resource_id, [root])
        assert (found.type, found.id) == (protectable.resource_type, resource_id)
        assert found.name
        assert protectable.instance(resource_id, [root]) == found

    def test_whatever_is_listed_is_found(self, protectable: Protectable, root: Path) -> None:
        for name in ("b", "a"):
            self.make_resource(root, name)
        found = self.listed(protectable, [root])
        assert found
        assert [one.id for one in found] == [one.id for one in self.listed(protectable, [root])]
        assert len({one.id for one in found}) == len(found)
        for one in found:
            assert protectable.instance(one.id, [root]) == one

    def test_nothing_is_listed_or_found_without_roots(self, protectable: Protectable, root: Path) -> None:
        if not protectable.on_host:
            pytest.skip("it lives on no host")
        resource_id = self.make_resource(root, "one")
        assert self.listed(protectable, []) == []
        with pytest.raises(ForbiddenError):
            protectable.instance(resource_id, [])

    def test_outside_of_the_roots_there_is_nothing(
        self, protectable: Protectable, root: Path, tmp_path: Path
    ) -> None:
        if not protectable.on_host:
            pytest.skip("it lives on no host")
        outside = tmp_path / "outside"
        outside.mkdir()
        resource_id = self.make_resource(outside, "one")
        (root / "link").symlink_to(outside)
        for path in (resource_id, str(root / "link" / Path(resource_id).name), str(root / "link")):
            with pytest.raises(ForbiddenError):
                protectable.instance(path, [root])
        assert all(Path(one.id).is_relative_to(root) for one in self.listed(protectable, [root]))
        assert not any("link" in one.id for one in self.listed(protectable, [root]))

    def test_something_else_is_refused(self, protectable: Protectable, root: Path) -> None:
        other = self.make_other(root, "other")
        if other is None:
            pytest.skip("everything is such a resource")
        with pytest.raises(InvalidInputError) as caught:
            protectable.instance(other, [root])
        assert caught.value.fields[0].value == other
        assert other not in [one.id for one in self.listed(protectable, [root])]

    @pytest.mark.parametrize("resource_id", BAD_IDS)
    def test_what_is_no_id_is_refused(self, protectable: Protectable, root: Path, resource_id: str) -> None:
        with pytest.raises(REFUSALS):
            protectable.instance(resource_id, [root])

    def test_what_has_gone_is_not_found(self, protectable: Protectable, root: Path) -> None:
        missing = str(root / "missing") if protectable.on_host else "missing"
        with pytest.raises(NotFoundError):
            protectable.instance(missing, [root])

    def test_an_unknown_parameter_or_a_strange_path_is_refused_or_empty(
        self, protectable: Protectable, root: Path
    ) -> None:
        """Parameters may be anything that the plugin's ``instances_schema`` lets through."""
        if "path" not in getattr(protectable, "instances_schema", {}).get("properties", {}):
            pytest.skip("it takes no path")
        for path in ("", "x", "/", "/etc", str(root / "missing"), f"{root}/../root"):
            with pytest.raises(REFUSALS):
                list(protectable.instances([root], {"path": path}))

    def test_odd_names_and_unreadable_places_break_nothing(
        self, protectable: Protectable, root: Path
    ) -> None:
        if not protectable.on_host:
            pytest.skip("it lives on no host")
        for number, name in zip(itertools.count(), (" ", "a\nb", "\udcff", "ü", "'\"", "-x"), strict=False):
            self.make_resource(root, name)
            (root / f"dangling{number}").symlink_to("nowhere")
        os.mkfifo(root / "pipe")
        (root / "circle").symlink_to("circle")
        closed = root / "closed"
        closed.mkdir(mode=0o000)
        try:
            for one in self.listed(protectable, [root]):
                one.id.encode()
                try:
                    protectable.instance(one.id, [root])
                except SeawallError as error:
                    assert "closed" in str(error)
        finally:
            closed.chmod(0o700)
