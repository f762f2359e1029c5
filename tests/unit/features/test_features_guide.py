"""docs/features.md: what it shows can be loaded, and what it names is there."""

import re
from pathlib import Path

import pytest

from features.spec import Spec
from features.spec_entity import AGGREGATES
from features.spec_read import OPTIONAL, REQUIRED
from tests.unit.features.specs import ROOT, spec_of

GUIDE = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
WHOLE = BLOCKS[0]
PREAMBLE = WHOLE[: WHOLE.index("entities:")]
NAME = re.compile(r"`([a-z][a-z_]*\.[a-z][a-z0-9_.]*)`")


def loaded(block: str, folder: Path) -> Spec:
    return spec_of(block if "money:" in block else PREAMBLE + block, folder)


@pytest.mark.parametrize("index", range(len(BLOCKS)))
def test_each_example_loads(index: int, tmp_path: Path) -> None:
    assert len(BLOCKS) >= 7
    assert loaded(BLOCKS[index], tmp_path).n_features > 2


def test_each_feature_that_is_named_is_declared_by_an_example(tmp_path: Path) -> None:
    known = {name for block in BLOCKS for name in loaded(block, tmp_path).feature_names}
    named = {name for name in NAME.findall(GUIDE) if not name.endswith((".yaml", ".json"))}
    assert len(named) > 25
    assert named <= known, named - known


def test_the_guide_speaks_of_everything_that_a_file_may_say() -> None:
    said = "\n".join(BLOCKS)
    for name in {*REQUIRED, *OPTIONAL} - {"limits"}:
        assert re.search(rf"^{name}:", said, re.MULTILINE), name
    for aggregate in AGGREGATES:
        assert re.search(rf"`{aggregate}\b", GUIDE), aggregate
