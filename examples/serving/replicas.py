"""Two replicas of a model behind Ray Serve, which spreads requests over them, checks and restarts them.

    pip install '.[examples]'
    serve run replicas:app

Each replica is a whole `trimask serve`, with its own steps and queue. A result depends on its request alone,
so any replica may answer. `TRIMASK_MODEL` names another model. On GPUs, give each replica one:
`ray_actor_options={"num_gpus": 1}`.
"""

import os

from fastapi import FastAPI
from ray import serve

import trimask
from trimask.serve.app import create_app
from trimask.serve.service import Service

MOST_REQUESTS = 64  # of a replica; what is more, it answers with 429


def make_server() -> FastAPI:
    """Load the model, in the process of a replica."""
    name = os.environ.get("TRIMASK_MODEL", "quickstart")
    return create_app(Service({name: trimask.load(name)}, most_jobs=MOST_REQUESTS))


@serve.deployment(num_replicas=2, max_ongoing_requests=2 * MOST_REQUESTS, ray_actor_options={"num_cpus": 1})
@serve.ingress(make_server)
class Replica:
    pass


app = Replica.bind()
