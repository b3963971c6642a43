# SPDX-License-Identifier: Apache-2.0
"""How many replicas a load needs, and what callers then see: a model, and a simulation and measurements to check it."""
