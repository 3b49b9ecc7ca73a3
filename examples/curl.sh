#!/bin/sh
# Every route, with curl. Start the service first: splinellm serve
# With keys: KEY=... examples/curl.sh
set -eu

URL=${URL:-http://127.0.0.1:8000}

ask() {
    path=$1
    shift
    echo "$path"
    curl --silent --show-error --fail-with-body ${KEY:+--header "Authorization: Bearer $KEY"} \
        --header 'Content-Type: application/json' "$@" "$URL$path"
    echo
}

ask /v1/models
ask /v1/classifiers/toxicity
ask /v1/tokenize --data '{"input": "The capital of France is Paris."}'
ask /v1/features --data '{"input": ["The capital of France is", "2 + 2 ="], "layers": "0-1"}'
ask /v1/classify --data '{"input": "You are an idiot.", "classifier": "toxicity"}'
ask /v1/embeddings --data '{"input": "The capital of France is", "layers": 7}'
ask /v1/moderations --data '{"input": "You are an idiot."}'
ask /v1alpha1/comments:analyze --data '{
    "comment": {"text": "You are an idiot. Thank you."},
    "requestedAttributes": {"TOXICITY": {}, "INSULT": {"scoreThreshold": 0.5}},
    "languages": ["en"], "spanAnnotations": true}'

# The same rows as an Arrow stream, for pyarrow, pandas, polars or DuckDB.
ask /v1/features --header 'Accept: application/vnd.apache.arrow.stream' \
    --data '{"input": "The capital of France is"}' --output features.arrows
