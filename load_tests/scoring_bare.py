"""`python -m load_tests.scoring_bare PORT REDIS FACE`: the peers' bare workload behind our door.

Validate, one MGET of four 512-byte blobs for all that wait together, one forward pass of an MLP
64-128-64-1, a JSON answer. FACE is `socket` or `asgi`: the two faces that ADR 0017 chooses from.
As in a scorer, the store is asked over one shared connection (`features.client_redis.RedisLink`),
and the network is walked by the compiled kernel (`models.network_walk`), by the peers' weights.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import torch
import uvicorn
import uvloop
from fastapi import FastAPI
from numpy.typing import NDArray

from api.coalesce import Coalescer
from api.coalesce_rate import Limits
from api.door_exchange import DoorLimits
from api.door_http import Door
from api.errors import Answer, problem_of
from api.route import ANYBODY, JSON, NO_HEADERS, Admitted, Begun, Head, Reply, Request, Route
from features.client_redis import RedisLink, connect_redis
from load_tests.peers.scoring_model import FLOATS_OF_BLOB, KEYS, make_model
from models.walk_members import Network
from models.weights_kinds import Arrays

BODY_MAX_BYTES = 65_536
DEADLINE_S = 1.0
IN_FLIGHT = 2


class Question(msgspec.Struct):
    """What is asked."""

    id: str
    keys: list[str]


def arrays_of(model: torch.nn.Module) -> Arrays:
    """Return the peers' network as a version holds one."""
    layers = [each for each in model.modules() if isinstance(each, torch.nn.Linear)]
    weights = [each.weight.detach().numpy() for each in layers]
    biases = [each.bias.detach().numpy() for each in layers]
    return {
        "linear": np.zeros((1, weights[0].shape[1]), np.float32),
        "w0": weights[0][None],
        "b0": biases[0][None],
        "w1": weights[1][None],
        "b1": biases[1][None],
        "w2": weights[2],
        "b2": biases[2],
    }


def scores_of(network: Network, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the scores of rows, shape (m, 64)."""
    logit = np.zeros(len(x))
    network.add_logit(x, x, 1.0, logit)
    return np.asarray(1.0 / (1.0 + np.exp(-logit)))


class Bare:
    """One route, and the step behind it."""

    def __init__(self, url: str) -> None:
        self._link = RedisLink(connect_redis(url), piped=True)
        self._network = Network.of(arrays_of(make_model()))
        self._decoder = msgspec.json.Decoder(Question)
        self._encoder = msgspec.json.Encoder()
        limits = Limits(in_flight_max=IN_FLIGHT, queue_target_s=DEADLINE_S)
        self._coalescer: Coalescer[Question, bytes] = Coalescer(self._answer_many, limits)
        self._route = Route("/score", self._serve, BODY_MAX_BYTES, begin=self._begin)

    def find(self, path: bytes) -> Route | None:
        return self._route if path == b"/score" else None

    def echo(self, head: Head) -> Mapping[str, str]:
        return NO_HEADERS

    def admit(self, route: Route, head: Head, began: float) -> Admitted:
        self._coalescer.check(began + DEADLINE_S)
        return Admitted(ANYBODY, began + DEADLINE_S)

    def observe(self, route: Route | None, answer: Answer, began: float) -> None:
        return

    def _begin(self, request: Request, reply: Reply) -> Begun:
        def done(answer: bytes | Exception) -> None:
            reply(Answer(200, answer, JSON) if isinstance(answer, bytes) else answer)

        return self._coalescer.submit(self._read(request.body), request.deadline_at, done)

    async def _serve(self, request: Request) -> Answer:
        answer = await self._coalescer.ask(self._read(request.body), request.deadline_at)
        return Answer(200, answer, JSON)

    def _read(self, body: bytes) -> Question:
        question = self._decoder.decode(body)
        if len(question.keys) != KEYS:
            raise ValueError("keys: four are asked for")
        return question

    async def _answer_many(self, questions: Sequence[Question]) -> list[bytes | Exception]:
        keys = [key.encode() for question in questions for key in question.keys]
        blobs = await self._link.get_together(keys)
        floats = np.frombuffer(b"".join(blobs), np.float32).reshape(len(questions), KEYS, -1)
        x = floats[:, :, :FLOATS_OF_BLOB].reshape(len(questions), -1)
        scores = scores_of(self._network, x).tolist()
        encode = self._encoder.encode
        return [
            encode({"id": question.id, "score": score})
            for question, score in zip(questions, scores, strict=True)
        ]

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer the same route as a plain ASGI callable."""
        began = time.perf_counter()
        head = Head(
            scope["method"], scope["raw_path"], scope["query_string"], dict(scope["headers"])
        )
        route = self.find(head.path)
        assert route is not None
        parts: list[bytes] = []
        more = True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        try:
            admitted = self.admit(route, head, began)
            answer = await self._serve(Request(head, b"".join(parts), *admitted))
        except Exception as error:
            answer = problem_of(error)
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        headers.append((b"content-length", b"%d" % len(answer.body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})


async def serve(port: int, url: str, face: str) -> None:
    """Serve until killed."""
    bare = Bare(url)
    door: Any = Door(bare, DoorLimits())
    config = uvicorn.Config(
        bare.asgi if face == "asgi" else FastAPI(),
        port=port,
        http=door if face == "socket" else "httptools",
        interface="asgi3",  # uvicorn takes a bound method for ASGI 2
        lifespan="off",
        access_log=False,
        log_level="error",
    )
    gc.collect()
    gc.freeze()
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    torch.set_num_threads(1)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
