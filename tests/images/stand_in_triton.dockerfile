# SPDX-License-Identifier: Apache-2.0
# A stand-in for NVIDIA's image of Triton: its paths, user, entrypoint and programs, with the Triton of a Python wheel.
FROM python:3.11-slim
COPY constraints.txt /tmp/
ARG UV_OPTIONS=--torch-backend=cpu
# torch's CPU build, so that the image does not fetch CUDA.
RUN pip install --no-cache-dir uv \
    && uv pip install --system --no-cache --compile-bytecode $UV_OPTIONS --constraints /tmp/constraints.txt torch numpy \
    && uv pip install --system --no-cache --constraints /tmp/constraints.txt --no-deps nvidia-pytriton
RUN useradd --uid 1000 --create-home triton-server \
    && package="$(python -c 'import importlib.util; print(importlib.util.find_spec("pytriton").submodule_search_locations[0])')" \
    && mkdir -p /opt/nvidia /opt/tritonserver/bin \
    && cp -r "$package/tritonserver/backends" /opt/tritonserver/ \
    && cp "$package/tritonserver/python_backend_stubs/3.11/triton_python_backend_stub" /opt/tritonserver/backends/python/ \
    && printf '#!/bin/bash\nexport LD_LIBRARY_PATH=%s\nexec %s --backend-directory=/opt/tritonserver/backends "$@"\n' \
        "$(dirname "$package")/nvidia_pytriton.libs" "$package/tritonserver/bin/tritonserver" >/opt/tritonserver/bin/tritonserver \
    && printf '#!/bin/bash\nexec "$@"\n' >/opt/nvidia/nvidia_entrypoint.sh \
    && chmod +x /opt/tritonserver/bin/tritonserver /opt/nvidia/nvidia_entrypoint.sh
ENV PATH=/opt/tritonserver/bin:$PATH
ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh"]
