# SPDX-License-Identifier: Apache-2.0
"""A cluster with stand-ins for Tritons: what it carries, and what callers see while nodes die. Needs the extra
`cluster`."""
