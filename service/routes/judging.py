"""Verdicts on the inputs of a request, by one classifier or several, or by a cascade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from service.errors import InvalidRequestError, SpansUnavailableError
from service.inputs import Inputs, blame
from service.pieces import TokenReading
from service.reading import Overflow, Reading
from service.scoring import ScoringPlan
from service.verdicts import Extent, Pass, ServedClassifier, Verdict, passes
from splinellm.conversations import Count, is_conversation
from splinellm.errors import PromptError
from splinellm.extraction.rows import Rows
from splinellm.learn.cascade import PERSON
from splinellm.learn.pooled import Judged

if TYPE_CHECKING:
    from service.cascades import Cascade
    from service.models import ModelCatalog
    from service.routes.call import Call
    from service.settings import Settings


@dataclass(frozen=True)
class Judgement:
    """Verdicts of several classifiers on the inputs of a request.

    Parameters
    ----------
    verdicts : dict of str to list of Verdict
        By name of the classifier, which may be the first of a cascade; one per input.
    n_tokens : int
        Tokens that were read in all.
    """

    verdicts: dict[str, list[Verdict]]
    n_tokens: int

    @property
    def usage(self) -> dict[str, int]:
        """OpenAI's usage object."""
        return {"prompt_tokens": self.n_tokens, "total_tokens": self.n_tokens}


def tells_spans(catalog: ModelCatalog, classifier: ServedClassifier) -> bool:
    """Whether a classifier, or every step of its cascade, says where in a text a class is."""
    cascade = catalog.cascades.get(classifier.name)
    return classifier.pooled is not None if cascade is None else cascade.tells_spans


def require_spans(catalog: ModelCatalog, classifier: ServedClassifier) -> None:
    """Refuse to make up places.

    Raises
    ------
    SpansUnavailableError
        The classifier reads a text as a whole; names those that do not.
    """
    if not tells_spans(catalog, classifier):
        able = [name for name, one in catalog.classifiers.items() if tells_spans(catalog, one)]
        raise SpansUnavailableError(
            f"classifier '{classifier.name}' cannot say where in a text a class is",
            param="spans",
            hint=f"these can: {', '.join(able)}" if able else "none that is loaded can",
        )


def whole(settings: Settings) -> Overflow:
    """What formats that have no way to ask for it do with long texts: all is read.

    Unless the operator wants texts cut.
    """
    return "truncate" if settings.overflow == "truncate" else "window"


async def judge(
    call: Call,
    classifiers: Sequence[ServedClassifier],
    inputs: Inputs,
    overflow: Overflow | None,
    *,
    grows: bool = False,
    count: Count | None = None,
) -> Judgement:
    """Let classifiers judge inputs, in as few forward passes as possible.

    Of a classifier that is the first of a cascade, the verdicts are the cascade's. Windows of texts
    that grow stay where they are; see :func:`service.reading.window_places`. Who pools scores of
    windows reads what is said in conversations, of whom `count` says.
    """
    judging = _Judging(call, overflow or call.settings.overflow, grows=grows, count=count or "all")
    verdicts = await judging.judge(classifiers, inputs)
    for classifier in classifiers:
        name = classifier.name
        cascade = call.catalog.cascades.get(name)
        if cascade is not None:
            if classifier is not call.catalog.classifiers.get(name):  # the request's thresholds
                limits = classifier.card.thresholds
                steps = tuple(step.with_threshold(limits) for step in cascade.steps)
                cascade = replace(cascade, steps=steps)
            verdicts[name] = await judging.escalate(cascade, verdicts[name], inputs)
            for verdict in verdicts[name]:
                call.metrics.input_decided(name, verdict.decided_by or name)
        for verdict in verdicts[name]:
            for label in verdict.labels:
                if label != classifier.harmless:
                    call.metrics.input_flagged(name, label)
    return Judgement(verdicts, judging.n_tokens)


class _Judging:
    """What is the same for all classifiers of a request, and how much they have read."""

    def __init__(self, call: Call, overflow: Overflow, *, grows: bool, count: Count) -> None:
        self._call = call
        self._overflow = overflow
        self._grows = grows
        self._count = count
        # A text that grows is judged again and again: its beginnings are no texts of their own.
        self._is_watched = not grows
        self.n_tokens = 0

    async def judge(
        self, classifiers: Sequence[ServedClassifier], inputs: Inputs
    ) -> dict[str, list[Verdict]]:
        verdicts: dict[str, list[Verdict]] = {}
        for one in passes(classifiers):
            how = self._pieces if isinstance(one.plan, ScoringPlan) else self._windows
            reading, found = await how(one, inputs)
            for classifier in one.classifiers:
                self._call.catalog.lengths.note(classifier.card, reading.n_tokens)
            extents = map(Extent, reading.n_tokens, reading.truncated, reading.n_windows)
            for extent, *of_input in zip(extents, *found.values(), strict=True):
                for name, verdict in zip(found, of_input, strict=True):
                    verdicts.setdefault(name, []).append(replace(verdict, extent=extent))
            self.n_tokens += sum(reading.n_tokens)
        return verdicts

    async def escalate(
        self, cascade: Cascade, verdicts: Sequence[Verdict], inputs: Inputs
    ) -> list[Verdict]:
        """Let each step read what the one before is uncertain of."""
        last, *others = cascade.steps
        decided = [replace(verdict, decided_by=last.name) for verdict in verdicts]
        is_open = [i for i, verdict in enumerate(decided) if cascade.is_open(0, verdict)]
        for place, step in enumerate(others, 1):
            if not is_open:
                break
            found = (await self.judge([step], inputs.at(is_open)))[step.name]
            for i, verdict in zip(is_open, found, strict=True):
                decided[i] = replace(verdict, decided_by=step.name)
            is_open = [i for i in is_open if cascade.is_open(place, decided[i])]
        for i in is_open:  # nobody has decided: no class is said to be there
            decided[i] = replace(decided[i], label=None, labels=[], decided_by=PERSON)
        return decided

    async def _windows(self, one: Pass, inputs: Inputs) -> tuple[Reading, dict[str, list[Verdict]]]:
        """By features of overlapping windows, of which the worst decides."""
        call = self._call
        _require_template(one.classifiers, inputs)
        reading = await call.read(
            inputs,
            one.model,
            one.plan,
            overflow=self._overflow,
            in_windows=True,
            grows=self._grows,
            prepare=one.card.as_read,
        )
        table = await call.features(one.model, one.plan, reading)
        return reading, {
            classifier.name: await call.in_pool(
                classifier.verdicts, table, reading.owners, is_watched=self._is_watched
            )
            for classifier in one.classifiers
        }

    async def _pieces(self, one: Pass, inputs: Inputs) -> tuple[Reading, dict[str, list[Verdict]]]:
        """By scores of tokens, which each classifier pools as it was trained to."""
        call = self._call
        inputs = inputs.said(self._count)
        reading = await call.read_pieces(inputs, one, overflow=self._overflow)
        rows = await call.rows(one.model, one.plan, reading)
        return reading, {
            classifier.name: await call.in_pool(
                _pooled, classifier, one, reading, rows, inputs, is_watched=self._is_watched
            )
            for classifier in one.classifiers
        }


def _require_template(classifiers: Sequence[ServedClassifier], inputs: Inputs) -> None:
    """Refuse conversations that are rendered otherwise than when a classifier was trained."""
    chats = [i for i, prompt in enumerate(inputs.prompts) if is_conversation(prompt)]
    for one in classifiers if chats else ():
        if not one.knows_template:
            raise InvalidRequestError(
                f"classifier '{one.name}' was trained with another chat template than this server "
                "has, and reads texts alone",
                param=inputs.names[chats[0]],
                hint="the operator can give the template of then: chat_template",
            )


def _pooled(
    classifier: ServedClassifier,
    one: Pass,
    reading: TokenReading,
    rows: dict[int, Rows],
    inputs: Inputs,
    *,
    is_watched: bool,
) -> list[Verdict]:
    pooled, plan = classifier.pooled, one.plan
    assert pooled is not None  # noqa: S101 (the pass is of such)
    assert isinstance(plan, ScoringPlan)  # noqa: S101
    judged: list[Judged] = []
    tokens = reading.scores(rows, plan, pooled)
    for prompt, name, of_input in zip(inputs.prompts, inputs.names, tokens, strict=True):
        found = pooled.judged(of_input, prompt)
        if isinstance(found, PromptError):
            raise blame(found, name)
        judged.append(found)
    return classifier.verdicts_of(judged, is_watched=is_watched)
