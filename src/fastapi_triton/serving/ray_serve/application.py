# SPDX-License-Identifier: Apache-2.0
"""The Ray Serve application. In a Serve config: `import_path: fastapi_triton.serving.ray_serve.application:build`."""

from ray import serve

from fastapi_triton.serving.ray_serve import frontend, replica
from fastapi_triton.serving.ray_serve.options import ClusterOptions


def build(options: ClusterOptions) -> serve.Application:
    """The application: frontends in front of Tritons. Ray Serve validates `args` of its config file as options."""
    return frontend.deployment(options, replica.deployment(options, lease_limit_s=options.lease_limit_s))
