"""one archive → a deployment: verified first, refused where something stands, each part whole.

The order lets whatever is cut short be done again: a part is staged beside its place and moved
there in one step, and a repeated restore of the same archive does the same.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from api.keys import KeyRecord
from features.client_redis import Client
from features.spec import Spec
from models.audit import Act, recorded
from pipeline.join_copy_sqlite import NoJoinStore, position_of
from riskbeat.audit import fold, open_audit
from riskbeat.backup import (
    API_KEYS_PART,
    EVALUATION_PARTS,
    JOIN_PART,
    OFFSETS_PART,
    PUBLIC_PARTS,
    SIGNING_PART,
    STORE_PARTS,
    join_path,
    section_of,
)
from riskbeat.backup_archive import Manifest, Part, part_of, sync_folder, unpack
from riskbeat.backup_kafka import Offsets, commit_offsets, forgotten
from riskbeat.backup_redis import SectionStore, read_frames
from riskbeat.clock import now_ms
from riskbeat.judging import evaluation_folder
from riskbeat.keyring import key_store
from riskbeat.settings import Settings
from riskbeat.store import redis_client
from riskbeat.versions import actor

PRIVATE_MODE, PUBLIC_MODE = 0o600, 0o644
SHOWN_CHARACTERS = 12


class CannotRestore(ValueError):
    """The archive and the deployment do not go together; says what to do."""


@dataclass(slots=True)
class Plan:
    """What a restore would do.

    Attributes:
        steps: In order, for people.
        stands: What it would replace.
        files: Part → where it goes.
        sections: Parts that go to the store.
        api_keys: Records that the store lacks.
        offsets: Of groups that the log has forgotten.
        since: Acts after the backup, which it knows nothing of.
    """

    steps: list[str] = field(default_factory=list)
    stands: list[str] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    sections: list[str] = field(default_factory=list)
    api_keys: Sequence[KeyRecord] = ()
    offsets: Offsets = field(default_factory=dict)
    since: list[str] = field(default_factory=list)


async def restore(
    settings: Settings, archive: Path, *, force: bool, dry_run: bool, learner: bool
) -> Plan:
    """Put an archive's parts back; return what was, or would be, done.

    Args:
        settings: Of the deployment; its processes are stopped.
        archive: As `backup.back_up` wrote it.
        force: Replace what stands.
        dry_run: Look only.
        learner: Whether to put the learner's data back, where the archive has it.

    Raises:
        BadArchive: It is not whole.
        CannotRestore: It is of another spec, something stands, or something runs.
        RegistryUnavailable, KeysUnavailable, OffsetsSilent, AuditUnavailable, JoinBusy: As said.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".riskbeat-restore-", dir=settings.data_dir) as name:
        folder = Path(name)
        manifest = unpack(archive, folder)
        _check_spec(settings, manifest)
        async with aclosing(redis_client(settings)) as client:
            plan = await _plan(settings, client, manifest, folder, learner=learner)
            if dry_run:
                return plan
            if plan.stands and not force:
                raise CannotRestore(
                    f"{', '.join(plan.stands)} would be replaced: nothing was done. --dry-run "
                    "says what would be, --force does it"
                )
            act = Act(
                subject="weights",
                verb="restore",
                target=f"backup {archive.name}: versions, policy, lists, keys, learner",
                by=actor(),
                why="riskbeat restore",
                at_ms=now_ms(),
            )
            async with recorded(open_audit(settings), act):
                await _carry_out(settings, client, plan, folder)
    return plan


def _check_spec(settings: Settings, manifest: Manifest) -> None:
    ours = Spec.load(settings.spec_path).digest
    if ours != manifest.spec_digest:
        raise CannotRestore(
            f"the backup is of spec {manifest.spec_digest[:SHOWN_CHARACTERS]}, and "
            f"RISKBEAT_SPEC_PATH names {ours[:SHOWN_CHARACTERS]}: the archive holds its own as "
            "spec.yaml (tar -xf)"
        )


async def _plan(
    settings: Settings, client: Client, manifest: Manifest, folder: Path, *, learner: bool
) -> Plan:
    plan, store = Plan(), SectionStore(client)
    for part in manifest.parts:
        target = _place_of(settings, part.name) if learner else None
        if target is not None:
            _plan_file(plan, part, target)
        if part.name.startswith(STORE_PARTS):
            section = section_of(settings.redis_prefix, part.name)
            if holder := await store.lease_of(section):
                raise CannotRestore(f"learner {holder} runs: stop it first")
            if await store.holds(section):
                plan.stands.append(f"{section.name} in the store")
            plan.sections.append(part.name)
            plan.steps.append(f"store: {section.name}, {part.size_bytes:,} bytes")
    kept = msgspec.json.decode((folder / API_KEYS_PART).read_bytes(), type=list[KeyRecord])
    there = {record.id for record in await key_store(settings, client).read_all()}
    plan.api_keys = [record for record in kept if record.id not in there]
    plan.steps.append(f"API keys: {len(plan.api_keys)} of {len(kept)}; those that stand stay")
    offsets = msgspec.json.decode((folder / OFFSETS_PART).read_bytes(), type=Offsets)
    plan.offsets = await forgotten(settings.kafka_options(), settings.topic_prefix, offsets)
    for group in plan.offsets:
        plan.steps.append(f"offsets of group {group}, which the log has forgotten")
    acts = fold(await open_audit(settings).read())
    later = [one for one in acts if one.at_ms > manifest.made_at_ms and one.state == "done"]
    plan.since = [f"{one.act.subject} {one.act.verb} {one.act.target}" for one in later]
    return plan


def _plan_file(plan: Plan, part: Part, target: Path) -> None:
    """Plan a file, unless it stands there already: it may lie where nobody can write."""
    stands = str(target) if target.exists() else ""
    if part.name == JOIN_PART:
        try:
            stands = f"{target} (version {position_of(target).version})"  # not while it is open
        except NoJoinStore:
            stands = ""
    if stands and part_of(part.name, target) == part:
        return
    plan.files[part.name] = target
    if stands:
        plan.stands.append(stands)
    if not part.name.startswith(EVALUATION_PARTS):
        plan.steps.append(f"file: {target}")


def _place_of(settings: Settings, part: str) -> Path | None:
    """Return where a part lies in a deployment; None where it is no file of the learner's."""
    if part == JOIN_PART:
        return join_path(settings)
    if part == SIGNING_PART:
        return settings.signing_key_path
    if part.startswith(PUBLIC_PARTS):
        index = int(part.removeprefix(PUBLIC_PARTS).removesuffix(".pem"))
        return settings.public_key_paths[index] if index < len(settings.public_key_paths) else None
    if part.startswith(EVALUATION_PARTS):
        return evaluation_folder(settings.data_dir) / part.removeprefix(EVALUATION_PARTS)
    return None


async def _carry_out(settings: Settings, client: Client, plan: Plan, folder: Path) -> None:
    """Files first: a learner whose store is empty gives it back, but not the other way round."""
    if JOIN_PART in plan.files:  # judgements of versions that the backup does not know
        shutil.rmtree(evaluation_folder(settings.data_dir), ignore_errors=True)
    for part in sorted(plan.files, key=lambda name: name == JOIN_PART):  # the join store last
        _put_file(folder / part, plan.files[part], public=part.startswith(PUBLIC_PARTS))
    store = SectionStore(client)
    for part in plan.sections:
        with (folder / part).open("rb") as source:
            await store.put_back(section_of(settings.redis_prefix, part), read_frames(source))
    await key_store(settings, client).put_many(plan.api_keys)
    await commit_offsets(settings.kafka_options(), plan.offsets)


def _put_file(source: Path, target: Path, *, public: bool) -> None:
    """Move a file to its place in one step; what SQLite kept beside an earlier one goes first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}.restoring")
    shutil.copyfile(source, staged)
    staged.chmod(PUBLIC_MODE if public else PRIVATE_MODE)
    handle = os.open(staged, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    for end in ("-wal", "-shm"):
        target.with_name(target.name + end).unlink(missing_ok=True)
    staged.replace(target)
    sync_folder(target.parent)
