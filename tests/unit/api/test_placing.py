"""Keys are placed as every Kafka client places them: the library's own function is the oracle."""

from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from api.placing import hashes_of


@given(st.lists(st.binary(max_size=70), min_size=1, max_size=20))
def test_hashes_are_those_of_the_librarys_function(keys: list[bytes]) -> None:
    assert hashes_of(keys).tolist() == [murmur2(key) & 0x7FFFFFFF for key in keys]
