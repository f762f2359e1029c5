"""What was appended is there after a crash, in order, within the bound."""

from pathlib import Path

import pytest

from api.spool import Frame, Spool, SpoolFull


def a_frame(i: int, size: int = 10) -> Frame:
    return (f"topic{i}", b"key%d" % i, b"v" * size, (("name", b"value"),))


def test_frames_come_back_in_order_and_leave_when_dropped(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a" / "s", 10_000)
    spool.append_many([a_frame(1), a_frame(2)])
    spool.append_many([a_frame(3)])
    assert spool.read_oldest(2) == [a_frame(1), a_frame(2)]
    spool.drop_oldest(2)
    assert spool.read_oldest(9) == [a_frame(3)]
    spool.drop_oldest(1)
    assert (spool.read_oldest(9), spool.size_bytes) == ([], 0)
    assert (tmp_path / "a" / "s").stat().st_size == 0
    spool.close()


def test_frames_survive_the_process(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", 10_000)
    spool.append_many([a_frame(1), (*a_frame(2)[:1], None, b"", ())])
    spool.close()
    again = Spool(tmp_path / "s", 10_000)
    assert again.read_oldest(9) == [a_frame(1), ("topic2", None, b"", ())]
    again.close()


@pytest.mark.parametrize("lost", [1, 7, 20])
def test_half_a_frame_at_the_end_is_cut_off(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "s"
    spool = Spool(path, 10_000)
    spool.append_many([a_frame(1), a_frame(2)])
    spool.close()
    path.write_bytes(path.read_bytes()[:-lost])
    again = Spool(path, 10_000)
    assert again.read_oldest(9) == [a_frame(1)]
    again.append_many([a_frame(3)])
    assert again.read_oldest(9) == [a_frame(1), a_frame(3)]
    again.close()


def test_a_damaged_frame_and_what_follows_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "s"
    spool = Spool(path, 10_000)
    spool.append_many([a_frame(1), a_frame(2), a_frame(3)])
    spool.close()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    again = Spool(path, 10_000)
    assert again.read_oldest(9) == [a_frame(1)]
    again.close()


def test_the_bound_holds_and_refusal_takes_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", 300)
    spool.append_many([a_frame(1, 100)])
    with pytest.raises(SpoolFull):
        spool.append_many([a_frame(2, 50), a_frame(3, 200)])
    assert spool.read_oldest(9) == [a_frame(1, 100)]
    spool.append_many([a_frame(2, 50)])
    assert (tmp_path / "s").stat().st_size <= 300
    spool.close()
