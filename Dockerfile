# SPDX-License-Identifier: Apache-2.0
# The slim frontend: no torch, no Triton, no GPU. It talks to the Triton that TRITON_URL names.

# 1. A small Python.
FROM python:3.11-slim
RUN useradd --create-home --uid 1000 app \
    && install --directory --owner=app --mode=0700 /var/lib/fastapi-triton

# 2. Where the app lives.
WORKDIR /app
ENV PYTHONUNBUFFERED=1

# 3. The pinned dependencies: a layer that changes only with them.
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt

# 4. The code. main.py comes last: it is the file that people edit.
COPY pyproject.toml README.md LICENSE ./
COPY scripts/bundle_hook.py scripts/
COPY src src
RUN pip install --no-cache-dir --no-deps --editable .
COPY main.py ./

# 5. Serve. In a container "localhost" is the container, so give the real address: -e TRITON_URL=http://triton:8000
USER app
ENV TRITON_URL=http://localhost:8000
# Background jobs: a volume here outlasts the container.
ENV FASTAPI_TRITON_JOBS_FOLDER=/var/lib/fastapi-triton
EXPOSE 8080
# Live, not ready: restarting the frontend would not make Triton ready.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health/live', timeout=4)"]
# With our limits on slow callers and our end; the app knows itself which proxies to believe.
CMD ["uvicorn", "main:app", "--http", "fastapi_triton.serving.http_protocol:Protocol", "--no-proxy-headers", \
     "--host", "0.0.0.0", "--port", "8080"]
