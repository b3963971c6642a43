# SPDX-License-Identifier: Apache-2.0
"""The cluster benchmarks import Ray, which only `make test-cluster` installs."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("ray") else ["test_cluster_figures.py"]
