# SPDX-License-Identifier: Apache-2.0
# The slim frontend: no torch, no Triton, no GPU. It connects to the Triton at TRITON_URL.
#   docker build --target frontend -t fastapi-triton/frontend .
# The demo, with an embedded Triton and the demo checkpoint on the CPU:
#   docker build --target demo -t fastapi-triton-demo .

# 1. A small Python.
FROM python:3.11-slim AS frontend
RUN useradd --create-home --uid 1000 app \
    && install --directory --owner=app --mode=0700 /var/lib/fastapi-triton

# 2. The app's folder.
WORKDIR /app
ENV PYTHONUNBUFFERED=1

# 3. The pinned dependencies, in a layer that is rebuilt only when they change.
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt

# 4. The code. main.py comes last, because it changes most often.
COPY pyproject.toml README.md LICENSE ./
COPY scripts/bundle_hook.py scripts/
COPY src src
RUN pip install --no-cache-dir --no-deps --editable .
# The page's example scribbles.
COPY demo/examples demo/examples
COPY main.py ./

# 5. Serve. In a container, "localhost" is the container itself. Set the real address: -e TRITON_URL=http://triton:8000
USER app
ENV TRITON_URL=http://localhost:8000
# Background jobs. Mount a volume here to keep them.
ENV FASTAPI_TRITON_JOBS_FOLDER=/var/lib/fastapi-triton
# Only the endpoints that main.py declares. `true` adds POST /models/{name}/infer for every model.
ENV FASTAPI_TRITON_GENERATE=false
EXPOSE 8080
# /health/live, not ready: restarting the frontend would not repair Triton.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health/live', timeout=4)"]
CMD ["fastapi-triton", "serve", "--host", "0.0.0.0", "--port", "8080"]

# The demo: everything that `make run` has, in one container.
FROM frontend AS demo
USER root
COPY constraints.txt ./
# uv finds torch's CPU build, which has no gigabytes of CUDA.
ARG UV_OPTIONS=--torch-backend=cpu
RUN pip install --no-cache-dir uv \
    && uv pip install --system --no-cache --compile-bytecode $UV_OPTIONS \
        --constraints constraints.txt --editable '.[embedded]' \
    && pip uninstall --yes uv
COPY models models
USER app
ENV FASTAPI_TRITON_GENERATE=true
CMD ["fastapi-triton", "serve", "--embedded", "--host", "0.0.0.0", "--port", "8080"]

# The default is the frontend. Old builders also make the stages above it, unless you name your target.
FROM frontend
