"""PyFlink SQL: `OVER (PARTITION BY … RANGE BETWEEN INTERVAL …)`, one for each entity and window.

As its documentation advises: parallelism 1 for one core, heap state, object reuse, state TTL, one
scan of the source, results to Redis by a vectorised function with bundles of Arrow batches.
A SELECT can have one OVER window only, so 24 of them are united.
"""

from pathlib import Path

import sink as ours
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.table import EnvironmentSettings, StreamTableEnvironment
from pyflink.table.types import DataTypes
from pyflink.table.udf import udf

INTERVALS = {
    "1m": "INTERVAL '1' MINUTE",
    "10m": "INTERVAL '10' MINUTE",
    "1h": "INTERVAL '1' HOUR",
    "6h": "INTERVAL '6' HOUR",
    "1d": "INTERVAL '1' DAY",
    "7d": "INTERVAL '7' DAY",
}
SETTINGS = {
    "parallelism.default": "1",
    "pipeline.object-reuse": "true",
    "state.backend.type": "hashmap",
    "table.exec.state.ttl": "8 d",
    "table.local-time-zone": "UTC",
    "python.fn-execution.bundle.size": "20000",
    "python.fn-execution.bundle.time": "200",
    "python.fn-execution.arrow.batch.size": "20000",
    "taskmanager.memory.managed.size": "256m",
}


def keeper(url, prefix):
    """Return a vectorised function that keeps its rows in Redis."""
    held = []

    def keep(who, count, total, mean, low, high):
        if not held:
            held.append(ours.Sink(url, prefix, 1 << 30))
        for name, *results in zip(who, count, total, mean, low, high, strict=True):
            held[0].put(*name.split("|"), *results)
        held[0].flush()
        return count

    return udf(keep, result_type=DataTypes.BIGINT(), func_type="pandas", deterministic=False)


def main():
    """Run until the log's present end."""
    told = ours.arguments()
    table = StreamTableEnvironment.create(
        StreamExecutionEnvironment.get_execution_environment(),
        EnvironmentSettings.in_streaming_mode(),
    )
    for key, value in SETTINGS.items():
        table.get_config().set(key, value)
    table.get_config().set("pipeline.jars", Path(told.jar).resolve().as_uri())
    table.get_config().set("python.files", str(Path(ours.__file__).resolve()))
    table.create_temporary_function("keep", keeper(told.redis, told.prefix))
    table.execute_sql(f"""
        CREATE TABLE events (
          event_time TIMESTAMP_LTZ(3),
          entities ROW<card STRING, merchant STRING, device STRING, ip STRING>,
          amount ROW<`value` BIGINT>,
          WATERMARK FOR event_time AS event_time - INTERVAL '1' SECOND
        ) WITH (
          'connector' = 'kafka', 'topic' = '{told.topic}', 'format' = 'json',
          'properties.bootstrap.servers' = '{told.kafka}',
          'properties.group.id' = '{told.group}', 'scan.startup.mode' = 'earliest-offset',
          'scan.bounded.mode' = 'latest-offset',
          'json.timestamp-format.standard' = 'ISO-8601')""")
    table.execute_sql("CREATE TABLE nowhere (n BIGINT) WITH ('connector' = 'blackhole')")
    selects = [
        f"""SELECT CONCAT('{entity}|', id, '|{name}') AS who,
              COUNT(*) OVER x AS n, SUM(cents) OVER x AS total,
              AVG(CAST(cents AS DOUBLE)) OVER x AS mean,
              MIN(cents) OVER x AS low, MAX(cents) OVER x AS high
            FROM (SELECT event_time, entities.{entity} AS id, amount.`value` AS cents FROM events)
            WINDOW x AS (PARTITION BY id ORDER BY event_time
                         RANGE BETWEEN {interval} PRECEDING AND CURRENT ROW)"""
        for entity in ours.ENTITIES
        for name, interval in INTERVALS.items()
    ]
    united = table.sql_query(" UNION ALL ".join(selects))
    # As a stream and back: else the planner would run the function 24 times, below the union.
    barrier = table.from_data_stream(table.to_data_stream(united))
    table.create_temporary_view("results", barrier)
    table.execute_sql(
        "INSERT INTO nowhere SELECT keep(who, n, total, mean, low, high) FROM results"
    ).wait()


if __name__ == "__main__":
    main()
