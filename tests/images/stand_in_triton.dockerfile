# SPDX-License-Identifier: Apache-2.0
# A stand-in for NVIDIA's image of Triton: its paths, user, entrypoint and programs. Triton and torch are the demo's,
# without the packages that deploy/triton/Dockerfile installs.
FROM fastapi-triton-demo
USER root
WORKDIR /opt/tritonserver
COPY deploy/triton/requirements.txt /tmp/
RUN sed -E 's/==.*//; /^(#|torch$|numpy$)/d' /tmp/requirements.txt | xargs pip uninstall --yes fastapi-triton \
    && usermod --login triton-server app \
    && package="$(python -c 'import importlib.util; print(importlib.util.find_spec("pytriton").submodule_search_locations[0])')" \
    && mkdir -p /opt/nvidia bin \
    && cp -r "$package/tritonserver/backends" . \
    && cp "$package/tritonserver/python_backend_stubs/3.11/triton_python_backend_stub" backends/python/ \
    && printf '#!/bin/bash\nexport LD_LIBRARY_PATH=%s\nexec %s --backend-directory=/opt/tritonserver/backends "$@"\n' \
        "$(dirname "$package")/nvidia_pytriton.libs" "$package/tritonserver/bin/tritonserver" >bin/tritonserver \
    && printf '#!/bin/bash\nexec "$@"\n' >/opt/nvidia/nvidia_entrypoint.sh \
    && chmod +x bin/tritonserver /opt/nvidia/nvidia_entrypoint.sh
ENV PATH=/opt/tritonserver/bin:$PATH
ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh"]
