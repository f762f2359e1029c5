from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes_http import Site
from tests.fakes_serving import a_stand


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    stand = a_stand(tmp_path)
    stand.load(1)
    await stand.publisher.try_log()
    site = Site(stand, deadline_s=30.0)
    yield site
    await site.client.aclose()
