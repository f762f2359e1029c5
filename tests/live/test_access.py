"""What each process may not do in the store, and what it may: by the ACL file of a deployment.

That no right is missing is asked by the contract suites, which run under these rights, too.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
import redis
from redis.exceptions import AuthenticationError, NoPermissionError

from features.client_redis import connect_redis
from features.store_redis import RedisFeatureStore
from models.registry import NoWeights
from models.registry_redis import RedisWeightsRegistry
from models.rollout_redis import RedisRolloutStore
from models.rollout_signals import JudgedReport
from riskbeat.access import RELOAD, ROLES, acl_file
from tests.builders_registry import KEEP, SPEC
from tests.builders_store import DIGEST, PARTITIONS, a_commit, keys_of
from tests.live.guarded import PREFIX, Guarded

pytestmark = pytest.mark.live

LINE = f"{PREFIX}{{weights.{SPEC[:12]}}}:"
STATE = f"{PREFIX}0:{{1}}:s:default\x1fcard\x1ftok_1"
A_KEY_OF = {
    "a state": STATE,
    "a position": f"{PREFIX}0:position:e:0",
    "an epoch": f"{PREFIX}{{store}}:epochs",
    "a version": f"{LINE}v:7",
    "the pointers": f"{LINE}state",
    "the lease": f"{LINE}lease",
    "a rollout": f"{LINE}rollout",
    "what became of a rollout": f"{LINE}rollout.judged",
    "an answer": f"{PREFIX}claim:default/pay_1",
    "the policy": f"{PREFIX}{{policy}}:kept",
    "a list": f"{PREFIX}{{policy}}:entries",
    "the callers": f"{PREFIX}keys",
    "somebody else's": "elsewhere:0:{1}:s:x",
}
MAY_WRITE = {
    "featurize": {"a state", "a position", "an epoch"},
    "learn": {"a version", "the pointers", "the lease", "what became of a rollout"},
    "serve": {"the pointers", "a rollout", "what became of a rollout", "an answer", "the policy"},
    "replay": set[str](),
    "operate": set(A_KEY_OF) - {"somebody else's"},
}
MAY_READ = {
    "featurize": MAY_WRITE["featurize"],
    "learn": MAY_WRITE["learn"] | {"a rollout"},
    "serve": set(A_KEY_OF) - {"somebody else's"},
    "replay": {"a state", "a position", "an epoch"},
    "operate": MAY_WRITE["operate"],
}

REFUSED = r"(?i)permission"


@pytest.fixture
async def as_role(redis_of: Callable[[str], Any]) -> AsyncIterator[Callable[[str], Any]]:
    async with AsyncExitStack() as stack:

        def connect(role: str) -> Any:
            client = redis_of(role)[0]()
            stack.push_async_callback(client.aclose)
            return client

        yield connect


async def refused(client: Any, *command: Any) -> bool:
    try:
        await client.execute_command(*command)
    except NoPermissionError:
        return True
    except redis.ResponseError:
        return False  # of another type than the key's: it was let through
    return False


@pytest.mark.parametrize("role", ROLES)
async def test_a_process_reads_and_writes_its_own_keys_only(
    role: str, as_role: Callable[[str], Any]
) -> None:
    client = as_role(role)
    script = "return redis.call('SET', KEYS[1], 'x')"
    hidden = "return redis.call('SET', ARGV[1], 'x')"
    for what, key in A_KEY_OF.items():
        writes = what in MAY_WRITE[role]
        assert await refused(client, "SET", key, "x") is not writes, what
        assert await refused(client, "EVAL", script, 1, key) is not writes, what
        if not writes:
            with pytest.raises(redis.ResponseError, match=REFUSED):
                await client.execute_command("EVAL", hidden, 0, key)
        assert await refused(client, "GET", key) is (what not in MAY_READ[role]), what


@pytest.mark.parametrize("role", ROLES)
async def test_nobody_may_harm_or_list_the_whole_store(
    role: str, as_role: Callable[[str], Any]
) -> None:
    client = as_role(role)
    for command in ("FLUSHALL", "KEYS *", "CONFIG GET *", "ACL LIST", "MONITOR", "SHUTDOWN"):
        assert await refused(client, *command.split()), command
    assert await refused(client, "SCAN", 0) is (role != "operate")


async def test_a_scorer_pins_a_version_and_cannot_make_one(
    as_role: Callable[[str], Any],
) -> None:
    learner = RedisWeightsRegistry(as_role("learn"), PREFIX, SPEC, KEEP)
    scorer = RedisWeightsRegistry(as_role("serve"), PREFIX, SPEC, KEEP)
    for version in range(1, KEEP + 1):
        await learner.publish(version, b"version %d" % version)
    await scorer.pin(1, "ann", "a try", 1)
    for version in range(KEEP + 1, KEEP + 3):
        await learner.publish(version, b"version %d" % version)
    await scorer.unpin("ann", "it was enough", 2)  # lets go of the version that only a pin kept
    with pytest.raises(NoWeights):
        await scorer.read(1)
    assert await scorer.read(KEEP + 2) == b"version %d" % (KEEP + 2)
    assert [one.version for one in await scorer.shelf()] == list(range(3, KEEP + 3))
    with pytest.raises(redis.ResponseError, match=REFUSED):
        await scorer.publish(KEEP + 3, b"forged")
    assert (await learner.standing()).latest == KEEP + 2


async def test_a_scorer_reads_what_a_worker_wrote(as_role: Callable[[str], Any]) -> None:
    store = partial(
        RedisFeatureStore,
        prefix=PREFIX,
        partitions=PARTITIONS,
        spec_digest=DIGEST,
        ttl_s=1000,
        updates_topic="updates.v1",
    )
    worker, scorer = store(as_role("featurize")), store(as_role("serve"))
    assert not await scorer.check_readable()
    await worker.attach()
    await worker.open_partition(1, 0)
    await worker.commit_batch(a_commit())
    reads = await scorer.read_many(keys_of(1, 2))
    assert reads.blobs == list(a_commit().states.values())
    with pytest.raises(Exception, match=REFUSED):
        await scorer.commit_batch(a_commit(expected_offset=7, next_offset=9))


async def test_a_learner_tells_of_rollouts_and_does_not_move_them(
    as_role: Callable[[str], Any],
) -> None:
    learner = RedisRolloutStore(as_role("learn"), PREFIX, SPEC)
    assert (await learner.read()).revision == 0
    await learner.report_judged(JudgedReport(number=1))
    assert await RedisRolloutStore(as_role("serve"), PREFIX, SPEC).judged() is not None


async def test_without_a_name_nothing_is_answered(guarded: Guarded) -> None:
    nobody = connect_redis(f"redis://{guarded.address}")
    with pytest.raises((AuthenticationError, NoPermissionError)):
        await nobody.execute_command("PING")
    await nobody.aclose()


def test_two_passwords_are_taken_while_one_is_replaced(guarded: Guarded) -> None:
    def takes(password: str) -> bool:
        try:
            with redis.Redis.from_url(f"redis://replay:{password}@{guarded.address}") as client:
                return bool(client.ping())
        except AuthenticationError:
            return False

    def load(replays: tuple[str, ...]) -> None:
        everybody = {name: (f"of {name}",) for name in (*ROLES, RELOAD)}
        guarded.file.write_text(acl_file(everybody | {"replay": replays}, PREFIX))
        with redis.Redis.from_url(guarded.url(RELOAD)) as client:
            client.acl_load()

    assert (takes("of%20replay"), takes("new")) == (True, False)
    try:
        load(("new", "of replay"))
        assert (takes("of%20replay"), takes("new")) == (True, True)
        load(("new",))
        assert (takes("of%20replay"), takes("new")) == (False, True)
    finally:
        load(("of replay",))
