"""Versions are cut into records and put together again, whatever was sent twice or not at all."""

import random

import pytest

from pipeline.pieces import CUTS_HEADER, Pieces, pieces_of


@pytest.mark.parametrize(("size", "count"), [(0, 1), (1, 1), (10, 1), (11, 2), (20, 2), (21, 3)])
def test_a_version_is_cut_into_pieces_of_bounded_size(size: int, count: int) -> None:
    data = random.Random(size).randbytes(size)
    pieces = list(pieces_of(data, 10))
    assert len(pieces) == count
    assert all(len(body) <= 10 for _, body in pieces)
    joined = Pieces("champion")
    random.Random(1).shuffle(pieces)
    for headers, body in pieces * 2:
        assert joined.whole() == {} or headers == pieces[0][0] or len(joined.whole()) == 1
        joined.add(b"champion:7", headers, body)
    assert joined.whole() == {7: data}


def test_a_version_of_which_a_piece_is_missing_is_none() -> None:
    joined = Pieces("champion")
    for headers, body in list(pieces_of(b"x" * 25, 10))[:2]:
        joined.add(b"champion:7", headers, body)
    joined.add(b"champion:6", (), b"six")
    assert joined.whole() == {6: b"six"}


def test_other_models_are_passed_over_and_pages_are_no_versions() -> None:
    joined = Pieces("champion")
    joined.add(b"challenger:3", (), b"other")
    joined.add(b"champion:4", ((CUTS_HEADER, b"2"),), b"page")
    assert joined.whole() == {}
    assert joined.pages == {(4, 2): b"page"}
