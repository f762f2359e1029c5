"""`python scoring_mosec.py --port PORT` with `REDIS_URL`: the bare workload behind mosec.

Batches of at most 32 that wait 2 ms, as its documentation has it for throughput.
"""

import os
from typing import Any

import msgspec
import numpy as np
import redis
import torch
from mosec import Server, ValidationError, Worker
from scoring_model import FLOATS_OF_BLOB, KEYS, make_model

BATCH, WAIT_MS = 32, 2


class Question(msgspec.Struct):
    """What is asked."""

    id: str
    keys: list[str]


class Scorer(Worker):
    """Reads and scores a batch."""

    def __init__(self) -> None:
        """Connect, and make the model."""
        super().__init__()
        self.store = redis.Redis.from_url(os.environ["REDIS_URL"])
        self.model = make_model()
        self.decoder = msgspec.json.Decoder(Question)

    def deserialize(self, data: bytes) -> Question:
        """Validate."""
        try:
            question = self.decoder.decode(data)
        except msgspec.MsgspecError as error:
            raise ValidationError(str(error)) from error
        if len(question.keys) != KEYS:
            raise ValidationError("keys: four are asked for")
        return question

    def serialize(self, data: Any) -> bytes:
        """Encode an answer."""
        return msgspec.json.encode(data)

    def forward(self, data: list[Question]) -> list[Any]:
        """Score a batch with one MGET and one forward pass."""
        blobs = self.store.mget([key for question in data for key in question.keys])
        floats = np.frombuffer(b"".join(blobs), np.float32).reshape(len(data), KEYS, -1)
        x = torch.from_numpy(floats[:, :, :FLOATS_OF_BLOB].reshape(len(data), -1))
        with torch.inference_mode():
            scores = self.model(x)[:, 0].tolist()
        return [
            {"id": question.id, "score": score}
            for question, score in zip(data, scores, strict=True)
        ]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Scorer, num=1, max_batch_size=BATCH, max_wait_time=WAIT_MS, route="/score")
    server.run()
