"""`python scoring_fastapi.py PORT REDIS`: the bare workload as tutorials write it."""

import sys

import redis.asyncio
import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field
from scoring_model import KEYS, make_model, row_of

app = FastAPI()
store = redis.asyncio.Redis.from_url(sys.argv[2])
model = make_model()


class Question(BaseModel):
    """What is asked."""

    id: str
    keys: list[str] = Field(min_length=KEYS, max_length=KEYS)


class Score(BaseModel):
    """What is answered."""

    id: str
    score: float


@app.post("/score")
async def score(question: Question) -> Score:
    """Score one."""
    row = torch.from_numpy(row_of(await store.mget(question.keys)).copy())
    with torch.inference_mode():
        value = model(row[None, :])[0, 0].item()
    return Score(id=question.id, score=value)


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="error")
