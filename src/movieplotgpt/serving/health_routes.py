"""How the server is: for those who watch over it."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from movieplotgpt.serving.answers import Health
from movieplotgpt.serving.models import ServedModels, served

router = APIRouter(tags=["state"])


@router.get("/health")
async def health(http: Request) -> Health:
    """Liveness check."""
    models = served(http)
    schedulers = [model.scheduler for model in models.values()]
    return Health(
        models=list(models),
        running=sum(each.running for each in schedulers),
        waiting=sum(each.waiting for each in schedulers),
    )


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(http: Request) -> Response:
    """Counts, for Prometheus."""
    return Response(generate_latest(_Counts(served(http))), media_type=CONTENT_TYPE_LATEST)


class _Counts(Collector):
    """Of every model's scheduler."""

    def __init__(self, models: ServedModels) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        """One family for each count."""
        for kind, name, help_ in (
            (GaugeMetricFamily, "running", "Texts that are being written."),
            (GaugeMetricFamily, "waiting", "Texts that wait for a place."),
            (CounterMetricFamily, "texts", "Texts that were written to their end."),
            (CounterMetricFamily, "tokens", "Tokens that were written."),
            (CounterMetricFamily, "cancelled", "Jobs whose client has left."),
        ):
            family = kind(f"movieplotgpt_{name}", help_, labels=["model"])
            for model in self._models.values():
                family.add_metric([model.name], getattr(model.scheduler, name))
            yield family
