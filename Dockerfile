# CPU image of the command line. Build: docker build -t splinellm .
# Run:   docker run --rm -i -v splinellm-cache:/cache splinellm extract - -o - < prompts.jsonl
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
RUN pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.11-slim

# A fixed id, so that a mounted cache can be given to it; no shell, no home of its own.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin splinellm \
    && install -d -o splinellm -g splinellm /cache
COPY --from=build /opt/splinellm /opt/splinellm
ENV PATH=/opt/splinellm/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SPLINELLM_CACHE=/cache
USER splinellm
VOLUME /cache
WORKDIR /cache
HEALTHCHECK --interval=30s --timeout=10s CMD ["splinellm", "--version"]
ENTRYPOINT ["splinellm"]
CMD ["--help"]
