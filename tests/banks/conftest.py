# SPDX-License-Identifier: Apache-2.0
"""A real S3 server for the tests of banks."""

from __future__ import annotations

import pytest

from tests.support.s3_server import S3Server, require_s3


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> S3Server:
    return require_s3(tmp_path_factory.mktemp("s3"))
