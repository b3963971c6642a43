# SPDX-License-Identifier: Apache-2.0
"""Running the app as a server: sockets, the HTTP protocol, worker processes."""
