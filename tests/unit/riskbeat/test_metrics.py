import math

from riskbeat.metrics import parse_many, quantile, subtract

PAGE = """# HELP d_seconds Time.
# TYPE d_seconds histogram
d_seconds_bucket{door="http",le="0.01"} 10.0
d_seconds_bucket{door="http",le="0.02"} 20.0
d_seconds_bucket{door="http",le="+Inf"} 20.0
d_seconds_count{door="http"} 20.0
d_seconds_sum{door="http"} 0.2
# HELP version The version.
# TYPE version gauge
version 7.0
"""


def test_pages_of_several_processes_add_up() -> None:
    scrape = parse_many([PAGE, PAGE])
    assert scrape.buckets["d_seconds"] == {0.01: 20.0, 0.02: 40.0, math.inf: 40.0}
    assert scrape.values["d_seconds_count"] == 40
    assert scrape.values["version"] == 14
    assert scrape.largest["version"] == 7


def test_a_quantile_lies_within_its_bucket() -> None:
    buckets = parse_many([PAGE]).buckets["d_seconds"]
    assert quantile(buckets, 0.5) == 0.01
    assert quantile(buckets, 0.75) == 0.015
    assert quantile(buckets, 1.0) == 0.02


def test_beyond_the_last_edge_a_quantile_is_that_edge() -> None:
    assert quantile({0.01: 0.0, math.inf: 5.0}, 0.9) == 0.01


def test_an_empty_histogram_has_no_quantile() -> None:
    assert math.isnan(quantile({}, 0.5))
    buckets = parse_many([PAGE]).buckets["d_seconds"]
    assert math.isnan(quantile(subtract(buckets, buckets), 0.5))
