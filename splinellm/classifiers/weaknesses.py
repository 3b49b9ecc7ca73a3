"""What the boxed classifiers are known to get wrong; goes into their cards."""

from __future__ import annotations

WEAKNESSES: dict[str, tuple[str, ...]] = {
    "toxicity": (),
    "toxicity-types": (),
    "domain": (),
}
