"""The application with a tiny model, in this process, for httpx and the real openai package."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai
from fastapi import FastAPI

from generation.fakes import FakeSpeech, tiny_generator
from trimask.generation.generate import Generator
from trimask.serve.app import create_app
from trimask.serve.service import Service

RATE = 8000


class FastSpeech(FakeSpeech):
    """At a rate that files of recordings have."""

    sample_rate = RATE
    frame_rate = RATE / 4


def served_generator(seed: int = 0) -> Generator:
    return tiny_generator(seed, speech=FastSpeech())


def tiny_service(**options: Any) -> Service:
    return Service({"tiny": served_generator(), "other": served_generator(1)}, **options)


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """Run the application, its lifespan included."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


@asynccontextmanager
async def openai_client(service: Service) -> AsyncIterator[openai.AsyncOpenAI]:
    async with running(create_app(service)) as client:
        yield openai.AsyncOpenAI(api_key="none", base_url="http://test/v1", http_client=client, max_retries=0)
