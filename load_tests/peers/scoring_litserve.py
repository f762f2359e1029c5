"""`python scoring_litserve.py PORT REDIS`: the bare workload behind LitServe."""

import sys

import litserve
import redis
import torch
from pydantic import BaseModel, Field
from scoring_model import KEYS, make_model, row_of


class Question(BaseModel):
    """What is asked."""

    id: str
    keys: list[str] = Field(min_length=KEYS, max_length=KEYS)


class Scorer(litserve.LitAPI):
    """Reads and scores."""

    def setup(self, device: str) -> None:
        """Connect, and make the model."""
        self.store = redis.Redis.from_url(sys.argv[2])
        self.model = make_model()

    def decode_request(self, request: Question) -> Question:
        """Take it as validated."""
        return request

    def predict(self, question: Question) -> tuple[str, float]:
        """Score one."""
        row = torch.from_numpy(row_of(self.store.mget(question.keys)).copy())
        with torch.inference_mode():
            return question.id, self.model(row[None, :])[0, 0].item()

    def encode_response(self, output: tuple[str, float]) -> dict[str, object]:
        """Name the parts."""
        return {"id": output[0], "score": output[1]}


if __name__ == "__main__":
    server = litserve.LitServer(Scorer(api_path="/score"), accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[1]), generate_client_file=False, log_level="error")
