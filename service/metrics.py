"""What Prometheus sees. Every app has its own registry; no label comes from text of a request."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from service.engine.contracts import BatchReport
from service.logs import log_event
from service.record import RequestRecord
from splinellm import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from service.lifecycle import Lifecycle
    from service.models import ModelCatalog
    from service.served_model import ServedModel
    from service.verdicts import ServedClassifier

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_INPUTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768)
_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75)

_REFUSED = (401, 408, 413, 415, 429, 431, 503)
"""Status of requests that were turned away before the model saw them."""


class _PrefixTokens(Collector):
    """Shows how many tokens models had to read, and how many the cache of beginnings saved."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self._models = models

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Read the counts now."""
        family = CounterMetricFamily(
            "splinellm_prefix_tokens",
            "Tokens of prompts, by where their numbers came from",
            labels=["model", "source"],
        )
        for model in self._models:
            if (cache := model.prefix_cache) is not None:
                family.add_metric([model.name, "read"], cache.n_read)
                family.add_metric([model.name, "found"], cache.n_found)
        yield family


class _Drift(Collector):
    """Shows how far what classifiers judged lately is from their references."""

    def __init__(self, classifiers: Iterable[ServedClassifier]) -> None:
        self._windows = [one.drift for one in classifiers if one.drift is not None]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Compare now."""
        drift = GaugeMetricFamily(
            "splinellm_drift",
            "Distance of a classifier's last inputs from its reference; above 1 is drift",
            labels=["classifier"],
        )
        inputs = GaugeMetricFamily(
            "splinellm_drift_inputs", "Inputs that are compared", labels=["classifier"]
        )
        for window in self._windows:
            found = window.measure()
            inputs.add_metric([window.name], len(window))
            if found is not None:
                drift.add_metric([window.name], found.value)
        yield drift
        yield inputs


class Metrics:
    """Counts requests, and what the engines report: it is their listener.

    Parameters
    ----------
    registry : CollectorRegistry, optional
        Where the metrics are registered; a new one by default.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._make_request_metrics()
        self._make_engine_metrics()

    def _make_request_metrics(self) -> None:
        def counter(name: str, text: str, labels: list[str]) -> Counter:
            return Counter(f"splinellm_{name}", text, labels, registry=self.registry)

        self._requests = counter("requests", "Requests answered", ["route", "status", "code"])
        self._rejected = counter("rejected", "Requests refused, by reason", ["reason"])
        self._truncated = counter("truncated_inputs", "Inputs that were cut", [])
        self._flagged = counter(
            "flagged_inputs", "Inputs that a classifier put a label on", ["classifier", "label"]
        )
        self._decided = counter(
            "decided_inputs",
            "Inputs of a cascade, by the classifier that decided, or person",
            ["classifier", "decided_by"],
        )
        self._durations = Histogram(
            "splinellm_request_duration_seconds",
            "From the first byte of a request to the last of its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._request_tokens = Histogram(
            "splinellm_request_tokens",
            "Tokens of a request that computed something",
            buckets=_TOKENS,
            registry=self.registry,
        )

    def _make_engine_metrics(self) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(
                f"splinellm_{name}", text, ["model"], buckets=buckets, registry=self.registry
            )

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"splinellm_{name}", text, ["model", *labels], registry=self.registry)

        self._queue_wait = histogram("queue_wait_seconds", "Wait of a prompt for a batch", _SECONDS)
        self._forward = histogram("forward_seconds", "Computation of a batch", _SECONDS)
        self._batch_inputs = histogram("batch_inputs", "Prompts of a batch", _INPUTS)
        self._batch_tokens = histogram("batch_tokens", "Padded tokens of a batch", _TOKENS)
        self._padding = histogram("batch_padding_ratio", "Padding's share of a batch", _RATIOS)
        self._inputs = counter("inputs", "Prompts computed")
        self._tokens = counter("tokens", "Tokens computed, padding left out")
        self._duplicates = counter("duplicate_inputs", "Prompts that shared another's computation")
        self._failed = counter("failed_inputs", "Prompts with an error, by its code", "code")
        self._retried = counter("retried_batches", "Batches computed prompt by prompt after all")
        self._dropped = counter("dropped_inputs", "Prompts whose client had gone")
        self._refused = counter("queue_refused", "Requests an engine refused", "reason")
        self._restarted = counter("engine_restarts", "Ends of an engine's thread that it survived")
        self._unanswered = counter("unanswered_inputs", "Prompts that the end came before")

    def request_done(self, route: str, status: int, record: RequestRecord) -> None:
        """Count an answered request; `route` is a template, never a path."""
        code = record.code or "ok"
        self._requests.labels(route, str(status), code).inc()
        self._durations.labels(route).observe(record.total_s)
        if status in _REFUSED:
            self._rejected.labels(code).inc()
        if record.n_tokens:
            self._request_tokens.observe(record.n_tokens)

    def inputs_truncated(self, count: int) -> None:
        """Count inputs that were cut."""
        self._truncated.inc(count)

    def input_flagged(self, classifier: str, label: str) -> None:
        """Count an input that a loaded classifier put one of its labels on."""
        self._flagged.labels(classifier, label).inc()

    def input_decided(self, classifier: str, decided_by: str) -> None:
        """Count who decided about an input of the cascade that begins with `classifier`."""
        self._decided.labels(classifier, decided_by).inc()

    # The engine's listener.

    def batch_done(self, engine: str, report: BatchReport) -> None:
        """Count a batch."""
        for wait_s in report.waits_s:
            self._queue_wait.labels(engine).observe(wait_s)
        self._forward.labels(engine).observe(report.inference_s)
        self._batch_inputs.labels(engine).observe(report.inputs)
        self._batch_tokens.labels(engine).observe(report.padded_tokens)
        if report.padded_tokens:
            self._padding.labels(engine).observe(1 - report.tokens / report.padded_tokens)
        self._inputs.labels(engine).inc(report.inputs)
        self._tokens.labels(engine).inc(report.tokens)
        self._duplicates.labels(engine).inc(report.inputs - report.distinct_inputs)
        for code in report.error_codes:
            self._failed.labels(engine, code).inc()

    def batch_retried(self, engine: str, inputs: int) -> None:
        """Count a batch that failed as a whole."""
        self._retried.labels(engine).inc()
        log_event("batch_retried", model=engine, inputs=inputs)

    def dropped(self, engine: str, inputs: int) -> None:
        """Count prompts that nobody waits for any more."""
        self._dropped.labels(engine).inc(inputs)

    def rejected(self, engine: str, reason: str, inputs: int) -> None:
        """Count a request that the engine refused."""
        del inputs  # a request is refused as a whole
        self._refused.labels(engine, reason).inc()

    def restarted(self, engine: str) -> None:
        """Count a thread that ended and was started anew."""
        self._restarted.labels(engine).inc()
        log_event("engine_restarted", model=engine)

    def stopped(self, engine: str, unanswered: int) -> None:
        """Count prompts that were still waiting at the end."""
        self._unanswered.labels(engine).inc(unanswered)
        log_event("engine_stopped", model=engine, unanswered=unanswered)

    # Gauges are read when Prometheus asks, so that they cannot drift.

    def watch_lifecycle(self, lifecycle: Lifecycle) -> None:
        """Show the version, the state of the service and how many requests are in it."""

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"splinellm_{name}", text, registry=self.registry)

        Info("splinellm_build", "Version", registry=self.registry).info({"version": __version__})
        gauge("ready", "Whether requests are taken").set_function(lambda: lifecycle.ready)
        gauge("requests_in_flight", "Requests being answered").set_function(
            lambda: lifecycle.in_flight
        )

    def watch_models(self, catalog: ModelCatalog) -> None:
        """Show what is loaded, and how long the queues are."""

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"splinellm_{name}", text, ["model"], registry=self.registry)

        models = [*map(catalog.get, catalog.names)]
        self.registry.register(_PrefixTokens(models))
        self.registry.register(_Drift(catalog.classifiers.values()))
        prefix_bytes = gauge("prefix_cache_bytes", "Memory of the cache of beginnings")
        for model in models:
            cache = model.prefix_cache
            if cache is not None:
                prefix_bytes.labels(model.name).set_function(partial(getattr, cache, "n_bytes"))
        queue_inputs = gauge("queue_inputs", "Prompts that wait for a batch")
        queue_tokens = gauge("queue_tokens", "Tokens that wait for a batch")
        ready = gauge("model_ready", "Whether a model answers")
        info = Info("splinellm_model", "Loaded models", ["model"], registry=self.registry)
        for model in models:
            engine = model.engine
            queue_inputs.labels(model.name).set_function(partial(getattr, engine, "queued_inputs"))
            queue_tokens.labels(model.name).set_function(partial(getattr, engine, "queued_tokens"))
            ready.labels(model.name).set_function(partial(getattr, engine, "answers"))
            provenance = model.provenance(model.plan())
            info.labels(model.name).info(
                {
                    "architecture": provenance.architecture,
                    "layers": str(model.n_layers),
                    "dtype": provenance.dtype,
                    "weights": provenance.weights_sha256[:16],
                }
            )
