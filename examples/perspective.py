"""A client of the Perspective API, with another address. Start the service first: splinellm serve.

Google's client library works, too: `googleapiclient.discovery.build` with `discoveryServiceUrl` set
to `$URL/$discovery/rest?version=v1alpha1`. Here is what it sends, without a library.
"""

from __future__ import annotations

import json
import os
import urllib.request


def main() -> None:
    """Score a comment and each of its sentences."""
    text = "Thank you for your answer. You are an idiot, though!"
    body = {
        "comment": {"text": text},
        "requestedAttributes": {"TOXICITY": {}, "INSULT": {"scoreThreshold": 0.3}},
        "languages": ["en"],
        "spanAnnotations": True,
        "doNotStore": True,
    }
    url = os.environ.get("URL", "http://127.0.0.1:8000")
    request = urllib.request.Request(  # noqa: S310 - the address is the user's own
        f"{url}/v1alpha1/comments:analyze?key={os.environ.get('KEY', '')}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        scores = json.load(answer)["attributeScores"]
    for attribute, found in scores.items():
        print(f"{attribute}: {found['summaryScore']['value']:.2f}")
        for span in found["spanScores"]:
            print(f"  {span['score']['value']:.2f} {text[span['begin'] : span['end']]!r}")


if __name__ == "__main__":
    main()
