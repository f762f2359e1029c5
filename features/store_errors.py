"""What the feature store refuses, or fails, to do."""


class StoreError(RuntimeError):
    """Base of everything that the feature store refuses or fails to do."""


class StoreConflict(StoreError):
    """Somebody else committed this partition since we read it: we are the zombie, or raced one."""


class StoreEpochMismatch(StoreError):
    """The store lives in another epoch: it was rebuilt, and this process must start again."""


class SchemaMismatch(StoreError):
    """The store was filled under another feature spec, or another number of partitions."""


class LogTruncated(StoreError):
    """The log no longer holds what the store lacks; only `riskbeat rebuild` can fill it."""


class StoreEvicts(StoreError):
    """Redis may drop keys when memory is short; states would vanish from under their offsets."""


class StoreUnavailable(StoreError):
    """Redis gave no answer; a write may or may not have happened.

    Attributes:
        kind: Closed set of reasons, fit for a metric label.
    """

    def __init__(self, kind: str, detail: str) -> None:
        """Name the kind of failure, and what Redis said."""
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
