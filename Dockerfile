# The service, or any other command, on a CPU. No network is needed to run it.
#
# Models in the image:    docker build -t splinellm .
# Model mounted:          docker build --build-arg MODEL= -t splinellm .
#                         docker run -v /srv/models/mine:/models/mine:ro -e SPLINELLM_MODEL=/models/mine ...
# Serve, hardened:        docker run --read-only --tmpfs /tmp --cap-drop ALL -p 8000:8000 splinellm
# Another command:        docker run --rm -i splinellm extract - -o - < prompts.jsonl
FROM python:3.11-slim AS build

WORKDIR /src
RUN python -m venv /opt/splinellm
ENV PATH=/opt/splinellm/bin:$PATH
# Dependencies first: they change less often than the code. TORCH_INDEX may name a package index
# with CPU-only builds of torch, which are several gigabytes smaller.
ARG TORCH_INDEX=""
COPY constraints.txt ./
RUN pip install --no-cache-dir --constraint constraints.txt \
    ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY pyproject.toml README.md LICENSE ./
COPY splinellm ./splinellm
COPY service ./service
RUN pip install --no-cache-dir --constraint constraints.txt '.[service]'

# Models that are fetched while the image is built: those that the boxed classifiers read. Reading
# one once leaves its converted copy and the hash of its weights in the cache, which cannot be
# written to later.
ARG MODEL="smollm2-135m minilm-l6"
ENV SPLINELLM_CACHE=/opt/models
RUN mkdir -p /opt/models && for model in $MODEL; do \
    splinellm models pull "$model" \
    && echo warm | splinellm extract - --input-format txt --model "$model" -o - > /dev/null \
    || exit 1; done

FROM python:3.11-slim

# A fixed id, so that mounted files can be given to it; no shell, no home of its own.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin splinellm
COPY --from=build /opt/splinellm /opt/splinellm
COPY --from=build --chown=splinellm:splinellm /opt/models /opt/models
ENV PATH=/opt/splinellm/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SPLINELLM_CACHE=/opt/models \
    SPLINELLM_OFFLINE=1 \
    HF_HUB_OFFLINE=1 \
    SPLINELLM_HOST=0.0.0.0 \
    SPLINELLM_PORT=8000
USER splinellm
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
# Of the service at the port of the environment; other commands end before it matters.
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 CMD ["python", "-c", "\
import os, urllib.request as u; \
u.urlopen(f'http://127.0.0.1:{os.environ[\"SPLINELLM_PORT\"]}/readyz', timeout=4)"]
ENTRYPOINT ["splinellm"]
CMD ["serve"]
