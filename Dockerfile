# The service in a container: gunicorn with this project's gunicorn.conf.py, as a user without rights or a shell.
#
#   docker build --tag inference-relay .
#   docker run --rm --env-file settings.env --publish 8080:8080 inference-relay
#   docker run --rm --env-file settings.env inference-relay inference-relay check --model my-model
#
# /app/sbom.cdx.json in the image is its software bill of materials (CycloneDX).

# --- The service and what it needs, with the extras gs (Cloud Storage) and traces, each loaded where it is set, and no other:
# the very files that requirements/ names by their hashes, with which it was tested. And the list of what they are.
FROM python:3.13-slim-trixie AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never

WORKDIR /src
COPY requirements requirements
# pip brings uv, which installs and compiles the rest in a fraction of the time.
RUN python -m venv --without-pip /opt/tools \
    && python -m pip --python /opt/tools/bin/python install --no-deps --require-hashes --requirement requirements/uv.txt \
    && /opt/tools/bin/uv pip install --python /opt/tools/bin/python --require-hashes --requirement requirements/build.txt
RUN python -m venv --without-pip /opt/relay \
    && /opt/tools/bin/uv pip install --python /opt/relay/bin/python --compile-bytecode --require-hashes \
        --requirement requirements/service.txt

COPY pyproject.toml README.md LICENSE ./
COPY handler handler
RUN /opt/tools/bin/uv build --python /opt/tools/bin/python --no-build-isolation --wheel --out-dir /wheels . \
    && /opt/tools/bin/uv pip install --python /opt/relay/bin/python --compile-bytecode --no-deps /wheels/*.whl \
    && /opt/tools/bin/uv pip check --python /opt/relay/bin/python \
    && rm -f /opt/relay/.lock

RUN /opt/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
        --output-file /sbom.cdx.json /opt/relay/bin/python

# --- What runs. The stand-ins of handler/local are for laptops: an image that has them is not built.
FROM python:3.13-slim-trixie AS service

# Version and revision come from the builder, which knows them: see cloudbuild.yaml.
LABEL org.opencontainers.image.title="inference-relay" \
      org.opencontainers.image.description="A serverless Pub/Sub push handler that calls an OpenAI-compatible model service and publishes its answers" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY --from=build /opt/relay /opt/relay
RUN python -m pip uninstall --yes --root-user-action=ignore pip \
    && /opt/relay/bin/python -c "import handler, importlib.util as u; assert not u.find_spec('handler.local')"

WORKDIR /app
COPY --from=build /sbom.cdx.json ./
COPY main.py gunicorn.conf.py ./

ENV PATH=/opt/relay/bin:$PATH \
    PORT=8080 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM

# For Docker alone: Cloud Run and Knative have probes of their own and do not read this.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/health/live', timeout=4)"]

CMD ["gunicorn", "-c", "gunicorn.conf.py", "functions_framework:create_app(\"handle\",\"main.py\")"]
