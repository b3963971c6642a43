# SPDX-License-Identifier: Apache-2.0
"""More than one machine: the frontend and its Tritons as a Ray Serve application. Needs the extra `cluster`."""
