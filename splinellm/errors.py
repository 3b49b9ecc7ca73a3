"""Typed errors: a stable code, what was wrong, which value, what to do.

Every error that reaches a user of the library is a :class:`SplineLLMError`. The ``code`` never
changes once released (the service maps codes to HTTP status, scripts match on them); the message
may. No message ever contains the text of a prompt.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Self

__all__ = [
    "AlignmentWarning",
    "ArtifactError",
    "AttentionUnavailableError",
    "ChatTemplateError",
    "ClassifierNotFoundError",
    "ConfigurationError",
    "ConversationError",
    "InputFileError",
    "IntegrityError",
    "LabelError",
    "ModelLoadError",
    "ModelNotFoundError",
    "NonFiniteFeaturesError",
    "NothingRecordedError",
    "OfflineError",
    "OutOfMemoryError",
    "OutputError",
    "PrecisionWarning",
    "PrefixUnavailableError",
    "PromptError",
    "RegionLimitError",
    "ResumeError",
    "RowError",
    "SchemaError",
    "SplineLLMError",
    "TableFormatError",
    "UnsupportedArchitectureError",
    "VerificationError",
]

LATER = "a later splinellm may have made it: update this one"
"""What to do about a file that holds what is not known here: left out, its numbers would differ."""


class SplineLLMError(Exception):
    """Base of all errors raised on purpose by this library.

    Parameters
    ----------
    message : str
        What was wrong and with which value, in one line.
    hint : str, optional
        What to do about it.

    Attributes
    ----------
    code : str
        Stable, machine-readable name of the kind of error.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Python's own would call the class with the message alone, which some cannot be made of.
        return _unpickled, (type(self), self.args, self.__dict__)


def _unpickled(
    kind: type[SplineLLMError], args: tuple[object, ...], state: dict[str, object]
) -> SplineLLMError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class ConfigurationError(SplineLLMError):
    """An option has a value that cannot work."""

    code = "invalid_configuration"


class AlignmentWarning(UserWarning):
    """Layers or features that only one of two tables has were left out."""


class PrecisionWarning(UserWarning):
    """Distances, or complexities of small radii, were asked for in a dtype too coarse for them."""


class SchemaError(SplineLLMError):
    """A feature or layer was asked for that does not exist, or two schemas do not match."""

    code = "invalid_schema"


class PromptError(SplineLLMError):
    """One prompt cannot be read: not text, empty, or not valid Unicode.

    Parameters
    ----------
    message : str
        What is wrong with the prompt; never its text.
    index : int, optional
        Position of the prompt among those given.
    hint : str, optional
        What to do about it.
    """

    code = "invalid_prompt"

    def __init__(self, message: str, *, index: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.index = index

    def at(self, index: int) -> Self:
        """The same error of the prompt at another position; prompts may share what went wrong."""
        error = copy.copy(self)
        error.index = index
        return error

    def __str__(self) -> str:
        where = "" if self.index is None else f"prompt {self.index}: "
        return where + super().__str__()


class ConversationError(PromptError):
    """A conversation cannot be read.

    Parameters
    ----------
    message : str
        What is wrong with it, behind `place`; never its text.
    place : str
        Of the culprit in the conversation, as ``messages[1].role``.
    index, hint
        See :class:`PromptError`.
    """

    code = "invalid_conversation"

    def __init__(
        self,
        message: str,
        *,
        place: str = "messages",
        index: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(f"{place} {message}", index=index, hint=hint)
        self.place = place


class ChatTemplateError(PromptError):
    """A conversation cannot be rendered: there is no chat template, or it refuses this one."""

    code = "chat_template"


class NonFiniteFeaturesError(PromptError):
    """The forward pass overflowed on this prompt (float16 does); no NaN leaves the library."""

    code = "non_finite_features"

    @classmethod
    def after_pass_in(cls, dtype: str, *, index: int | None = None) -> Self:
        """Make one that says what helps: another dtype does in float16 alone."""
        if dtype == "float16":
            return cls(
                f"the forward pass in {dtype} overflowed",
                index=index,
                hint="use float32 or bfloat16",
            )
        return cls(
            f"a number is not finite after the forward pass in {dtype}",
            index=index,
            hint="look for weights that are not finite, or zero in all of a gate's rows",
        )


class OutOfRangeError(PromptError):
    """A feature of this prompt is too large for the precision that features are kept in."""

    code = "out_of_range"


class OutOfMemoryError(PromptError):
    """A single prompt does not fit the device's memory, even in a batch of its own."""

    code = "out_of_memory"


class ModelNotFoundError(SplineLLMError):
    """No model goes by this name, and no folder or file is there."""

    code = "model_not_found"


class ModelLoadError(SplineLLMError):
    """The model was found but could not be loaded."""

    code = "model_load_failed"


class OfflineError(SplineLLMError):
    """The model is not cached and downloading is switched off."""

    code = "offline"


class IntegrityError(SplineLLMError):
    """A file's hash is not the expected one."""

    code = "integrity"


class UnsupportedArchitectureError(SplineLLMError):
    """The model's architecture is not among the supported ones."""

    code = "unsupported_architecture"


class AttentionUnavailableError(SplineLLMError):
    """The model's attention cannot be observed, so the intrinsic dimension cannot be computed."""

    code = "attention_unavailable"


class PrefixUnavailableError(SplineLLMError):
    """The model's tokens see what comes after them: no pass shows a text's beginning alone."""

    code = "prefix_unavailable"


class NothingRecordedError(SplineLLMError):
    """A model was attached to, but has read nothing that could be recorded."""

    code = "nothing_recorded"


class RegionLimitError(SplineLLMError):
    """A network has more regions than were asked for at most; those that were given are a part."""

    code = "region_limit"


class VerificationError(SplineLLMError):
    """Fast and plain computation of the same features disagree."""

    code = "verification_failed"


class TableFormatError(SplineLLMError):
    """A file or frame does not hold a feature table, or not one of this version."""

    code = "invalid_table"


class LabelError(SplineLLMError):
    """A label is missing or unusable, or a class has too few rows to learn from."""

    code = "invalid_label"


class ArtifactError(SplineLLMError):
    """A classifier folder is damaged, foreign, or made for something else."""

    code = "invalid_classifier"


class ClassifierNotFoundError(SplineLLMError):
    """No classifier goes by this name, and no folder is there."""

    code = "classifier_not_found"


class InputFileError(SplineLLMError):
    """An input file is missing, unreadable or of an unknown format."""

    code = "invalid_input_file"


class OutputError(SplineLLMError):
    """The output cannot be written."""

    code = "output_failed"


class ResumeError(SplineLLMError):
    """What an earlier run left beside the output is in the way, or none to go on with."""

    code = "cannot_resume"


class InUseError(ResumeError):
    """Another process is writing the output, or has written it until a moment ago."""


class ClusterError(SplineLLMError):
    """A Ray cluster cannot be reached, cannot do the work, or lost it more than once."""

    code = "cluster_failed"


class RowError(SplineLLMError):
    """One row of an input file is bad.

    Parameters
    ----------
    message : str
        What is wrong with the row; never its text.
    source : str
        Name of the file.
    row : int
        Number of the row in the file, from 1, the header not counted.
    reason_code : str, optional
        Code of the underlying error.
    """

    code = "bad_row"

    def __init__(
        self, message: str, *, source: str, row: int, reason_code: str | None = None
    ) -> None:
        super().__init__(
            message, hint="--on-error skip writes such rows to a rejects file and goes on"
        )
        self.source = source
        self.row = row
        self.reason_code = reason_code or self.code

    def __str__(self) -> str:
        return f"{self.source}: row {self.row}: {super().__str__()}"
