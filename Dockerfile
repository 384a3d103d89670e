# One image for the API, the workers and the migrations; the command says which. docs/operations.md shows how to run it.
#
# A tag can be moved, a digest cannot. For production look the digest up once
# (`docker buildx imagetools inspect python:3.11.14-slim-bookworm`) and build with
#   --build-arg PYTHON_IMAGE=python:3.11.14-slim-bookworm@sha256:<digest>
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# `worker` is everything; `server` leaves litellm out, for an image that only serves the API or asks a LiteLLM proxy.
ARG REQUIREMENTS=worker
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# Only wheels, each with a hash that is in the file: what was published since, or in its place, is refused.
COPY requirements requirements
RUN python -m venv --without-pip /opt/prpm
RUN python -m pip --python /opt/prpm/bin/python install --quiet --no-deps --require-hashes --only-binary :all: \
    -r requirements/${REQUIREMENTS}.txt

# A package that wants to run at every start of Python ends the build. Asked by the image's own interpreter, as the
# new one would run it.
COPY deploy/check_start_hooks.py deploy/check_start_hooks.py
RUN python -I -S deploy/check_start_hooks.py /opt/prpm

COPY cli /opt/prpm/app/cli
COPY evals /opt/prpm/app/evals
COPY notifiers /opt/prpm/app/notifiers
COPY server /opt/prpm/app/server
COPY examples /opt/prpm/app/examples
RUN printf '%s\n' '#!/opt/prpm/bin/python' 'from server.operator.main import main' 'main()' > /opt/prpm/bin/prpm-testing \
    && chmod 755 /opt/prpm/bin/prpm-testing \
    && python -m compileall -q /opt/prpm/app

FROM ${PYTHON_IMAGE}
# Nothing that installs is left in the image.
RUN python -m pip uninstall --quiet --yes --root-user-action=ignore setuptools wheel pip
COPY --from=build /opt/prpm /opt/prpm
ENV PATH=/opt/prpm/bin:$PATH \
    PYTHONPATH=/opt/prpm/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    PRPM_HOST=0.0.0.0 \
    PRPM_PORT=8100
# A number, so that "not root" can be checked without the image's list of users. It owns no file of the image.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8100
STOPSIGNAL SIGTERM
# For the API. Workers serve nothing: compose.yaml switches it off for them; the API's /health/ready tells of them.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PRPM_PORT']), timeout=4); c.request('GET', '/health/live'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["prpm-testing"]
CMD ["api"]
