# One image for every process: `riskbeat featurize | learn | serve | replay …`.
# torch has a layer of its own; TORCH_BACKEND=cpu (or cu128 …) takes another build of it than the
# package index's, which carries CUDA and is about 5 GB.

FROM python:3.11-slim AS tools
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/uv && /opt/uv/bin/pip install --disable-pip-version-check uv==0.13.8

FROM tools AS wheel
WORKDIR /src
COPY pyproject.toml README.md ./
COPY api api
COPY features features
COPY models models
COPY pipeline pipeline
COPY riskbeat riskbeat
RUN --mount=type=cache,target=/root/.cache/uv /opt/uv/bin/uv build --wheel --out-dir /wheels

FROM python:3.11-slim AS runtime
ARG TORCH_BACKEND=
# Bytecode is made here: nothing can be written later, and to compile torch and scipy at each start
# is half of what a start costs.
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH
RUN --mount=from=tools,source=/opt/uv,target=/opt/uv --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    python -m venv --without-pip /opt/venv \
 && /opt/uv/bin/uv pip install -c /constraints.txt ${TORCH_BACKEND:+--torch-backend=$TORCH_BACKEND} torch
RUN --mount=from=tools,source=/opt/uv,target=/opt/uv --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=bind,source=pyproject.toml,target=/pyproject.toml \
    /opt/uv/bin/uv pip install -c /constraints.txt -r /pyproject.toml
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/riskbeat riskbeat \
 && install -d -o riskbeat /var/lib/riskbeat /var/lib/riskbeat-public /var/cache/riskbeat
WORKDIR /app
COPY features.yaml features_handbook.yaml policy.yaml ./
RUN --mount=from=tools,source=/opt/uv,target=/opt/uv --mount=from=wheel,source=/wheels,target=/wheels \
    /opt/uv/bin/uv pip install --no-deps /wheels/*.whl
USER riskbeat
ENV NUMBA_CACHE_DIR=/var/cache/riskbeat PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    RISKBEAT_DATA_DIR=/var/lib/riskbeat \
    RISKBEAT_SIGNING_KEY_PATH=/var/lib/riskbeat/keys/signing.pem \
    RISKBEAT_PUBLIC_KEY_PATHS='["/var/lib/riskbeat-public/public.pem"]'
RUN riskbeat warm --spec features.yaml
ENTRYPOINT ["riskbeat"]
CMD ["--help"]
