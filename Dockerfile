# The service in a container: gunicorn with this project's gunicorn.conf.py, as a user without rights or a shell.
#
#   docker build --tag inference-relay .
#   docker run --rm --env-file settings.env --publish 8080:8080 inference-relay
#   docker run --rm --env-file settings.env inference-relay inference-relay check --model my-model
#
# /app/sbom.cdx.json in the image is its software bill of materials (CycloneDX).

# --- Wheels of the service and of what it needs, without the extras; and the list of what they are.
FROM python:3.13-slim-trixie AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY handler handler
RUN python -m pip wheel --wheel-dir /wheels . \
    && python -m venv --without-pip /opt/relay \
    && python -m pip --python /opt/relay/bin/python install --no-index --find-links /wheels --compile inference-relay

RUN python -m venv --without-pip /opt/sbom \
    && python -m pip --python /opt/sbom/bin/python install cyclonedx-bom==7.5.0 \
    && /opt/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
        --output-file /sbom.cdx.json /opt/relay/bin/python

# --- What runs. The stand-ins of handler/local are for laptops: an image that has them is not built.
FROM python:3.13-slim-trixie AS service

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
